"""The services' configuration: complete, of one mind, and with each secret only where it is needed."""

from __future__ import annotations

import configparser

import pytest

from tests.lab.openstack.inside.config import PORTS, SECRETS, SERVICE_TYPES, Cloud, files, render

CLOUD = Cloud(
    network="198.18.77.0/24",
    gateway="198.18.77.1",
    address="198.18.77.2",
    floating=("198.18.77.10", "198.18.77.200"),
    secrets={name: f"secret-of-{name}" for name in SECRETS},
)


def parse(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True, default_section="")
    parser.read_string(files(CLOUD)[name])
    return parser


def test_sections_and_values_are_written_as_oslo_config_reads_them() -> None:
    assert render({"DEFAULT": {"a": 1, "b": "x"}, "other": {}}) == "[DEFAULT]\na = 1\nb = x\n\n[other]\n"


@pytest.mark.parametrize("name", [name for name in files(CLOUD) if name.endswith((".conf", ".ini"))])
def test_every_file_can_be_parsed(name: str) -> None:
    if name != "rabbitmq.conf":
        assert parse(name).sections()


def test_no_file_has_a_secret_that_it_does_not_need() -> None:
    has = {
        name: {secret for secret in SECRETS if CLOUD.secrets[secret] in text}
        for name, text in files(CLOUD).items()
    }
    assert {name: secrets for name, secrets in has.items() if secrets} == {
        "placement.conf": {"service"},
        "glance.conf": {"service"},
        "nova.conf": {"service", "metadata", "rabbit"},
        "nova-compute.conf": {"service", "metadata", "rabbit"},
        "neutron.conf": {"service", "rabbit"},
        "metadata.ini": {"metadata"},
        "rabbitmq.conf": {"rabbit"},
    }


def test_the_compute_service_has_no_database() -> None:
    assert {"database", "api_database"} <= set(parse("nova.conf").sections())
    assert not {"database", "api_database"} & set(parse("nova-compute.conf").sections())


def test_both_ends_of_the_metadata_proxy_have_the_same_secret() -> None:
    secret = parse("metadata.ini")["DEFAULT"]["metadata_proxy_shared_secret"]
    assert parse("nova.conf")["neutron"]["metadata_proxy_shared_secret"] == secret


def test_every_service_in_the_catalogue_has_a_port() -> None:
    assert {kind for kind, _ in SERVICE_TYPES.values()} | {"identity"} == set(PORTS)

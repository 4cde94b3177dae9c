"""The stack file: what it accepts, and how it says what is wrong."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sipmediadeploy.cli.place import STACK_TEXT
from sipmediadeploy.protocol.replica import BridgeAccess, TokenSigning
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.scaler.documents import conference_access
from sipmediadeploy.stack import OpenStack, Stack, StackError, load_stack, parse_stack

SMALLEST = "name: demo\ndomain: sip.example.org\n"
OPENSTACK = SMALLEST + "provider: openstack\n"


def error_of(text: str) -> str:
    with pytest.raises(StackError) as caught:
        parse_stack(text)
    return str(caught.value)


def test_the_smallest_file_gets_the_documented_defaults() -> None:
    stack = parse_stack(SMALLEST)
    pools = stack.pools
    assert (pools.kamailio.replicas, pools.coturn.replicas, pools.scaler.replicas) == (2, 2, 2)
    assert (pools.gateway.min, pools.gateway.max, pools.gateway.calls) == (1, 4, 4)
    assert stack.demo
    assert stack.publish is None


def test_a_conference_url_replaces_the_demo() -> None:
    assert not parse_stack(SMALLEST + "conference: {url: 'wss://rooms.example.org/'}").demo


def test_a_jitsi_meet_needs_its_address_only_and_takes_the_authorities_beside_the_file(
    tmp_path: Path,
) -> None:
    jitsi = SMALLEST + "conference: {platform: jitsi, url: 'https://meet.example.org'"
    assert parse_stack(jitsi + "}").conference.platform == "jitsi"
    file = tmp_path / "stack.yaml"
    file.write_text(jitsi + ", ca_file: ca.pem}")
    with pytest.raises(StackError, match=r"conference\.ca_file.*ca\.pem can't be read"):
        load_stack(file)
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(StackError, match="no certificates"):
        load_stack(file)
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    stack = load_stack(file)
    assert stack.conference.ca == "-----BEGIN CERTIFICATE-----\n"
    assert parse_stack(yaml.safe_dump(stack.model_dump(mode="json"))) == stack
    access = conference_access(stack, IPv4Network("172.30.0.0/24"), Secrets(master="m" * 32))
    assert (access.platform, access.url, access.ca) == (
        "jitsi",
        "https://meet.example.org",
        stack.conference.ca,
    )


def test_tokens_are_for_a_jitsi_meet_and_come_from_one_place() -> None:
    jitsi = SMALLEST + "conference: {platform: jitsi, url: 'https://meet.example.org', "
    with pytest.raises(StackError, match="take one"):
        parse_stack(jitsi + "token_file: t, jwt: {issuer: a, key_file: k}}")
    with pytest.raises(StackError, match="platform jitsi only"):
        parse_stack(SMALLEST + "conference: {token_file: t}")
    stack = parse_stack(jitsi + "jwt: {issuer: a, key_file: k, key_id: i}}")
    secrets = Secrets(master="m" * 32, conference_key="the key")
    access = conference_access(stack, IPv4Network("172.30.0.0/24"), secrets)
    assert access.signing == TokenSigning(key="the key", issuer="a", key_id="i")
    assert access.token is None


def test_what_is_negotiated_with_the_bridge_can_be_said() -> None:
    jitsi = SMALLEST + "conference: {platform: jitsi, url: 'https://meet.example.org', bridge: {tcc: true}}"
    access = conference_access(parse_stack(jitsi), IPv4Network("172.30.0.0/24"), Secrets(master="m" * 32))
    assert access.bridge == BridgeAccess(rtx=True, tcc=True, data_channel=True)
    with pytest.raises(StackError, match="bridge is for platform jitsi only"):
        parse_stack(SMALLEST + "conference: {bridge: {tcc: true}}")


def test_openstack_needs_its_name_only() -> None:
    assert parse_stack(OPENSTACK).openstack == OpenStack()
    flavors = parse_stack(OPENSTACK + "openstack: {flavors: {conference-demo: b2-7}}")
    assert parse_stack(yaml.safe_dump(flavors.model_dump(mode="json"))) == flavors


def test_on_openstack_the_networks_range_is_said_unless_the_network_is_the_operators() -> None:
    made = parse_stack(OPENSTACK)
    assert str(made.network.subnet) == "10.86.0.0/24"
    assert parse_stack(yaml.safe_dump(made.model_dump(mode="json"))) == made
    other = parse_stack(OPENSTACK + "network: {subnet: 10.1.2.0/24}")
    assert str(other.network.subnet) == "10.1.2.0/24"
    theirs = parse_stack(OPENSTACK + "openstack: {network: inner}")
    assert theirs.network.subnet is None


def test_the_effective_stack_means_the_same_as_the_file() -> None:
    stack = parse_stack(SMALLEST + "publish: 198.51.100.7\nsip: {trusted: [10.0.0.0/8]}")
    assert parse_stack(yaml.safe_dump(stack.model_dump(mode="json"))) == stack


def test_the_file_of_smd_init_is_valid_with_and_without_its_comments() -> None:
    text = STACK_TEXT.format(name="demo", domain="sip.example.org")
    active = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(active) == 3
    assert parse_stack(text) == parse_stack(SMALLEST)


def test_every_commented_option_of_smd_init_is_a_default_or_an_example() -> None:
    text = STACK_TEXT.format(name="demo", domain="sip.example.org")
    head, options = text.split("# Everything below is a default. Uncomment what you change.\n#\n")
    lines = [line.removeprefix("# ").removeprefix("#") for line in options.splitlines()]
    stack = parse_stack(head + "\n".join(lines))
    default = parse_stack(SMALLEST)
    same = {"sip", "turn", "media", "pools"}
    assert stack.model_dump(include=same) == default.model_dump(include=same)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["stack.yaml", "name: demo"]),
        ("[]", ["expected keys"]),
        ("name: demo", ["'domain' is missing"]),
        ("name: demo\ndomian: x", ["stack.yaml:2", "domian", "did you mean 'domain'"]),
        (SMALLEST + "pools:\n  gateway:\n    cals: 3", ["stack.yaml:5", "pools.gateway.cals", "'calls'"]),
        (SMALLEST + "pools:\n  zzzzzz: 3", ["stack.yaml:4", "valid here: kamailio, coturn"]),
        (SMALLEST + "pools:", ["stack.yaml:3", "'pools' needs keys below it"]),
        (SMALLEST + "sip: 5060", ["'sip' needs keys below it", "port"]),
        (SMALLEST + "name: again", ["stack.yaml:3", "'name' is there twice"]),
        (SMALLEST + "pools: {gateway: {min: 3, max: 2}}", ["min (3) is greater than max (2)"]),
        (SMALLEST + "pools: {gateway: {spare: '0%'}}", ["pools.gateway.spare", "a share such as", "'0%'"]),
        (SMALLEST + "pools: {gateway: {spare: yes}}", ["pools.gateway.spare", "0 to 1024", "True"]),
        (SMALLEST + "pools: {gateway: {spare: -1}}", ["pools.gateway.spare", "0 to 1024", "-1"]),
        (SMALLEST + "pools: {kamailio: {replicas: 0}}", ["pools.kamailio.replicas", "greater than", "0"]),
        (SMALLEST + "pools: {kamailio: {replicas: 9}}", ["pools.kamailio.replicas", "less than", "9"]),
        (SMALLEST + "pools: {kamailio: {replicas: two}}", ["pools.kamailio.replicas", "integer", "'two'"]),
        (SMALLEST + "pools: {kamailio: {replicas: yes}}", ["pools.kamailio.replicas", "integer", "True"]),
        (SMALLEST + "pools: {kamailio: {replicas: '2'}}", ["pools.kamailio.replicas", "integer", "'2'"]),
        (SMALLEST + "pools: {gateway: {limits: {cpus: .nan}}}", ["pools.gateway.limits.cpus"]),
        (SMALLEST + "publish: 5", ["stack.yaml:3", "publish", "dotted form"]),
        (SMALLEST + "publish: host.example.org", ["publish", "IPv4"]),
        (SMALLEST + "publish: 0.0.0.0", ["publish", "0.0.0.0"]),
        (SMALLEST + "publish: 224.0.0.1", ["publish", "224.0.0.1"]),
        (SMALLEST + "sip: {trusted: [10]}", ["sip.trusted.0", "dotted form"]),
        (SMALLEST + "sip: {trusted: [10.1.2.3/8]}", ["sip.trusted.0", "network"]),
        (SMALLEST + "sip: {port: 70000}", ["sip.port", "65535"]),
        (SMALLEST + "sip: {port: 5080}", ["sip.port", "5080 is where Kamailio listens for its gateways"]),
        (SMALLEST + "network: {subnet: 172.30.0.0/16}", ["network", "not a /24"]),
        (SMALLEST + "turn: sometimes", ["turn", "'auto'", "'sometimes'"]),
        (SMALLEST + "conference: {url: 'ftp://x'}", ["conference.url"]),
        (SMALLEST + "conference: {platform: jitsi}", ["stack.yaml:3", "needs a url"]),
        (SMALLEST + "conference: {platform: jitsi, url: 'wss://x'}", ["http(s) url", "wss://x"]),
        (SMALLEST + "conference: {url: 'https://x'}", ["ws(s) url", "Jitsi"]),
        (SMALLEST + "conference: {muc: rooms.example.org}", ["muc is for platform jitsi only"]),
        (SMALLEST + "conference: {platform: zoom}", ["conference.platform", "'janus' or 'jitsi'"]),
        (SMALLEST + "provider: dokcer", ["stack.yaml:3", "provider", "did you mean 'docker'"]),
        (SMALLEST + "openstack: {cloud: x}", ["openstack is for provider openstack only (it is docker)"]),
        (SMALLEST + "provider_options: {a: 1}", ["provider docker has no provider_options"]),
        (OPENSTACK + "openstack: {clud: x}", ["stack.yaml:4", "openstack.clud", "did you mean 'cloud'"]),
        (OPENSTACK + "openstack: {flavors: {kamalio: x}}", ["'kamalio'", "did you mean 'kamailio'"]),
        (OPENSTACK + "openstack: {public_address: yes}", ["'none', 'floating' or 'network'", "True"]),
        (OPENSTACK + "openstack: {volume_gib: 0}", ["openstack.volume_gib", "greater than"]),
        (OPENSTACK + "publish: 198.51.100.7", ["publish is for provider docker"]),
        (OPENSTACK + "openstack: {ssh_from: [10.1.2.3/24]}", ["openstack.ssh_from.0", "IPv4 network"]),
        (OPENSTACK + "openstack: {api_from: 10.1.2.0/24}", ["openstack.api_from", "tuple"]),
        (SMALLEST + "conference: {platform: jitsi, jwt: {isuer: x}}", ["isuer", "did you mean 'issuer'"]),
        ("name: Demo\ndomain: x", ["stack.yaml:1", "name"]),
        ("name: d\ndomain: x", ["stack.yaml:1", "name"]),
        ("name: demo\ndomain: a..b", ["stack.yaml:2", "domain"]),
        ("name: [demo\n", ["stack.yaml:", "not valid YAML"]),
        ("name: \x00", ["not valid YAML"]),
        ("name: demo\ndomain: 2020-99-99", ["not valid YAML"]),
        ("a: &a [*a]", ["unknown key 'a'"]),
        ("name: &n {x: *n}", ["name"]),
        ("? [1]\n: 2", ["not valid YAML"]),
        ("1: 2", ["1"]),
        ("---\na: 1\n---\nb: 2", ["stack.yaml:3", "not valid YAML"]),
        ("[" * 5000, ["not valid YAML"]),
    ],
)
def test_a_mistake_is_named_with_its_line_its_key_and_what_to_do(text: str, words: list[str]) -> None:
    message = error_of(text)
    for word in words:
        assert word in message


def test_all_mistakes_are_listed_a_line_each() -> None:
    assert len(error_of("name: demo\nturn: x\nsip: {port: 0}\n").splitlines()) == 3


def test_a_merged_key_that_is_overridden_is_not_there_twice() -> None:
    text = SMALLEST + (
        "pools:\n  kamailio:\n    limits: &l {cpus: 1, memory_mib: 256}\n"
        "  coturn:\n    limits: {<<: *l, cpus: 2}\n"
    )
    assert parse_stack(text).pools.coturn.limits.cpus == 2


def test_nested_aliases_do_not_take_for_ever() -> None:
    laughs = "\n".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(40))
    assert "unknown key" in error_of("a0: &a0 [x]\n" + laughs)


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="smd init"):
        load_stack(tmp_path / "stack.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name: \xe9"])
def test_a_file_that_is_not_text_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "stack.yaml"
    path.write_bytes(content)
    with pytest.raises(StackError, match=r"stack\.yaml"):
        load_stack(path)


def test_a_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="can't be read"):
        load_stack(tmp_path)


def check(text: str) -> None:
    with contextlib.suppress(StackError):
        assert isinstance(parse_stack(text), Stack)


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_is_a_stack_or_a_stack_error(text: str) -> None:
    check(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="a:0 \n-[]{}&*!|>'\"#%@,?<.~=xe_\t", max_size=80))
def test_any_yaml_like_text_is_a_stack_or_a_stack_error(text: str) -> None:
    check(text)
    check(SMALLEST + text)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_keys = st.sampled_from(
    [
        "name",
        "domain",
        "publish",
        "conference",
        "sip",
        "turn",
        "media",
        "network",
        "pools",
        "gateway",
        "kamailio",
        "limits",
        "cpus",
        "min",
        "max",
        "calls",
        "replicas",
        "url",
        "port",
        "trusted",
        "subnet",
    ]
)
_trees: st.SearchStrategy[Any] = st.recursive(
    _values, lambda inner: st.dictionaries(_keys, inner, max_size=5), max_leaves=12
)


@settings(max_examples=300, deadline=None)
@given(_trees)
def test_any_tree_of_values_is_a_stack_or_a_stack_error(tree: Any) -> None:
    check(yaml.safe_dump(tree))
    if isinstance(tree, dict):
        check(yaml.safe_dump({"name": "demo", "domain": "x.example.org", **tree}))

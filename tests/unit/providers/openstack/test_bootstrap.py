"""``smd bootstrap`` and ``smd down`` on a fake cloud."""

from __future__ import annotations

import json

import pytest

from sipmediadeploy.cli.bootstrap import bootstrap
from sipmediadeploy.cli.down import down
from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.providers.base import ProviderError
from tests.unit.providers.openstack.conftest import SMALLEST, SUBNET, Trial
from tests.unit.providers.openstack.fake_cloud import Fault


def test_the_first_scaler_is_made_once_and_may_lead_at_once(
    trial: Trial, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap(place, foundation=False)
    assert "demo-scaler-0: starting it" in capsys.readouterr().out
    (server,) = trial.cloud.things["servers"]
    assert (server["name"], server["metadata"]["smd.role"]) == ("demo-scaler-0", "scaler")
    lease = next(port for port in trial.cloud.things["ports"] if port["name"] == "smd-demo-lease")
    assert lease["description"].endswith("term=1 counter=0 released=0 paused=0 holder=demo-scaler-0")
    bootstrap(place, foundation=False)
    assert trial.cloud.things["servers"] == [server]


def test_a_lease_that_the_cloud_does_not_make_in_time_is_left_to_the_scaler(
    trial: Trial, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    trial.cloud.faults.append(Fault("POST /network/v2.0/ports", 503))
    bootstrap(place, foundation=False)
    assert "the scaler makes it" in capsys.readouterr().out
    assert [server["name"] for server in trial.cloud.things["servers"]] == ["demo-scaler-0"]


def test_an_outdated_scaler_is_replaced(trial: Trial, place: Place) -> None:
    bootstrap(place, foundation=False)
    (old,) = trial.cloud.things["servers"]
    place.stack_file.write_text(SMALLEST + "sip: {port: 5070}\n")
    bootstrap(place, foundation=False)
    (new,) = trial.cloud.things["servers"]
    assert new["id"] != old["id"]


def test_what_is_missing_is_said_with_what_to_do(trial: Trial, place: Place) -> None:
    networks = trial.cloud.things["networks"]
    networks[:] = [network for network in networks if network["name"] != "smd-demo"]
    with pytest.raises(ProviderError, match="network smd-demo is missing; terraform apply"):
        bootstrap(place, foundation=False)
    assert trial.cloud.things["servers"] == []


def test_without_terraform_all_that_the_stack_stands_on_is_made_and_removed_as_well(
    trial: Trial, place: Place
) -> None:
    things = trial.cloud.things
    for kind in ("networks", "subnets", "security_groups"):
        things[kind].clear()
    trial.cloud.external("public")
    bootstrap(place, foundation=True)
    assert [server["name"] for server in things["servers"]] == ["demo-scaler-0"]
    assert {"10.86.0.0/24", "192.0.2.0/29"} < {subnet["cidr"] for subnet in things["subnets"]}
    down(place, foundation=True)
    left = {kind for kind, there in things.items() if there}
    assert left == {"networks", "subnets", "images", "flavors"}
    assert [network["name"] for network in things["networks"]] == ["public"]


def test_a_stack_on_docker_is_not_bootstrapped(place: Place) -> None:
    place.stack_file.write_text("name: demo\ndomain: sip.example.org\n")
    with pytest.raises(CommandError, match="smd up"):
        bootstrap(place, foundation=False)


def test_down_leaves_nothing_but_what_the_stack_stands_on(
    trial: Trial, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {kind: len(things) for kind, things in trial.cloud.things.items()}
    bootstrap(place, foundation=False)
    down(place, foundation=False)
    assert capsys.readouterr().out.endswith("The stack demo is down.\n")
    assert {kind: len(things) for kind, things in trial.cloud.things.items()} == before
    down(place, foundation=False)
    assert capsys.readouterr().out == "The stack demo was not up.\n"
    assert str(SUBNET) in json.dumps(trial.cloud.things["subnets"])

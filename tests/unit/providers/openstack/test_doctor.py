"""What ``smd doctor`` says of a fake cloud: each thing that would stop a deployment is named beforehand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from sipmediadeploy.cli.doctor import doctor, pool_needs
from sipmediadeploy.cli.place import Place
from sipmediadeploy.providers.findings import Finding, Level
from sipmediadeploy.providers.openstack import ensure, foundation, marks, preconditions, surveyor
from sipmediadeploy.providers.openstack.cloud import Cloud
from sipmediadeploy.stack import Role
from tests.unit.providers.openstack.conftest import SMALLEST, SUBNET, Trial
from tests.unit.providers.openstack.fake_cloud import PASSWORD, Fault, Thing


@dataclass(frozen=True, slots=True)
class Doctor:
    """Looks at a fake cloud."""

    trial: Trial

    async def look(self, settings: str = "") -> dict[str, Finding]:
        """What it finds, by what was looked at."""
        stack = self.trial.stack(settings)
        cloud, needs = Cloud(self.trial.cloud.credentials), pool_needs(stack)
        seen = await surveyor.take(cloud, stack, "v1", needs)
        cloud.close()
        return {one.what: one for one in preconditions.findings(stack, needs, seen)}


@pytest.fixture
def whole(trial: Trial) -> Doctor:
    """A cloud in which nothing is in the way of the stack ``demo``."""
    stack, cloud = trial.stack(), trial.cloud
    for group in cloud.things["security_groups"]:
        role = Role(group["name"].removeprefix("smd-demo-"))
        for rule in foundation.rules(stack, role, SUBNET):
            cloud.add("security_group_rules", security_group_id=group["id"], **ensure.rule_body(rule))
    return Doctor(trial)


def in_the_way(found: dict[str, Finding]) -> set[str]:
    """What is a problem."""
    return {what for what, one in found.items() if one.level is Level.PROBLEM}


async def test_a_cloud_that_has_all_is_told_so_and_left_as_it_was(whole: Doctor) -> None:
    before = json.dumps(whole.trial.cloud.things, sort_keys=True)
    found = await whole.look()
    assert {one.level for one in found.values()} == {Level.OK}, found
    assert json.dumps(whole.trial.cloud.things, sort_keys=True) == before


async def test_refused_credentials_are_the_one_problem_and_all_else_was_not_looked_at(whole: Doctor) -> None:
    whole.trial.cloud.refused = True
    found = await whole.look()
    assert in_the_way(found) == {"credentials"}
    assert found["quotas"].found == "not looked at: no credentials"
    assert PASSWORD not in str(found)


async def test_every_service_that_does_not_answer_is_named_and_the_others_are_looked_at(
    whole: Doctor,
) -> None:
    whole.trial.cloud.faults.append(Fault("GET /compute/v2.1/limits", 406, times=9))
    whole.trial.cloud.faults.append(Fault("GET /image/v2/images", 500, times=99))
    found = await whole.look()
    assert "Pike or newer" in found["Nova"].todo
    assert in_the_way(found) == {"Nova", "Glance"}
    assert found["image of gateway"].level is Level.UNKNOWN
    assert found["quota of ports"].level is Level.OK


async def test_an_answer_that_is_no_openstack_is_no_traceback(whole: Doctor) -> None:
    whole.trial.cloud.faults.append(Fault("GET /network/v2.0/extensions", 200, '{"hello": 1}'))
    found = await whole.look()
    assert in_the_way(found) == {"Neutron"}
    assert "not as expected" in found["Neutron"].found


async def test_quotas_are_compared_with_the_stack_at_its_most(whole: Doctor) -> None:
    cloud = whole.trial.cloud
    cloud.limits |= {"maxTotalCores": 20, "maxTotalInstances": 15}
    cloud.quotas |= {"port": 21, "floatingip": 7}
    found = await whole.look()
    # 3 kamailio, 3 coturn, 3 scalers, 5 gateways, 2 demo conferences; those with 2 CPUs are the last two
    assert in_the_way(found) == {
        *("quota of servers", "quota of cores", "quota of ports"),
    }
    assert "16 at most; 15 of 15 free: 1 too few" in found["quota of servers"].found
    assert found["quota of floating IPs"].found.startswith("7 at most; 7 of 7 free")
    assert "higher quota" in found["quota of cores"].todo


async def test_what_the_stack_has_already_counts_as_its_own(whole: Doctor) -> None:
    provider = whole.trial.provider()
    stack = whole.trial.stack()
    limits = stack.pools.gateway.limits
    for slot in range(2):
        await provider.create(whole.trial.document(Role.GATEWAY, slot), limits)
    cloud = whole.trial.cloud
    cloud.limits["maxTotalInstances"], cloud.quotas["floatingip"] = 16, 7
    found = await whole.look()
    assert found["quota of servers"].found == "16 at most, 2 of them there; 14 of 16 free"
    assert found["quota of floating IPs"].found == "7 at most, 2 of them there; 5 of 7 free"
    cloud.limits["maxTotalInstances"] = 15
    assert "1 too few" in (await whole.look())["quota of servers"].found


async def test_the_scalers_own_floating_ip_counts_where_it_is_there_and_where_it_will_be(
    whole: Doctor,
) -> None:
    settings = "api_from: [192.0.2.0/24]"
    whole.trial.cloud.quotas["floatingip"] = 8
    found = (await whole.look(settings))["quota of floating IPs"]
    assert found.found.startswith("8 at most; 8 of 8 free")
    whole.trial.cloud.add(
        "floatingips",
        description=marks.service_mark("demo", Role.SCALER),
        floating_ip_address="203.0.113.9",
        port_id=None,
    )
    found = (await whole.look(settings))["quota of floating IPs"]
    assert found.found == "8 at most, 1 of them there; 7 of 8 free"


async def test_what_an_interrupted_deployment_has_left_half_made_is_its_own_to_finish(whole: Doctor) -> None:
    cloud = whole.trial.cloud
    cloud.things["subnets"].clear()
    cloud.things["security_group_rules"].clear()
    cloud.things["security_groups"].pop()
    found = await whole.look()
    assert in_the_way(found) == {"network", "lease's network"}
    assert "terraform apply" in found["network"].todo
    assert [what for what in in_the_way(found) if not found[what].by_deploy] == []
    assert not (await whole.look("network: smd-demo"))["network"].by_deploy, "a given network is not made"


async def test_a_quota_that_servers_can_do_without_is_no_problem(whole: Doctor) -> None:
    whole.trial.cloud.limits["maxServerGroups"] = 1
    found = await whole.look()
    assert found["quota of server groups"].level is Level.WARNING
    whole.trial.cloud.limits["maxServerGroupMembers"] = 2
    assert in_the_way(await whole.look()) == {"quota of servers in a group"}


async def test_missing_images_and_flavours_are_named_with_what_to_do(whole: Doctor) -> None:
    things = whole.trial.cloud.things
    things["images"][:] = [one for one in things["images"] if one["name"] != "smd-coturn"]
    things["flavors"][:] = [one for one in things["flavors"] if one["vcpus"] < 2]
    found = await whole.look("flavors: {kamailio: small, conference-demo: small, scaler: huge}")
    assert in_the_way(found) == {
        *("image of coturn", "flavour of gateway", "flavour of conference-demo", "flavour of scaler"),
    }
    assert "version v1 is missing" in found["image of coturn"].found
    assert "2 CPUs" in found["flavour of conference-demo"].found
    assert found["quotas of cores and memory"].level is Level.UNKNOWN


async def test_a_named_flavour_that_is_too_small_for_the_image_is_a_problem(whole: Doctor) -> None:
    for image in whole.trial.cloud.things["images"]:
        image["min_disk"] = 11
    whole.trial.cloud.add("flavors", name="roomy", vcpus=2, ram=2048, disk=20)
    found = await whole.look("flavors: {kamailio: medium}")
    assert in_the_way(found) == {"flavour of kamailio"}
    assert found["flavour of kamailio"].found == "medium: 10 GB of disk, and the image needs 11"
    assert "openstack.flavors.kamailio" in found["flavour of kamailio"].todo
    assert in_the_way(await whole.look("volume_gib: 12, flavors: {kamailio: medium}")) == set()


async def test_before_terraform_ran_its_things_are_warnings_only(trial: Trial) -> None:
    for kind in ("networks", "subnets", "security_groups"):
        trial.cloud.things[kind][:] = [one for one in trial.cloud.things[kind] if one.get("name") == "public"]
    found = await Doctor(trial).look()
    assert in_the_way(found) == set()
    for what in ("network", "lease's network", "security groups"):
        assert found[what].level is Level.WARNING
        assert "terraform apply" in found[what].todo
    assert found["address pairs"].level is Level.UNKNOWN


async def test_networks_that_can_not_be_used_are_a_problem(whole: Doctor) -> None:
    cloud = whole.trial.cloud
    own = next(one for one in cloud.things["subnets"] if one["cidr"] == str(SUBNET))
    own["allocation_pools"] = [{"start": "10.88.0.2", "end": "10.88.0.254"}]
    cloud.add("networks", name="smd-demo-lease")
    found = await whole.look()
    assert in_the_way(found) == {"network", "lease's network"}
    assert "leave 10.88.0.2 to 10.88.0.239 out of it" in found["network"].todo
    own |= {"cidr": "10.88.0.0/23", "allocation_pools": []}
    assert "needs one /24" in (await whole.look())["network"].found


async def test_security_groups_are_told_what_they_do_not_let_in(whole: Doctor) -> None:
    rules = whole.trial.cloud.things["security_group_rules"]
    world = "0.0.0.0/0"
    gone = [one for one in rules if one["remote_ip_prefix"] == world and one["port_range_min"] == 5060]
    rules[:] = [one for one in rules if one["protocol"] != "112" and one not in gone]
    found = await whole.look()
    assert in_the_way(found) == {"security group of kamailio", "security group of coturn"}
    assert found["security group of kamailio"].found == (
        "it does not let in vrrp from 10.88.0.0/24, udp 5060 from 0.0.0.0/0 and tcp 5060 from 0.0.0.0/0"
    )


async def test_a_project_that_may_not_set_address_pairs_is_told_of_the_other_way(whole: Doctor) -> None:
    denied = '{"NeutronError": {"message": "rule:create_port:allowed_address_pairs is disallowed"}}'
    whole.trial.cloud.faults.append(Fault("POST /network/v2.0/ports", 403, denied))
    found = await whole.look()
    assert in_the_way(found) == {"address pairs"}
    assert "service_addresses: reassociate" in found["address pairs"].todo
    whole.trial.cloud.extensions.remove("allowed-address-pairs")
    assert "no extension" in (await whole.look())["address pairs"].found
    found = await whole.look("service_addresses: reassociate")
    assert found["address pairs"].level is Level.WARNING


async def test_the_port_that_tries_address_pairs_is_found_by_its_marks_if_it_stays(whole: Doctor) -> None:
    whole.trial.cloud.faults.append(Fault("DELETE /network/v2.0/ports/", 503))
    found = await whole.look()
    assert found["address pairs"].level is Level.UNKNOWN
    (port,) = whole.trial.cloud.things["ports"]
    assert port["description"] == marks.replica_mark("demo")
    assert port["allowed_address_pairs"] == [{"ip_address": "10.88.0.2"}]


async def test_public_addresses_are_looked_for(whole: Doctor) -> None:
    cloud = whole.trial.cloud
    cloud.free_public = 6
    found = await whole.look()
    assert in_the_way(found) == {"external network"}
    assert "6 addresses are free; 7 more" in found["external network"].found
    assert in_the_way(await whole.look("public_address: none")) == set()
    cloud.things["networks"][:] = [one for one in cloud.things["networks"] if one["name"] != "public"]
    assert in_the_way(await whole.look()) == {"external network"}
    cloud.add("networks", name="a", **{"router:external": True})
    cloud.add("networks", name="b", **{"router:external": True})
    assert "several external networks (a, b)" in (await whole.look())["external network"].found


async def test_what_the_stack_file_names_is_looked_for(whole: Doctor) -> None:
    whole.trial.cloud.zones = {"here": True, "down": False}
    found = await whole.look("key_pair: operator, zones: [here, down, there]")
    assert in_the_way(found) == {
        *("key pair operator", "availability zone down", "availability zone there"),
    }
    assert "there are: down and here" in found["availability zone there"].found
    whole.trial.cloud.add("os_keypairs", id="operator")["id"] = "operator"
    assert (await whole.look("key_pair: operator"))["key pair operator"].level is Level.OK


async def test_volumes_are_counted_where_replicas_boot_from_them(whole: Doctor) -> None:
    assert "quota of volumes" not in await whole.look()
    whole.trial.cloud.limits["maxTotalVolumeGigabytes"] = 100
    found = await whole.look("volume_gib: 10")
    assert in_the_way(found) == {"quota of volumes' space"}
    assert (
        "160 GiB at most; 100 GiB of 100 GiB free: 60 GiB too few" in found["quota of volumes' space"].found
    )


async def test_a_clock_that_is_wrong_is_told(whole: Doctor) -> None:
    whole.trial.cloud.ahead_s = 60.0
    clock = (await whole.look())["clock"]
    assert clock.level is Level.WARNING
    assert "s behind the cloud's" in clock.found


def test_a_wider_rule_of_an_operators_own_will_do(trial: Trial) -> None:
    wanted = foundation.rules(trial.stack(), Role.KAMAILIO, IPv4Network("10.88.0.0/24"))
    base: Thing = {"direction": "ingress", "ethertype": "IPv4", "protocol": None, "remote_ip_prefix": None}
    assert ensure.missing_rules(wanted, [base]) == []
    narrow = base | {"protocol": "17", "port_range_min": 5000, "port_range_max": 5070}
    assert {"udp 5060", "udp 5080"} - {
        preconditions.spoken(one).partition(" from")[0] for one in ensure.missing_rules(wanted, [narrow])
    } == {"udp 5060"}
    for no in (
        {"remote_group_id": "g"},
        {"direction": "egress"},
        {"ethertype": "IPv6"},
        {"remote_ip_prefix": "192.0.2.0/24"},
    ):
        assert ensure.missing_rules(wanted, [base | no]) == wanted


@pytest.fixture
def place(whole: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where the stack file and the credentials of the fake cloud are."""
    place = Place(tmp_path / "stack.yaml")
    place.stack_file.write_text(SMALLEST)
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(yaml.safe_dump({"clouds": {"fake": whole.trial.cloud.credentials()}}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds))
    monkeypatch.setenv("OS_CLOUD", "fake")
    monkeypatch.setattr("sipmediadeploy.cli.doctor.images_version", lambda _root: "v1")
    return place


def test_the_command_says_all_of_it_and_ends_with_0_when_nothing_is_in_the_way(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor(place, as_json=False) == 0
    printed = capsys.readouterr().out
    assert "ok       credentials" in printed
    assert "the domain is made up" in printed
    assert "Nothing is in the way of the stack demo (warnings: 1)." in printed


def test_the_command_ends_with_1_and_programs_can_read_why(
    whole: Doctor, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    whole.trial.cloud.things["images"].clear()
    assert doctor(place, as_json=True) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["stack"], data["ok"]) == ("demo", False)
    problems = [one["what"] for one in data["findings"] if one["level"] == "problem"]
    assert problems == [f"image of {need.role}" for need in pool_needs(whole.trial.stack())]

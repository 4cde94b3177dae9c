"""The playbook makes plain Debian servers into a stack that takes calls, and then changes nothing more."""

from __future__ import annotations

import json
import re
import time
from ipaddress import IPv4Address

import pytest
import requests
import yaml

from sipmediadeploy.protocol import turn
from sipmediadeploy.protocol.secrets import agent_token, turn_secret
from sipmediadeploy.protocol.sip_options import sip_options
from tests.harness.playbook import CONFERENCE, COTURN, GATEWAY, GROUPS, KAMAILIO, STANDBY
from tests.harness.waiting import until
from tests.integration.servers.conftest import Stack
from tests.integration.servers.host import Host

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]

SERVICES = {
    KAMAILIO: ("kamailio", "keepalived"),
    COTURN: ("coturn", "keepalived"),
    GATEWAY: ("gateway",),
    CONFERENCE: ("janus", "nginx"),
}
ALL = [(host, service) for host, services in SERVICES.items() for service in (*services, "agent")]
EXPOSURE = 3.0
"""systemd-analyze's figure, 0 to 10; Debian's own kamailio.service has 9.2."""


def master(stack: Stack) -> str:
    return str(yaml.safe_load((stack.directory / "secrets.yaml").read_text())["master"])


def pid(host: Host, service: str) -> int:
    """The service's process; 0: it has none, or a busy engine has lost the answer."""
    return int(host.run(f"systemctl show -P MainPID smd-{service}.service") or 0)


async def running(host: Host, service: str) -> int:
    """Wait until the service runs; its process."""
    await until(f"{service} runs on {host.name}", lambda: pid(host, service), 60)
    return pid(host, service) or await running(host, service)


def status(host: Host) -> str:
    return host.run("smd node --status --wait 90", check=False).strip()


async def comes_back(host: Host, service: str, old: int) -> None:
    await until(f"{service} runs again on {host.name}", lambda: pid(host, service) not in (0, old), 60)
    await until(f"{host.name} is ready", lambda: ": ready" in status(host), 120)


def test_the_second_run_changes_nothing(stack: Stack) -> None:
    again = stack.play()
    assert again.counted("changed") == dict.fromkeys(again.counted("ok"), 0)


async def test_each_role_does_its_work(stack: Stack) -> None:
    addresses = {pool: IPv4Address(address) for pool, address in stack.service_addresses.items()}
    await sip_options(addresses["kamailio"], 5060, timeout_s=3)
    await turn.allocate(addresses["coturn"], 3478, turn_secret(master(stack)), timeout_s=3)
    for name in (CONFERENCE, GATEWAY, COTURN, KAMAILIO, STANDBY):
        assert ": ready" in status(stack.hosts[name])


async def test_a_call_through_the_service_address_has_sound_and_picture(stack: Stack) -> None:
    # The gateway's host has all that terminals need.
    terminal = (
        "PYTHONPATH=/opt/smd/site-packages GST_REGISTRY=/usr/share/smd/gstreamer-registry.bin"
        " python3 -m sipmediadeploy.gateway.testcall room"
        f" --to {stack.service_addresses['kamailio']}:5060 --json"
    )
    other = "--seconds 40 --name other --tone 660 --colour ff8c00 --no-decode"
    gateway = stack.hosts[GATEWAY]
    gateway.run(f"({terminal} {other} >/tmp/other.log 2>&1 &)")
    output = gateway.run(f"{terminal} --seconds 15 2>&1", check=False)
    said = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert said, output[-2000:]
    assert said[-1].get("verdict") == "ok", f"{said[-1]}\n{gateway.run('tail -n 5 /tmp/other.log')}"


@pytest.mark.parametrize(("name", "service"), [pair for pair in ALL if pair[1] != "agent"])
async def test_a_killed_service_comes_back(stack: Stack, name: str, service: str) -> None:
    host = stack.hosts[name]
    old = await running(host, service)
    began = time.monotonic()
    host.run(f"kill -KILL {old}")
    await until(f"{service} runs again", lambda: pid(host, service) not in (0, old), 60)
    took = time.monotonic() - began
    print(f"{name}: {service} killed, runs again after {took:.1f} s")
    assert took < 6, "children that are left keep it from being started"
    await comes_back(host, service, old)


@pytest.mark.parametrize("name", [KAMAILIO, GATEWAY])
async def test_a_killed_agent_comes_back_and_adopts_what_runs(stack: Stack, name: str) -> None:
    host, services = stack.hosts[name], SERVICES[name]
    old, before = await running(host, "agent"), [await running(host, service) for service in services]
    host.run(f"kill -KILL {old}")
    await comes_back(host, "agent", old)
    assert [await running(host, service) for service in services] == before


async def test_a_service_that_stays_stopped_is_killed_and_started_again(stack: Stack) -> None:
    host = stack.hosts[COTURN]
    old = await running(host, "coturn")
    host.run(f"kill -STOP {old}")
    await comes_back(host, "coturn", old)


async def test_the_service_address_moves_when_the_active_host_is_reset_which_comes_back(stack: Stack) -> None:
    address = IPv4Address(stack.service_addresses["kamailio"])
    first, second = sorted(
        (stack.hosts[name] for name in (KAMAILIO, STANDBY)), key=lambda host: ", active" not in status(host)
    )
    first.engine.api.kill(first.name)
    await until(f"{second.name} is active", lambda: ", active" in status(second), 60)
    await sip_options(address, 5060, timeout_s=3)
    first.engine.api.start(first.name)
    await until(f"{first.name} is ready", lambda: ": ready" in status(first), 180)


def test_only_root_reaches_the_metadata_service(stack: Stack) -> None:
    host = stack.hosts[KAMAILIO]
    host.run("ip addr add 169.254.169.254/32 dev lo && (python3 -m http.server -b 169.254.169.254 80 &)")
    ask = (
        "python3 -c 'import urllib.request as r;"
        'print(r.build_opener(r.ProxyHandler({})).open("http://169.254.169.254/",timeout=3).status)\''
    )
    try:
        host.run(f"for i in 1 2 3 4 5 6 7 8 9; do {ask} && exit; sleep 1; done; exit 1")
        for user in ("kamailio", "smd", "nobody"):
            refused = host.run(ask, user=user, check=False)
            assert "URLError" in refused, f"{user}: {refused}"
    finally:
        host.run("ip addr del 169.254.169.254/32 dev lo; kill $(pgrep -f '[h]ttp.server')")


def test_services_are_confined(stack: Stack) -> None:
    figures = {}
    for name, service in ALL:
        said = stack.hosts[name].run(f"systemd-analyze security --no-pager smd-{service}.service")
        match = re.search(r"exposure level for \S+: ([\d.]+)", said)
        assert match, said
        figures[f"{name} {service}"] = float(match[1])
    print("\nsystemd-analyze security (0: nothing is exposed, 10: everything)")
    for what, figure in figures.items():
        print(f"  {what}: {figure}")
    assert max(figures.values()) < EXPOSURE


async def test_services_are_users_of_their_own_with_no_capabilities(stack: Stack) -> None:
    for name, service, user in (
        (KAMAILIO, "kamailio", "kamailio"),
        (COTURN, "coturn", "turnserver"),
        (GATEWAY, "gateway", "smd"),
        (CONFERENCE, "janus", "smd"),
    ):
        host = stack.hosts[name]
        process = await running(host, service)
        assert host.run(f"ps -o user= -p {process}").strip() == user
        assert re.search(r"CapBnd:\s+0+$", host.run(f"cat /proc/{process}/status"), re.MULTILINE)


def test_packages_own_services_do_not_run(stack: Stack) -> None:
    for name, unit in ((KAMAILIO, "kamailio"), (COTURN, "coturn"), (CONFERENCE, "nginx")):
        said = stack.hosts[name].run(f"systemctl show -P LoadState -P ActiveState {unit}.service")
        assert said.split() == ["masked", "inactive"]


def test_no_secret_is_readable_by_others_or_told_to_the_journal(stack: Stack) -> None:
    for names in GROUPS.values():
        for name in names:
            host = stack.hosts[name]
            assert host.run("stat -c '%a %U' /etc/smd/replica.yaml /etc/smd").split() == [
                *("600", "root"),
                *("700", "root"),
            ]
            journal = host.run("journalctl --no-pager -o cat")
            secret = master(stack)
            for one in (secret, turn_secret(secret), agent_token(secret, name)):
                assert one not in journal


def test_the_agent_hands_out_the_journal(stack: Stack) -> None:
    host = stack.hosts[KAMAILIO]
    token = agent_token(master(stack), KAMAILIO)
    asked = requests.get(
        f"http://{host.address}:8800/v1/logs?lines=5",
        headers={"Authorization": f"Bearer {token}"},
        timeout=20,
    )
    lines = asked.text.splitlines()
    assert {line.split(":", 1)[0] for line in lines if line} >= {"agent", "kamailio", "keepalived"}

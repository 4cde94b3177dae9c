"""A published stack is used from another host: SIP, RTP, page and ICE all through the one address."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import pytest

from sipmediadeploy.protocol.replica import AGENT_PORT
from tests.harness.baresip import Baresip, Settings
from tests.harness.browser_participant import BrowserParticipant
from tests.harness.media_tools import colour_distance, mean_colour, read_wav, summary_of, tone_level_db
from tests.harness.outside import OutsideHost
from tests.harness.running import RunningStack
from tests.harness.terminal import Terminal

pytestmark = pytest.mark.e2e


def _baresip(outside: OutsideHost, workdir: Path) -> Baresip:
    settings = Settings(
        workdir, outside.address, colour="20c040", tone_hz=600, trace=True, prefix=outside.prefix()
    )
    return Baresip(settings)


def test_a_terminal_and_a_browser_on_another_host_see_and_hear_each_other(
    published: RunningStack, outside: OutsideHost, tmp_path: Path, pictures: Path
) -> None:
    page = f"https://{outside.reaches}/outside"
    with (
        BrowserParticipant(outside.prefix(), page, "Ada", tmp_path / "ada") as ada,
        _baresip(outside, tmp_path / "baresip") as baresip,
    ):
        setup_s = baresip.dial(f"sip:outside@{outside.reaches}")
        ada.wait_sees("Baresip", "20c040")
        ada.wait_hears("Baresip", 600)
        colour = mean_colour(baresip.snapshot())
        assert colour_distance(colour, "c03020") <= 40, f"baresip sees #{colour}, not the browser's red"
        ada.screenshot(pictures / "published.png")
        connections = ada.seen[-1]["connections"]
        baresip.hang_up()
        ada.wait(lambda r: ada.of(r, "Baresip") is None, 45, "baresip has left the room")
        samples, rate = read_wav(baresip.recording())
        answer = _answer(baresip.log)
    level = tone_level_db(samples[-3 * rate :], rate, 800)
    assert level > -40, f"baresip's recording has the browser's 800 Hz at {level:.0f} dB only"
    named = set(re.findall(r"^[co]=.*IN IP4 (\S+)", answer, re.MULTILINE))
    assert named == {outside.reaches}, f"the SDP answer names {named}:\n{answer}"
    assert connections
    assert all(one["ice"] in ("connected", "completed") for one in connections), connections
    assert {one["remote_address"] for one in connections} == {outside.reaches}, connections
    print(f"answered after {setup_s * 1000:.0f} ms")


def _answer(log: str) -> str:
    """The body of the last 200 to an INVITE in a SIP trace of baresip."""
    parts = re.split(r"SIP/2\.0 200 OK\r?\n", log)[1:]
    found = [part for part in parts if re.search(r"^CSeq: *\d+ INVITE", part, re.MULTILINE | re.IGNORECASE)]
    assert found, f"no 200 to the INVITE in {log[-3000:]}"
    return found[-1][found[-1].index("v=0") :].split("\n\n", 1)[0]


def test_nothing_else_of_the_stack_is_reached_from_another_host(
    published: RunningStack, outside: OutsideHost
) -> None:
    assert outside.reaches_tcp(outside.reaches, 443)
    assert outside.reaches_tcp(outside.reaches, 5060)
    demo = published.replicas("conference-demo")[0]["address"]
    assert not outside.reaches_tcp(outside.reaches, 8188), "Janus' own port"
    assert not outside.reaches_tcp(demo, 443), "the page's address on the bridge"
    assert not outside.reaches_tcp(published.replicas("kamailio")[0]["address"], AGENT_PORT), "an agent"


def test_a_call_from_inside_the_stack_to_its_published_address_works(
    published: RunningStack, outside: OutsideHost
) -> None:
    summary = summary_of(
        published.smd("call", "hairpin", "--to", outside.reaches, "--json", "--seconds", "8")
    )
    assert summary["verdict"] == "ok", summary


def test_a_terminal_inside_and_one_outside_meet(
    published: RunningStack, outside: OutsideHost, tmp_path: Path
) -> None:
    with (
        _baresip(outside, tmp_path / "baresip") as baresip,
        Terminal(published, "both", "--colour", "1e90ff", "--tone", "500") as inside,
    ):
        baresip.dial(f"sip:both@{outside.reaches}")
        inside.wait_sees("20c040")
        inside.wait_hears(600)
        assert inside.hang_up()["verdict"] == "ok"


def test_the_helper_alone_is_in_the_hosts_network_and_nobody_is_privileged(published: RunningStack) -> None:
    containers = published.containers()
    name = f"smd-{published.name}-"
    roles = {one["Name"].strip("/").removeprefix(name).rsplit("-", 1)[0] for one in containers}
    assert {"kamailio", "coturn", "gateway", "scaler", "conference-demo", "publish"} <= roles
    allowed = {"NET_ADMIN", "NET_RAW"}
    for one in containers:
        role, confined = one["Name"].strip("/").removeprefix(name), one["HostConfig"]
        assert not confined["Privileged"], role
        assert (confined["NetworkMode"] == "host") == (role == "publish"), role
        assert not confined["PidMode"], role
        assert confined["IpcMode"] != "host", role
        assert confined["CapDrop"] == ["ALL"], role
        bound = {mount["Source"] for mount in one["Mounts"]}
        has_socket = any(source.endswith("docker.sock") for source in bound)
        assert has_socket == role.startswith("scaler-"), f"{role} has {bound}"
        if role.startswith(("gateway-", "scaler-", "conference-demo-")):
            assert not allowed & set(confined["CapAdd"] or ()), role
        assert confined["Memory"] > 0, role


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> Request | None:
        return None


def test_the_page_sends_those_who_come_without_encryption_to_https(published: RunningStack) -> None:
    demo = published.replicas("conference-demo")[0]["address"]
    with pytest.raises(HTTPError) as answer:
        build_opener(_Stay).open(f"http://{demo}/room?name=Ann", timeout=5)
    assert answer.value.code == 308
    assert answer.value.headers["Location"] == f"https://{demo}/room?name=Ann"

"""Process 1 of the lab: makes its network and files, then supervises its units."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.lab.openstack.inside.config import DONE, ETC, LAB, LOG, PUBLIC_BRIDGE, RUN, STARTED, Cloud, files
from tests.lab.openstack.inside.supervisor import Supervisor
from tests.lab.openstack.inside.units import units

UPLINK = "uplink"
_HARDWARE_ADDRESS = "02:00:00:00:00:02"
_DIRECTORIES = ("glance/staging", "glance/tasks", "images", "nova/instances", "neutron", "home")
_SWITCHES = ("ipv4/ip_forward", "bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables")


def read_cloud() -> Cloud:
    """The lab's addresses and secrets, as the host's side wrote them."""
    text = json.loads((LAB / "cloud.json").read_text())
    return Cloud(text["network"], text["gateway"], text["address"], tuple(text["floating"]), text["secrets"])


def main() -> None:
    """Make everything ready and run the units until the lab ends."""
    cloud = read_cloud()
    # What has secrets is root's. The rest is read by daemons that give root up, dnsmasq above all.
    for directory in (ETC, DONE, LAB / "keys"):
        directory.mkdir(mode=0o700, exist_ok=True)
    for directory in (RUN / "rabbit", RUN / "nova", RUN / "neutron", *map(LAB.joinpath, _DIRECTORIES)):
        directory.mkdir(parents=True, exist_ok=True)
    STARTED.touch()
    for name in ("lxc", "boot", "dnsmasq", "images"):
        (Path("/var/lib/libvirt") / name).mkdir(exist_ok=True)
    _keep_the_logs_before()
    for name, text in files(cloud).items():
        (ETC / name).write_text(text)
    _make_network(cloud)
    Supervisor(units(cloud), LOG, DONE, LAB / "progress").run()


def _keep_the_logs_before() -> None:
    shutil.rmtree(LOG.with_name("log.before"), ignore_errors=True)
    if LOG.exists():
        LOG.rename(LOG.with_name("log.before"))
    LOG.mkdir(mode=0o700)


def _make_network(cloud: Cloud) -> None:
    _ip("link", "set", "lo", "up")
    # A bridge without a hardware address of its own takes the lowest of its ports': another one when a router
    # comes or goes, and for half a minute the host would send what is for the API to the one before.
    _ip("link", "add", PUBLIC_BRIDGE, "address", _HARDWARE_ADDRESS, "type", "bridge")
    _ip("link", "set", PUBLIC_BRIDGE, "addrgenmode", "none")
    _ip("addr", "add", f"{cloud.address}/24", "dev", PUBLIC_BRIDGE)
    _ip("link", "set", PUBLIC_BRIDGE, "up")
    for switch in _SWITCHES:
        (Path("/proc/sys/net") / switch).write_text("1")
    # The host's side puts it here; it may have been killed in between, and be started again.
    while not Path("/sys/class/net", UPLINK).exists():
        time.sleep(0.02)
    _ip("link", "set", UPLINK, "addrgenmode", "none")
    _ip("link", "set", UPLINK, "master", PUBLIC_BRIDGE, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    # Until the supervisor waits for it: a namespace's first process does not end when asked, by itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except (OSError, subprocess.CalledProcessError, KeyError, ValueError) as e:
        sys.exit(f"the lab can't be started: {e}")

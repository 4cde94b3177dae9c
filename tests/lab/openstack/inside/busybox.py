"""Makes the smallest instance: 24 MB with busybox, which says what it is on port 8080."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab.openstack.inside.config import LAB

IMAGE = LAB / "busybox.raw"
MAKE_EXT4 = ("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-d")
"""Makes an image of a root file system: then comes its directory, the file, and the size."""
_SIZE = "24M"
_PROGRAMS = (
    *(
        "awk",
        "cat",
        "chmod",
        "cp",
        "cut",
        "date",
        "df",
        "echo",
        "env",
        "false",
        "free",
        "grep",
        "head",
        "hostname",
    ),
    *("httpd", "ifconfig", "ip", "kill", "ln", "ls", "mkdir", "mount", "nc", "nslookup", "ping", "poweroff"),
    *("ps", "reboot", "rm", "route", "sed", "sh", "sleep", "sort", "tail", "timeout", "top", "touch", "true"),
    *("tr", "udhcpc", "umount", "wc", "wget"),
)

# Called by udhcpc with what the DHCP server gave. Option 121 (staticroutes) is how the metadata service is
# reached where there is no router.
_LEASE = """#!/bin/sh
case $1 in
deconfig) ip link set "$interface" up ;;
bound | renew)
    ip addr flush dev "$interface"
    ip addr add "$ip/${mask:-24}" dev "$interface"
    for gateway in $router; do
        ip route replace default via "$gateway" dev "$interface"
        break
    done
    set -- $staticroutes
    while [ $# -ge 2 ]; do
        [ "$1" = 0.0.0.0/0 ] || ip route replace "$1" via "$2" dev "$interface"
        shift 2
    done
    ;;
esac
"""

# What it serves: /id (the server's UUID), /name, and whatever user_data, a script, puts into /www.
_INIT = """#!/bin/sh
export PATH=/bin
url=http://169.254.169.254/openstack/latest
ip link set lo up
for path in /sys/class/net/*; do
    device=${path##*/}
    [ "$device" = lo ] && continue
    ip link set "$device" up
    udhcpc -i "$device" -n -q -t 20 -T 1 -O staticroutes -s /lease
done
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    timeout 3 wget -q -O /run/metadata "$url/meta_data.json" && break
    sleep 0.5
done
value() { sed -n "s/.*\\"$1\\": \\"\\([^\\"]*\\)\\".*/\\1/p" /run/metadata; }
value uuid >/www/id
value name >/www/name
if timeout 5 wget -q -O /run/user_data "$url/user_data"; then
    chmod +x /run/user_data
    /run/user_data
fi
exec httpd -f -p 8080 -h /www
"""


def main() -> None:
    """Make the image's file."""
    new, root = IMAGE.with_suffix(".new"), LAB / "busybox.root"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "dev", "etc", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "www"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in _PROGRAMS:
        (root / "bin" / name).symlink_to("busybox")
    _script(root / "lease", _LEASE)
    _script(root / "sbin/init", _INIT)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    new.unlink(missing_ok=True)
    make = [*MAKE_EXT4, str(root), str(new), _SIZE]
    subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
    shutil.rmtree(root)
    new.replace(IMAGE)


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as e:
        sys.exit(f"the image can't be made: {e}")

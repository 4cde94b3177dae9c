"""Makes one of the lab's databases from nothing: ``python3 -m …databases server|keystone|nova|…``.

A run that was interrupted is never continued: each begins by dropping what is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

from tests.lab.openstack.inside.config import ETC, LAB, REGION, SOCKET, database_url
from tests.lab.openstack.inside.init import read_cloud


def make_server() -> None:
    """The data directory of MariaDB."""
    target, new = LAB / "db", LAB / "db.new"
    for directory in (target, new):
        shutil.rmtree(directory, ignore_errors=True)
    options = ["--user=root", "--skip-test-db", "--auth-root-authentication-method=normal"]
    _run(["mariadb-install-db", "--no-defaults", f"--datadir={new}", *options])
    new.rename(target)


def make_keystone() -> None:
    """Keystone's database and keys, and its first user, role, project and endpoint."""
    _recreate("keystone")
    shutil.rmtree(LAB / "keys", ignore_errors=True)
    (LAB / "keys").mkdir(mode=0o700)
    manage = ["keystone-manage", "--config-file", str(ETC / "keystone.conf")]
    owner = ["--keystone-user", "root", "--keystone-group", "root"]
    _run([*manage, "db_sync"])
    _run([*manage, "fernet_setup", *owner])
    _run([*manage, "credential_setup", *owner])
    cloud = read_cloud()
    url = f"{cloud.url('identity')}/v3"
    urls = [word for kind in ("admin", "internal", "public") for word in (f"--bootstrap-{kind}-url", url)]
    # The password comes by the environment: a command line is for all to see.
    bootstrap = {"OS_BOOTSTRAP_PASSWORD": cloud.secrets["admin"]}
    _run([*manage, "bootstrap", "--bootstrap-region-id", REGION, *urls], bootstrap)


def make_nova() -> None:
    """Nova's three databases, and its one cell."""
    _recreate("nova_api", "nova_cell0", "nova_cell1")
    manage = ["nova-manage", "--config-file", str(ETC / "nova.conf")]
    _run([*manage, "api_db", "sync"])
    _run([*manage, "cell_v2", "map_cell0", "--database_connection", database_url("nova_cell0")])
    _run([*manage, "cell_v2", "create_cell", "--name", "cell1"])
    _run([*manage, "db", "sync"])


def make_neutron() -> None:
    """Neutron's database."""
    _recreate("neutron")
    files = ["--config-file", str(ETC / "neutron.conf"), "--config-file", str(ETC / "ml2.ini")]
    _run(["neutron-db-manage", *files, "upgrade", "heads"])


def make_placement() -> None:
    """Placement's database."""
    _recreate("placement")
    _run(["placement-manage", "--config-file", str(ETC / "placement.conf"), "db", "sync"])


def make_glance() -> None:
    """Glance's database, and no image."""
    _recreate("glance")
    _run(["glance-manage", "--config-file", str(ETC / "glance.conf"), "db_sync"])


def _recreate(*names: str) -> None:
    statements = "".join(
        f"drop database if exists {name}; create database {name} character set utf8mb3;" for name in names
    )
    _run(["mariadb", "--no-defaults", f"--socket={SOCKET}", "-e", statements])


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})})


_MAKERS: dict[str, Callable[[], None]] = {
    "server": make_server,
    "keystone": make_keystone,
    "nova": make_nova,
    "neutron": make_neutron,
    "placement": make_placement,
    "glance": make_glance,
}

if __name__ == "__main__":
    try:
        _MAKERS[sys.argv[1]]()
    except subprocess.CalledProcessError as e:
        sys.exit(f"{e.cmd[0]} ended with code {e.returncode}")

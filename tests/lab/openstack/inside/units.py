"""What makes up the cloud: each task and service, what it waits for, and when it is ready. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.lab.openstack.inside.config import ETC, LAB, METADATA_SOCKET, PORTS, RUN, SOCKET, Cloud


@dataclass(frozen=True, slots=True)
class Ready:
    """When a service can be used. All that is given must hold."""

    tcp: tuple[str, int] | None = None
    """Something accepts connections there."""
    unix: str | None = None
    """Something accepts connections at this socket."""
    http: str | None = None
    """An HTTP server answers there, with whatever status."""
    line: str | None = None
    """Stands in the unit's log."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A program of the lab."""

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    """Units that must be ready (services) or done (tasks) before this one is started."""
    once: bool = False
    """A task that is done once in the life of a cloud."""
    ready: Ready | None = None
    """None: a task, which is over when it has ended with code 0."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_service(self) -> bool:
        """Whether it is meant to run for as long as the lab does."""
        return self.ready is not None


ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    # Kept: it has the cache of Python's entry points, without which each service looks into 300 packages.
    "HOME": str(LAB / "home"),
    "LANG": "C.UTF-8",
    "EVENTLET_NO_GREENDNS": "yes",  # all addresses are numbers, and its DNS costs each service 0.1 s
    "PYTHONPATH": "/opt/lab",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OS_CLIENT_CONFIG_FILE": str(ETC / "clouds.yaml"),
    "OS_CLOUD": "lab-admin",
    "OS_KEYSTONE_CONFIG_DIR": str(ETC),
    "OS_KEYSTONE_CONFIG_FILES": "keystone.conf",
    "OS_PLACEMENT_CONFIG_DIR": str(ETC),
}


def units(cloud: Cloud) -> list[Unit]:
    """All of them, each after those that it waits for."""
    return [*_ground(), *_databases(), *_apis(cloud), *_compute(), *_agents(cloud)]


def is_ordered(some: list[Unit]) -> bool:
    """Whether each unit stands after all that it waits for, so that none waits for ever."""
    seen: set[str] = set()
    for unit in some:
        if not set(unit.after) <= seen or unit.name in seen:
            return False
        seen.add(unit.name)
    return True


def _python(name: str, module: str, *arguments: str, after: tuple[str, ...], once: bool) -> Unit:
    command = ("/usr/bin/python3", "-m", f"tests.lab.openstack.inside.{module}", *arguments)
    return Unit(name, command, after=after, once=once)


def _ground() -> list[Unit]:
    mariadb = (
        *("/usr/sbin/mariadbd", "--no-defaults", "--user=root", f"--datadir={LAB / 'db'}"),
        *(f"--socket={SOCKET}", "--skip-networking", "--skip-grant-tables", "--skip-name-resolve"),
        *("--character-set-server=utf8mb3", "--max-connections=400", "--innodb-buffer-pool-size=128M"),
        # Each commit goes to the kernel, and never waits for the disk: killed at any point nothing is lost.
        # Only a machine that loses power may leave databases that `up --fresh` must make anew.
        *("--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync"),
    )
    rabbit = {
        "HOME": str(RUN / "rabbit"),
        "RABBITMQ_NODENAME": "lab@localhost",
        # In memory: what was under way when a lab ended means nothing to the next one.
        "RABBITMQ_MNESIA_BASE": str(RUN / "rabbit"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(RUN / "rabbit/plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(ETC / "rabbitmq"),
        "RABBITMQ_PID_FILE": str(RUN / "rabbit/pid"),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
    }
    return [
        _python("make-mariadb", "databases", "server", after=(), once=True),
        Unit("mariadb", mariadb, after=("make-mariadb",), ready=Ready(unix=str(SOCKET))),
        Unit(
            "rabbitmq",
            ("/usr/lib/rabbitmq/bin/rabbitmq-server",),
            ready=Ready(tcp=("127.0.0.1", 5672)),
            environment=rabbit,
        ),
        _python("make-busybox", "busybox", after=(), once=True),
    ]


def _databases() -> list[Unit]:
    return [
        _python(f"make-{name}", "databases", name, after=("mariadb",), once=True)
        for name in ("keystone", "neutron", "nova", "placement", "glance")
    ]


def _apis(cloud: Cloud) -> list[Unit]:
    return [
        _wsgi(cloud, "keystone", "identity", "keystone-wsgi-public"),
        _python("make-users", "setup", "users", after=("keystone",), once=True),
        Unit(
            "neutron-server",
            ("/usr/bin/neutron-server", *_config("neutron.conf", "ml2.ini")),
            # It asks neither for a token nor for its user until a request comes.
            after=("make-neutron", "rabbitmq"),
            ready=Ready(http=cloud.url("network")),
        ),
        _wsgi(cloud, "placement", "placement", "placement-api"),
        Unit(
            "glance",
            ("/usr/bin/glance-api", *_config("glance.conf")),
            after=("make-glance",),
            ready=Ready(http=cloud.url("image")),
        ),
        Unit(
            "nova-api",
            ("/usr/bin/nova-api", *_config("nova.conf")),
            after=("make-nova", "rabbitmq", "make-users"),
            ready=Ready(http=cloud.url("compute")),
        ),
        _python(
            "make-cloud",
            "setup",
            "cloud",
            after=("make-users", "make-busybox", "neutron-server", "glance", "nova-api"),
            once=True,
        ),
    ]


def _compute() -> list[Unit]:
    nova = ("make-nova", "rabbitmq", "make-users")
    return [
        Unit("virtlogd", ("/usr/sbin/virtlogd",), ready=Ready(unix="/run/libvirt/virtlogd-sock")),
        Unit(
            "libvirtd",
            ("/usr/sbin/libvirtd",),
            after=("virtlogd",),
            ready=Ready(unix="/run/libvirt/libvirt-sock"),
        ),
        Unit(
            "nova-conductor",
            ("/usr/bin/nova-conductor", *_config("nova.conf")),
            after=nova,
            ready=Ready(line="Starting conductor node"),
        ),
        Unit(
            "nova-scheduler",
            ("/usr/bin/nova-scheduler", *_config("nova.conf")),
            after=nova,
            ready=Ready(line="Starting scheduler node"),
        ),
        Unit(
            "nova-compute",
            ("/usr/bin/nova-compute", *_config("nova-compute.conf")),
            # It asks the conductor first, and waits 10 s before it asks again.
            after=("libvirtd", "nova-conductor", "placement", "keystone", "make-users"),
            ready=Ready(line="Starting compute node"),
        ),
    ]


def _agents(cloud: Cloud) -> list[Unit]:
    # The L3 agent ends when Neutron does not answer its first question.
    after = ("neutron-server", "rabbitmq")
    agents = {
        "linuxbridge-agent": ("ml2.ini", Ready(line="Agent initialized successfully")),
        "l3-agent": ("l3.ini", Ready(line="L3 agent started")),
        "dhcp-agent": ("dhcp.ini", Ready(line="DHCP agent started")),
        "metadata-agent": ("metadata.ini", Ready(unix=str(METADATA_SOCKET))),
    }
    started = [
        Unit(
            name,
            (f"/usr/bin/neutron-{name}", *_config("neutron.conf", file)),
            after=after,
            ready=ready,
        )
        for name, (file, ready) in agents.items()
    ]
    all_of_them = (*agents, "nova-compute", "nova-scheduler", "make-cloud", "glance", "nova-api")
    return [*started, _python("whole", "setup", "wait", after=all_of_them, once=False)]


def _wsgi(cloud: Cloud, name: str, service: str, application: str) -> Unit:
    # No master process: the lab's supervisor is one.
    command = (
        *("/usr/bin/uwsgi", "--plugin", "python3", "--need-app", "--die-on-term", "--enable-threads"),
        *("--threads", "4", "--buffer-size", "65535", "--add-header", "Connection: close"),
        *("--disable-logging", "--http-socket", f"{cloud.address}:{PORTS[service]}"),
        *("--wsgi-file", f"/usr/bin/{application}"),
    )
    return Unit(name, command, after=(f"make-{name}",), ready=Ready(http=cloud.url(service)))


def _config(*files: str) -> tuple[str, ...]:
    return tuple(word for name in files for word in ("--config-file", str(ETC / name)))

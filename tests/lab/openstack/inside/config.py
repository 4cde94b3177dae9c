"""The configuration files of the lab's services, from the API's address and the secrets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Section = Mapping[str, object]
Config = Mapping[str, Section]

LAB = Path("/lab")
ETC, LOG, DONE = LAB / "etc", LAB / "log", LAB / "done"
RUN = Path("/run/lab")
STARTED = RUN / "started"
"""A file whose time is the lab's start."""
SOCKET = RUN / "mariadb.sock"
METADATA_SOCKET = RUN / "metadata.sock"
REGION = "RegionOne"
HOST = "lab"
PUBLIC_BRIDGE = "brpub"
PORTS = {"identity": 5000, "placement": 8778, "image": 9292, "compute": 8774, "network": 9696}
_PATIENCE_S = 180  # on a busy machine the first of each thing takes long
SERVICE_TYPES = {
    "placement": ("placement", ""),
    "glance": ("image", ""),
    "nova": ("compute", "/v2.1"),
    "neutron": ("network", ""),
}
"""The services' users: what each is in the catalogue, and the path of its API."""
SECRETS = ("admin", "lab", "service", "metadata", "rabbit")


@dataclass(frozen=True, slots=True)
class Cloud:
    """What the configuration depends on."""

    network: str
    """The public network, as in "198.18.77.0/24"."""
    gateway: str
    """The host's address on it."""
    address: str
    """The API's address on it."""
    floating: tuple[str, str]
    """The first and the last floating IP."""
    secrets: Mapping[str, str]
    """A password for each of ``SECRETS``."""

    def url(self, service: str) -> str:
        """The address of a service's API, without a path."""
        return f"http://{self.address}:{PORTS[service]}"


def database_url(name: str) -> str:
    """SQLAlchemy's URL of a database. Only the lab's own processes reach the socket."""
    return f"mysql+pymysql://root@localhost/{name}?unix_socket={SOCKET}&charset=utf8mb4"


def render(config: Config) -> str:
    """The text of a file for oslo.config."""
    sections = (
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in section.items())
        for name, section in config.items()
    )
    return "\n".join(sections)


def files(cloud: Cloud) -> dict[str, str]:
    """All configuration files by name."""
    configs = {
        "keystone.conf": _keystone(),
        "placement.conf": _placement(cloud),
        "glance.conf": _glance(cloud),
        "nova.conf": _nova(cloud),
        "nova-compute.conf": _nova_compute(cloud),
        "neutron.conf": _neutron(cloud),
        "ml2.ini": _ml2(),
        "l3.ini": _l3(),
        "dhcp.ini": _dhcp(),
        "metadata.ini": _metadata(cloud),
    }
    return {name: render(config) for name, config in configs.items()} | {"rabbitmq.conf": _rabbit(cloud)}


def _login(cloud: Cloud, user: str) -> Section:
    """How a service logs in at Keystone (keystoneauth's options)."""
    return {
        "auth_type": "password",
        "auth_url": f"{cloud.url('identity')}/v3",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "project_name": "service",
        "username": user,
        "password": cloud.secrets["service"],
        "region_name": REGION,
    }


def _api(cloud: Cloud, user: str) -> Config:
    """What all APIs have: how they check their callers' tokens, and that nobody is notified."""
    return {
        "keystone_authtoken": {
            **_login(cloud, user),
            "www_authenticate_uri": cloud.url("identity"),
            "service_token_roles": "service",
            "service_token_roles_required": "true",
        },
        "oslo_messaging_notifications": {"driver": "noop"},
    }


def _messages(cloud: Cloud) -> Section:
    return {
        "transport_url": f"rabbit://lab:{cloud.secrets['rabbit']}@127.0.0.1:5672/",
        "rpc_response_timeout": _PATIENCE_S,
    }


def _rabbit(cloud: Cloud) -> str:
    settings = {
        "listeners.tcp.local": "127.0.0.1:5672",
        "default_user": "lab",
        "default_pass": cloud.secrets["rabbit"],
        "log.file": "false",
        "log.console": "true",
        "log.console.level": "warning",
    }
    return "".join(f"{key} = {value}\n" for key, value in settings.items())


def _keystone() -> Config:
    return {
        "database": {"connection": database_url("keystone")},
        # Each of the services logs in: at the default cost of a hash that is 0.3 s of a processor each time.
        "identity": {"password_hash_rounds": 4, "max_password_length": 72},
        "token": {"provider": "fernet", "expiration": 86400},
        "fernet_tokens": {"key_repository": LAB / "keys/fernet"},
        "credential": {"key_repository": LAB / "keys/credential"},
        "oslo_messaging_notifications": {"driver": "noop"},
    }


def _placement(cloud: Cloud) -> Config:
    return {
        "api": {"auth_strategy": "keystone"},
        "placement_database": {"connection": database_url("placement")},
        **_api(cloud, "placement"),
    }


def _glance(cloud: Cloud) -> Config:
    return {
        "DEFAULT": {
            "bind_host": cloud.address,
            "bind_port": PORTS["image"],
            "workers": 0,  # one process is enough
            "enabled_backends": "local:file",
        },
        "database": {"connection": database_url("glance")},
        "glance_store": {"default_backend": "local"},
        # Holes stay holes: an image takes the room of its content.
        "local": {"filesystem_store_datadir": LAB / "images", "filesystem_thin_provisioning": "true"},
        "os_glance_staging_store": {"filesystem_store_datadir": LAB / "glance/staging"},
        "os_glance_tasks_store": {"filesystem_store_datadir": LAB / "glance/tasks"},
        "paste_deploy": {
            "flavor": "keystone",
            "config_file": "/usr/share/glance-common/glance-api-paste.ini",
        },
        **_api(cloud, "glance"),
    }


def _nova(cloud: Cloud) -> Config:
    return {
        "DEFAULT": {
            "my_ip": cloud.address,
            "host": HOST,
            "state_path": LAB / "nova",
            **_messages(cloud),
            "enabled_apis": "osapi_compute,metadata",
            "osapi_compute_listen": cloud.address,
            "osapi_compute_workers": 1,
            "metadata_listen": "127.0.0.1",
            "metadata_workers": 1,
            "compute_driver": "libvirt.LibvirtDriver",
            "resume_guests_state_on_host_boot": "true",
            "shutdown_timeout": 5,
            "periodic_fuzzy_delay": 0,  # a spread over the first minute, for many hosts
            "vif_plugging_timeout": _PATIENCE_S,
            "force_raw_images": "true",
            "use_cow_images": "false",
            "rootwrap_config": "/etc/nova/rootwrap.conf",
            # Small machines: what a flavour says is a limit here, and no reservation.
            "cpu_allocation_ratio": 64,
            "ram_allocation_ratio": 16,
            "disk_allocation_ratio": 16,
            "reserved_host_memory_mb": 0,
        },
        "api": {"auth_strategy": "keystone"},
        "wsgi": {"api_paste_config": "/usr/share/nova-common/api-paste.ini"},
        "database": {"connection": database_url("nova_cell1")},
        "api_database": {"connection": database_url("nova_api")},
        "conductor": {"workers": 1},
        "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 2},
        "oslo_concurrency": {"lock_path": RUN / "nova"},
        "glance": {"api_servers": cloud.url("image")},
        "placement": _login(cloud, "placement"),
        "neutron": {
            **_login(cloud, "neutron"),
            "service_metadata_proxy": "true",
            "metadata_proxy_shared_secret": cloud.secrets["metadata"],
        },
        "service_user": {**_login(cloud, "nova"), "send_service_user_token": "true"},
        "quota": dict.fromkeys(("instances", "cores", "ram", "server_groups", "key_pairs"), -1),
        "vnc": {"enabled": "false"},
        "spice": {"enabled": "false"},
        "libvirt": {
            "virt_type": "lxc",
            "cpu_mode": "none",
            "images_type": "raw",
            "snapshot_image_format": "raw",
        },
        **_api(cloud, "nova"),
    }


def _nova_compute(cloud: Cloud) -> Config:
    """The compute service has no databases: it asks the conductor."""
    return {name: values for name, values in _nova(cloud).items() if not name.endswith("database")}


def _neutron(cloud: Cloud) -> Config:
    unlimited = ("network", "subnet", "router", "port", "floatingip", "security_group", "security_group_rule")
    return {
        "DEFAULT": {
            "host": HOST,
            "bind_host": cloud.address,
            "core_plugin": "ml2",
            "service_plugins": "router",
            "api_workers": 1,
            "rpc_workers": 1,
            "rpc_state_report_workers": 0,
            "state_path": LAB / "neutron",
            **_messages(cloud),
            "api_paste_config": "/usr/share/neutron-common/api-paste.ini",
            "auth_strategy": "keystone",
            "dhcp_agents_per_network": 1,
            "interface_driver": "linuxbridge",
        },
        "database": {"connection": database_url("neutron")},
        "nova": _login(cloud, "nova"),
        "placement": _login(cloud, "placement"),
        "agent": {"report_interval": 10},
        "oslo_concurrency": {"lock_path": RUN / "neutron"},
        # Zed has moved this driver to the experiments. It is the one that needs no module but the bridge's.
        "experimental": {"linuxbridge": "true"},
        "quotas": dict.fromkeys((f"quota_{name}" for name in unlimited), -1),
        **_api(cloud, "neutron"),
    }


def _ml2() -> Config:
    return {
        "ml2": {
            "type_drivers": "flat,local",
            "tenant_network_types": "local",
            "mechanism_drivers": "linuxbridge",
            "extension_drivers": "port_security",
        },
        "ml2_type_flat": {"flat_networks": "public"},
        "linux_bridge": {"bridge_mappings": f"public:{PUBLIC_BRIDGE}"},
        "vxlan": {"enable_vxlan": "false"},
        "securitygroup": {
            "enable_security_group": "true",
            "enable_ipset": "true",
            "firewall_driver": "iptables",
        },
    }


def _l3() -> Config:
    return {
        "DEFAULT": {
            "agent_mode": "legacy",
            "metadata_proxy_socket": METADATA_SOCKET,
            "external_pids": RUN / "pids",
        }
    }


def _dhcp() -> Config:
    # A network without a router has its metadata from the DHCP agent.
    return {"DEFAULT": {"enable_isolated_metadata": "true", "metadata_proxy_socket": METADATA_SOCKET}}


def _metadata(cloud: Cloud) -> Config:
    return {
        "DEFAULT": {
            "nova_metadata_host": "127.0.0.1",
            "nova_metadata_port": 8775,
            "metadata_proxy_shared_secret": cloud.secrets["metadata"],
            "metadata_proxy_socket": METADATA_SOCKET,
            "metadata_workers": 1,
        }
    }

"""What the demo conference's role renders."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from sipmediadeploy.node.roles.conference_demo.role import ConferenceDemoRole
from sipmediadeploy.protocol.replica import ConferenceDemoService
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.stack import Role, parse_stack

SUBNET = IPv4Network("172.30.5.0/24")


def rendered(stack: str) -> dict[Path, str]:
    document = make_document(
        parse_stack(stack),
        SUBNET,
        Secrets(master="master"),
        "v",
        Role.CONFERENCE_DEMO,
        0,
        "x-conference-demo-0",
    )
    assert isinstance(document.service, ConferenceDemoService)
    files = ConferenceDemoRole(document, document.service).render()
    return {path: file.content for path, file in files.items()}


PLAIN = "name: demo\ndomain: sip.test\n"
PUBLISHED = PLAIN + "publish: 198.18.0.5\n"


def test_janus_is_reached_in_the_stacks_network_only() -> None:
    files = rendered(PLAIN)
    assert 'ws_ip = "172.30.5.9"' in files[Path("/run/smd/janus/janus.transport.websockets.jcfg")]
    assert "proxy_pass http://172.30.5.9:8188/;" in files[Path("/run/smd/nginx/nginx.conf")]


def test_a_published_conference_tells_both_addresses() -> None:
    config = rendered(PUBLISHED)[Path("/run/smd/janus/janus.jcfg")]
    assert 'nat_1_1_mapping = "198.18.0.5"' in config
    assert "keep_private_host = true" in config
    assert "nat_1_1_mapping" not in rendered(PLAIN)[Path("/run/smd/janus/janus.jcfg")]


@pytest.mark.parametrize("stack", [PLAIN, PUBLISHED])
def test_no_foreign_server_is_asked_and_no_admin_api_is_on(stack: str) -> None:
    text = "".join(rendered(stack).values())
    assert "stun_server" not in text
    assert "admin_ws = true" not in text
    assert 'rtp_port_range = "40000-40399"' in text


@pytest.mark.parametrize(("stack", "address"), [(PLAIN, "172.30.5.9"), (PUBLISHED, "198.18.0.5")])
def test_the_page_is_a_secure_context_at_the_address_that_users_open(stack: str, address: str) -> None:
    files = rendered(stack)
    assert f"subjectAltName = IP:{address}\n" in files[Path("/run/smd/nginx/certificate.cnf")]
    nginx = files[Path("/run/smd/nginx/nginx.conf")]
    assert "listen 0.0.0.0:443 ssl;" in nginx
    assert f"listen {IPv4Address(0)}:80;\n        return 308 https://$host$request_uri;" in nginx

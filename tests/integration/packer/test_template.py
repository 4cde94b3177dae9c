"""The Packer template is valid for Debian's Packer, which also asks the cloud for a token."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

PACKER = Path(__file__).resolve().parents[3] / "deploy" / "packer"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("packer") is None, reason="packer is not installed"),
]
GIVEN = {
    "role": "conference-demo",
    "version": "0.1.0-0123456789ab",
    "commit": "0123456789abcdef",
    "flavor": "small",
    "network": "11111111-1111-1111-1111-111111111111",
}


class Keystone(BaseHTTPRequestHandler):
    """Gives everybody a token, and a catalogue whose services nobody asks for a validation."""

    def do_GET(self) -> None:
        self._answer(200, {"version": {"id": "v3.14", "status": "stable", "links": []}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        url = f"http://{self.headers['Host']}/"
        catalog = [
            {
                "type": kind,
                "name": kind,
                "id": kind,
                "endpoints": [
                    {"id": kind, "interface": "public", "region": "r", "region_id": "r", "url": url + kind}
                ],
            }
            for kind in ("compute", "image", "network", "volumev3")
        ]
        token = {"catalog": catalog, "expires_at": "2100-01-01T00:00:00.000000Z", "methods": ["password"]}
        self._answer(201, {"token": token})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("X-Subject-Token", "token")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def cloud() -> Iterator[dict[str, str]]:
    """The environment that names a cloud."""
    server = HTTPServer(("127.0.0.1", 0), Keystone)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "OS_AUTH_URL": f"http://127.0.0.1:{server.server_port}/v3",
        "OS_USERNAME": "u",
        "OS_PASSWORD": "p",
        "OS_PROJECT_NAME": "p",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": "r",
    }
    server.shutdown()


def packer(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OS_", "PKR_"))}
    return subprocess.run(
        ["packer", *words],
        env={**clean, "CHECKPOINT_DISABLE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def given(**values: str) -> list[str]:
    # The program is asked for its version only.
    playbook = shutil.which("ansible-playbook") or str(Path(sys.executable).with_name("ansible-playbook"))
    return [
        word
        for name, value in {**values, "ansible_playbook": playbook}.items()
        for word in ("-var", f"{name}={value}")
    ]


def test_the_template_is_valid(cloud: dict[str, str]) -> None:
    result = packer("validate", *given(**GIVEN), str(PACKER), **cloud)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("missing", sorted(GIVEN))
def test_what_must_be_given_has_no_default(cloud: dict[str, str], missing: str) -> None:
    some = {name: value for name, value in GIVEN.items() if name != missing}
    result = packer("validate", *given(**some), str(PACKER), **cloud)
    assert result.returncode != 0
    assert missing in result.stdout + result.stderr


def test_the_template_is_in_packers_own_format() -> None:
    result = packer("fmt", "-check", "-diff", str(PACKER))
    assert result.returncode == 0, result.stdout + result.stderr


def test_what_only_current_packers_know_is_in_a_directory_of_its_own() -> None:
    assert "required_plugins" not in (PACKER / "image.pkr.hcl").read_text()
    assert "required_plugins" in (PACKER / "current" / "plugins.pkr.hcl").read_text()

"""What a scaler's agent makes of what the scaler wrote."""

from __future__ import annotations

import json
import os
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from sipmediadeploy.node.roles.scaler.role import ScalerRole
from sipmediadeploy.protocol.secrets import Secrets
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.stack import Role, parse_stack

STACK = parse_stack("name: demo\ndomain: sip.example.org")
DOCUMENT = make_document(
    STACK, IPv4Network("172.30.9.0/24"), Secrets(master="master"), "v1", Role.SCALER, 0, "demo-scaler-0"
)


@pytest.mark.parametrize(
    ("told", "ok", "words"),
    [
        ({"leading": True, "leader": "demo-scaler-0", "term": 3, "paused": False}, True, "leads, term 3"),
        ({"leading": False, "leader": "other", "term": 0, "paused": False}, True, "stands by; other leads"),
        (
            {"leading": False, "leader": "other", "term": 0, "paused": False, "blind": "it sees nothing"},
            False,
            "scaler: it sees nothing",
        ),
    ],
)
async def test_a_scaler_is_well_when_it_sees_the_stack(
    tmp_path: Path, told: dict[str, Any], ok: bool, words: str
) -> None:
    alive = tmp_path / "alive"
    alive.write_text(json.dumps(told))
    health = await ScalerRole(DOCUMENT, alive).check()
    assert (health.ok, health.reason, health.active) == (ok, words, told["leading"])


async def test_a_scaler_whose_loop_hangs_is_not_well(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    assert not (await ScalerRole(DOCUMENT, alive).check()).ok
    alive.write_text("{}")
    os.utime(alive, (1, 1))
    health = await ScalerRole(DOCUMENT, alive).check()
    assert not health.ok
    assert "has made no step" in health.reason

"""A platform that lets nobody in without a token: a real Prosody that verifies it and what it is for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sipmediadeploy.gateway.conference.base import ConferenceUnavailable, Participant, RoomRefused
from sipmediadeploy.gateway.conference.jitsi import token
from sipmediadeploy.gateway.conference.jitsi.driver import JitsiDriver
from sipmediadeploy.gateway.conference.jitsi.token import signer
from sipmediadeploy.protocol.replica import TokenSigning
from tests.harness.waiting import until
from tests.integration.conference.guests import Guest as Caller
from tests.integration.jitsi.focus import Focus
from tests.integration.jitsi.prosody_server import (
    DOMAIN,
    TOKEN_KEY,
    ProsodyServer,
    needs_prosody,
    running_prosody,
)

pytestmark = [pytest.mark.integration, needs_prosody]

SIGNING = TokenSigning(key=TOKEN_KEY, issuer="gateways")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ProsodyServer]:
    async with running_prosody(tmp_path / "prosody", authentication="token") as server:
        yield server


async def join(ann: Caller, focus: Focus, **login: Any) -> None:
    driver = JitsiDriver(focus.access.model_copy(update=login), "test-gateway-0")
    ann.session = await driver.join(Participant("Demo", "Ann"), ann.worker, ann.ended.append)


async def test_each_join_has_a_token_for_its_room_and_name(
    ann: Caller, focus: Focus, server: ProsodyServer, caplog: pytest.LogCaptureFixture
) -> None:
    await join(ann, focus, signing=SIGNING)
    await until("Prosody knows who it is", lambda: "Ann has a token for demo" in server.log)
    assert all(bearer.startswith("Bearer ey") for bearer in focus.bearers), "the focus is told, too"
    assert focus.bearers
    assert "eyJ" not in caplog.text


async def test_a_token_made_elsewhere_is_used_as_it_is(
    ann: Caller, focus: Focus, server: ProsodyServer
) -> None:
    await join(ann, focus, token=signer(SIGNING, DOMAIN, "demo", "Everybody")())
    await until("Prosody knows who it is", lambda: "Everybody has a token for demo" in server.log)


async def test_a_call_comes_back_with_a_fresh_token(
    ann: Caller, focus: Focus, server: ProsodyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token, "LIFETIME_S", 1)  # long over when Prosody has started again
    await join(ann, focus, signing=SIGNING)
    await server.kill()
    await server.start()
    await until("Ann is back", lambda: server.log.count("Ann has a token for demo") > 1)
    assert not ann.ended


@pytest.mark.parametrize("login", [{}, {"signing": SIGNING.model_copy(update={"key": "another key" * 4})}])
async def test_who_has_no_good_token_is_refused(ann: Caller, focus: Focus, login: dict[str, Any]) -> None:
    with pytest.raises(RoomRefused, match="token") as refused:
        await join(ann, focus, **login)
    assert refused.value.status == 403


async def test_a_token_for_another_room_opens_no_door(ann: Caller, focus: Focus) -> None:
    with pytest.raises(RoomRefused):
        await join(ann, focus, token=signer(SIGNING, DOMAIN, "other", "Ann")())


async def test_a_key_that_can_not_sign_is_named(ann: Caller, focus: Focus) -> None:
    with pytest.raises(ConferenceUnavailable, match=r"conference\.jwt\.key_file: it is no private key"):
        await join(ann, focus, signing=TokenSigning(key="-----BEGIN nothing", issuer="gateways"))

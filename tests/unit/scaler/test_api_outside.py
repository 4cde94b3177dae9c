"""The scaler's API from outside: over TLS by the stack's own key, and whoever comes, it stays up."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from pathlib import Path

import aiohttp
import pytest

from sipmediadeploy.protocol.scaler import (
    ScalerAway,
    ScalerClient,
    ScalerError,
    ScalerSilent,
    WrongScaler,
)
from sipmediadeploy.protocol.scaler_tls import client_context
from sipmediadeploy.scaler import api
from sipmediadeploy.scaler.api import served
from sipmediadeploy.scaler.door import Limits
from sipmediadeploy.scaler.journal import Journal
from tests.harness.ports import free_port
from tests.unit.scaler.fake_scaler import FakeScaler, leading, sources
from tests.unit.scaler.serving import HERE, MASTER, TOKEN, serving


@pytest.fixture
def leader() -> FakeScaler:
    return leading()


async def test_an_operator_with_the_secrets_file_sees_and_commands_the_stack(
    leader: FakeScaler, tmp_path: Path
) -> None:
    async with serving(leader, tmp_path) as where, where.client() as client:
        now = await client.stack(HERE)
        assert [one.record.name for one in now.replicas] == [record.name for record in leader.records]
        assert (await client.view(HERE)).leading
        await client.command(HERE, "pause")
        assert leader.lease.paused == [True]
        assert [entry.event for entry in (await client.events(HERE)).entries] == ["pause asked"]


@pytest.mark.parametrize(("master", "stack"), [("n" * 43, "demo"), (MASTER, "other")])
async def test_a_client_gives_its_token_to_no_other_stack(
    leader: FakeScaler, tmp_path: Path, master: str, stack: str
) -> None:
    async with serving(leader, tmp_path) as where, where.client(master, stack) as client:
        with pytest.raises(WrongScaler, match="another secrets file"):
            await client.command(HERE, "pause")
    assert leader.lease.paused == []


async def test_a_client_gives_its_token_to_nobody_who_speaks_without_tls(
    leader: FakeScaler, tmp_path: Path
) -> None:
    given, port = sources(leader, Journal("x", tmp_path / "x")), free_port()
    client = ScalerClient(TOKEN, port, client_context(MASTER, "demo"))
    async with served(given, HERE, TOKEN, port), client:
        with pytest.raises(WrongScaler, match="does not speak as a scaler does"):
            await client.view(HERE)


async def test_tls_1_2_is_refused(leader: FakeScaler, tmp_path: Path) -> None:
    old = client_context(MASTER, "demo")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    async with serving(leader, tmp_path) as where, ScalerClient(TOKEN, where.port, old) as client:
        with pytest.raises(ScalerError):
            await client.view(HERE)
        async with where.client() as good:
            await good.view(HERE)


async def test_a_wrong_token_is_refused_and_costs_time(
    leader: FakeScaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "WRONG_TOKEN_S", 0.2)
    async with serving(leader, tmp_path) as where, where.client(token="another") as client:
        began = time.monotonic()
        with pytest.raises(ScalerError, match="bearer token"):
            await client.command(HERE, "pause")
        assert time.monotonic() - began >= 0.2
    assert leader.lease.paused == []


async def test_a_standby_asks_the_leader_itself(leader: FakeScaler, tmp_path: Path) -> None:
    """From outside the address of the leader is of no use."""
    standby = FakeScaler("demo-scaler-1", "demo-scaler-0", leader.records)
    async with serving(standby, tmp_path) as where, where.client() as client:
        given = sources(leader, Journal("demo-scaler-0", tmp_path / "events"))
        async with served(given, HERE, TOKEN, where.inside):
            assert "watch only" in await client.command(HERE, "pause")
            assert (await client.view(HERE)).name == "demo-scaler-0"
            with pytest.raises(ScalerError, match="no replica is named gateway-7"):
                await client.command(HERE, "drain", "gateway-7")
        with pytest.raises(ScalerAway, match="demo-scaler-0"):
            await client.command(HERE, "pause")
        assert (await client.view(HERE)).name == "demo-scaler-1", "it has something to say, too"
        standby.lease.leader = "demo-scaler-1"
        with pytest.raises(ScalerAway, match="no scaler leads"):
            await client.command(HERE, "pause")
    assert leader.lease.paused == [True]
    assert standby.lease.paused == []


@pytest.mark.parametrize(
    "sent", [None, b"GET /v1/scaler HTTP/1.1\r\nHost: x\r\n", b"GET /v1/scaler HTTP/1.1\r\nAuthorization: B"]
)
async def test_who_shows_no_token_is_cut_off(leader: FakeScaler, tmp_path: Path, sent: bytes | None) -> None:
    tls = None if sent is None else client_context(MASTER, "demo")
    async with serving(leader, tmp_path, Limits(stranger_s=0.3)) as where:
        reader, writer = await asyncio.open_connection(HERE, where.port, ssl=tls)
        writer.write(sent or b"")
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_an_answer_may_take_longer_than_showing_the_token(leader: FakeScaler, tmp_path: Path) -> None:
    limits = Limits(stranger_s=0.3)
    async with serving(leader, tmp_path, limits, now_takes_s=0.6) as where, where.client() as client:
        assert (await client.stack(HERE)).replicas


async def test_silent_callers_do_not_keep_operators_out(leader: FakeScaler, tmp_path: Path) -> None:
    """They have all the places, and for a moment only."""
    limits = Limits(places=3, of_one_address=3, stranger_s=0.5)
    async with contextlib.AsyncExitStack() as callers:
        where = await callers.enter_async_context(serving(leader, tmp_path, limits))
        for _ in range(3):
            _, writer = await asyncio.open_connection(HERE, where.port)
            callers.callback(writer.close)
        async with where.client() as client:
            assert (await client.view(HERE)).leading


async def test_one_address_does_not_get_all_places(leader: FakeScaler, tmp_path: Path) -> None:
    limits = Limits(places=8, of_one_address=2, stranger_s=30)
    async with contextlib.AsyncExitStack() as callers:
        where = await callers.enter_async_context(serving(leader, tmp_path, limits))
        readers = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection(HERE, where.port)
            callers.callback(writer.close)
            readers.append(reader)
        assert await readers[2].read() == b"", "it is cut off at once"
        assert not readers[0].at_eof()


@pytest.mark.parametrize(
    ("size", "header", "status"), [(100_000, "", 413), (0, "x" * 10_000, 400)], ids=["body", "header"]
)
async def test_what_is_too_long_is_refused(
    leader: FakeScaler, tmp_path: Path, size: int, header: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "X-More": header}
    async with serving(leader, tmp_path) as where, aiohttp.ClientSession() as session:
        request = session.post(
            f"https://{HERE}:{where.port}/v1/pause",
            data=b" " * size,
            headers=headers,
            ssl=client_context(MASTER, "demo"),
        )
        async with request as answer:
            assert answer.status == status
    assert leader.lease.paused == []


async def test_what_strangers_send_is_in_no_log(
    leader: FakeScaler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(leader, tmp_path) as where:
        for sent in (b"GET /secret\x00 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nsecret\x01 : x\r\n\r\n"):
            reader, writer = await asyncio.open_connection(
                HERE, where.port, ssl=client_context(MASTER, "demo")
            )
            writer.write(sent)
            assert (await reader.readline()).startswith(b"HTTP/1.0 400 ")
            writer.close()
    assert caplog.text == ""


async def test_where_nobody_answers_that_is_said() -> None:
    async with ScalerClient(TOKEN, free_port(), client_context(MASTER, "demo")) as client:
        with pytest.raises(ScalerSilent, match=r"127\.0\.0\.1"):
            await client.view(HERE)

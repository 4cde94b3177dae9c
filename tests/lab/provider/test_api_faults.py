"""What becomes of a stack while the cloud's API does wrong: real loop, provider and lease on a real cloud.

A proxy before the API brings the faults about, so that nobody else in the cloud has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from sipmediadeploy.providers.base import ReplicaRecord
from sipmediadeploy.providers.lease import reserve
from sipmediadeploy.providers.openstack.leftovers import remove_server, remove_stack, servers
from sipmediadeploy.providers.openstack.provider import OpenStackProvider, make_provider
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.stack import Limits, Role, Stack, parse_stack
from tests.harness.waiting import until, until_async
from tests.lab.fault_proxy import Fault
from tests.lab.provider.conftest import PATIENCE, SUBNET, VERSION, Lab
from tests.lab.provider.scalers import MASTER, Pulse, ReadyAgents, Running, leads_doubly, scaling

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

MAKE_SERVER = r"^POST compute \S+/servers$"
MAKE_PORT = r"^POST network \S+/ports$"
QUOTA_OF_NOVA = (
    '{"forbidden": {"code": 403, "message": "Quota exceeded for instances: '
    'Requested 1, but already used 5 of 5 instances"}}'
)
QUOTA_OF_NEUTRON = (
    '{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: '
    '[\'port\'].", "detail": ""}}'
)
AT_ONCE_S = 45.0 * PATIENCE
"""A server is built by then."""


@dataclass(frozen=True, slots=True)
class Town:
    """A stack on the lab that has everything but a gateway; what it does directly, no fault reaches."""

    lab: Lab
    stack: Stack
    provider: OpenStackProvider
    path: Path

    def gateways(self) -> list[str]:
        """The names of the gateways' servers."""
        role = str(Role.GATEWAY)
        found = servers(self.lab.cloud, self.stack.name)
        return sorted(str(s["name"]) for s in found if s["metadata"]["smd.role"] == role)

    def ports(self) -> list[str]:
        """The names of the gateways' ports."""
        return [m for m in self.lab.marked() if m.startswith(f"port {self.stack.name}-gateway-")]

    def scaling(
        self, slot: int = 0, agents: ReadyAgents | None = None
    ) -> contextlib.AbstractAsyncContextManager[Running]:
        """The scaler in a slot works meanwhile."""
        return scaling(self.lab, self.stack, slot, agents or ReadyAgents(), self.path)

    def remove_gateways(self) -> None:
        """Somebody deletes them by hand."""
        for server in list(servers(self.lab.cloud, self.stack.name)):
            if server["metadata"]["smd.role"] == str(Role.GATEWAY):
                remove_server(self.lab.cloud, self.stack.name, str(server["id"]))


@pytest.fixture(scope="module")
def built(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    settings = lab.stack.openstack
    assert settings is not None
    text = f"""
name: {lab.stack.name}
domain: sip.example.org
provider: openstack
conference: {{url: "ws://192.0.2.9/janus"}}
pools:
  kamailio: {{replicas: 1}}
  coturn: {{replicas: 1}}
  scaler: {{replicas: 2}}
  gateway: {{min: 1, max: 1, spare: 0}}
"""
    openstack = settings.model_copy(update={"public_address": "none"})
    stack = parse_stack(text).model_copy(update={"openstack": openstack})
    provider = make_provider(stack, VERSION, MASTER.model_copy(update={"cloud": lab.credentials}))

    async def build() -> None:
        wanted = [(Role.SCALER, 0), (Role.SCALER, 1), (Role.KAMAILIO, 0), (Role.COTURN, 0)]

        def make(role: Role, slot: int) -> asyncio.Future[ReplicaRecord]:
            name = f"{stack.name}-{role}-{slot}"
            document = make_document(stack, SUBNET, MASTER, VERSION, role, slot, name)
            return asyncio.ensure_future(provider.create(document, Limits()))

        await asyncio.gather(*(make(role, slot) for role, slot in wanted))
        await reserve(lab.lease_store(), None)

    remove_stack(lab.cloud, lab.stack.name)
    began = time.monotonic()
    asyncio.run(build())
    print(f"\nbuilt in {time.monotonic() - began:.1f} s")
    yield Town(lab, stack, provider, tmp_path_factory.mktemp("scalers"))
    remove_stack(lab.cloud, lab.stack.name)


@pytest.fixture
def town(built: Town, tmp_path: Path) -> Town:
    """With a directory of its own for what scalers write."""
    built.remove_gateways()
    assert built.ports() == []
    return Town(built.lab, built.stack, built.provider, tmp_path)


async def whole(town: Town, running: Running, began: float, limit_s: float = AT_ONCE_S) -> None:
    """Wait until the scaler sees its one gateway, and see that there is no other, and nothing left."""
    await until("a gateway is there", lambda: running.replicas(Role.GATEWAY), limit_s)
    print(f"\nthe gateway is seen after {time.monotonic() - began:.1f} s")
    await until("its creation is over", lambda: not running.scaler.view().underway, limit_s)
    (name,) = await asyncio.to_thread(town.gateways)
    assert running.replicas(Role.GATEWAY) == [name]
    assert await asyncio.to_thread(town.ports) == [f"port {name}"]


async def test_while_the_api_answers_503_for_20_s_a_replica_is_made_once_and_soon_after(town: Town) -> None:
    async with town.scaling() as running:
        hold = running.proxy.begin(Fault("hang", MAKE_SERVER))
        await until("its server is asked for", lambda: hold.met, AT_ONCE_S)
        away = running.proxy.begin(Fault("answer", lasts_s=20.0))
        running.proxy.end(hold)  # that very request is lost
        await until("it leads no more", lambda: not running.leads, 8.0)
        await until("the API is back", lambda: not away.left_s, 25.0)
        back = time.monotonic()
        await whole(town, running, back)
        assert len(running.proxy.seen(MAKE_SERVER, back)) == 1
        print(f"503 was answered {away.met} times in 20 s")
        assert away.met < 200, "it does not beat upon an API that is away"


async def test_a_server_whose_making_was_answered_by_nobody_has_no_twin(town: Town) -> None:
    async with town.scaling() as running:
        cut = running.proxy.begin(Fault("cut after", MAKE_SERVER, times=1))
        await until("its server is asked for", lambda: cut.met, AT_ONCE_S)
        deaf = running.proxy.begin(Fault("answer", "GET compute .*/servers/detail"))
        await until("and it is told that this failed", lambda: running.events("create failed"), AT_ONCE_S)
        running.proxy.end(deaf)
        await whole(town, running, time.monotonic())
        assert len(running.proxy.seen(MAKE_SERVER)) == 1, "what is there is not asked for again"


async def test_a_cloud_that_says_later_is_left_alone_until_then(town: Town) -> None:
    after_s = 8
    async with town.scaling() as running:
        headers = {"Retry-After": str(after_s)}
        busy = running.proxy.begin(Fault("answer", MAKE_SERVER, 429, headers=headers, times=1))
        await until("it is told", lambda: busy.met, AT_ONCE_S)
        (told,) = running.proxy.seen(MAKE_SERVER)
        await whole(town, running, told.at)
        (_, again) = running.proxy.seen(MAKE_SERVER)
        assert again.at - told.at >= after_s
        # Of the lease nothing was said: it is in another service, and has a connection of its own. What was
        # under way when it was told may come a moment later.
        early = [
            one for one in running.proxy.seen("compute", told.at + 0.5) if one.at < told.at + after_s - 0.1
        ]
        assert early == []
        assert "after 8 s" in str(running.events("create failed")[0]["error"])


async def test_an_expired_token_is_renewed_and_nobody_is_told(town: Town) -> None:
    async with town.scaling() as running:
        await until("its server is asked for", lambda: running.proxy.seen(MAKE_SERVER), AT_ONCE_S)
        began = time.monotonic()
        assert running.proxy.expire_tokens() >= 2, "the provider's, and the lease's"
        await whole(town, running, began)
        assert running.proxy.seen(r"POST identity \S+/auth/tokens", began)
        assert len(running.proxy.seen(MAKE_SERVER)) == 1
        assert running.events("create failed") == []
        assert running.events("problem") == []


async def refused(town: Town, running: Running, request: str, status: int, body: str) -> None:
    """A quota is used up for a while."""
    failed = len(running.events("create failed"))
    with running.proxy.wrong(Fault("answer", request, status, body)) as full:
        await until("it is told", lambda: full.met, AT_ONCE_S)
        await until("so is the operator", lambda: len(running.events("create failed")) > failed)
        error = str(running.events("create failed")[-1]["error"])
        for said in (f"replica {town.stack.name}-gateway-0", "Quota exceeded", "ask for a higher quota"):
            assert said in error

        async def nothing_is_left() -> bool:
            return not await asyncio.to_thread(town.ports)

        await until_async("nothing is left half made", nothing_is_left)
    assert full.met <= 4, "it asks less and less often"


async def test_a_used_up_quota_is_told_and_when_it_is_raised_it_goes_on(town: Town) -> None:
    async with town.scaling() as running:
        await until("it leads", lambda: running.leads, AT_ONCE_S)
        await refused(town, running, MAKE_PORT, 409, QUOTA_OF_NEUTRON)
        await refused(town, running, MAKE_SERVER, 403, QUOTA_OF_NOVA)
        await whole(town, running, time.monotonic())


async def test_an_api_that_hangs_holds_up_nothing_else(town: Town) -> None:
    async with town.scaling() as running:
        pulse = Pulse()
        beating = asyncio.create_task(pulse.beat())
        await until("its server is asked for", lambda: running.proxy.seen(MAKE_SERVER), AT_ONCE_S)
        began = time.monotonic()
        hang = running.proxy.begin(Fault("hang"))
        await until("it leads no more", lambda: not running.leads, 8.0)
        print(f"\nit leads no more after {time.monotonic() - began:.1f} s")
        await until("it says that it can't read the inventory", lambda: running.steps[-1][1].blind, 40.0)
        assert running.longest_pause(began) < 3.0, "it goes on to step"
        running.proxy.end(hang)
        back = time.monotonic()
        await until("it leads again", lambda: running.leads, 30.0)
        print(f"it leads again {time.monotonic() - back:.1f} s after the API is back")
        await whole(town, running, back)
        assert len(running.proxy.seen(MAKE_SERVER)) == 1
        beating.cancel()
        print(f"the loop was kept from running for {pulse.worst_s:.2f} s at most")
        assert pulse.worst_s < 3.0, "a request takes longer"


async def cut_off(town: Town, kind: Literal["cut", "hang"], old: Running, new: Running) -> None:
    """The leader does not reach the API for a while, and is followed."""
    began = time.monotonic()
    with old.proxy.wrong(Fault(kind)):
        await until("it leads no more", lambda: not old.leads, 8.0)
        print(f"\n{kind}: it leads no more after {time.monotonic() - began:.1f} s")
        await until("the other one leads", lambda: new.leads, AT_ONCE_S)
        print(f"{kind}: the other one leads after {time.monotonic() - began:.1f} s")
        await whole(town, new, began)
    await until("it sees who leads", lambda: old.scaler.lease.leader == new.name, 30.0)


async def test_of_scalers_that_are_cut_off_from_the_api_never_two_lead(town: Town) -> None:
    agents, most = ReadyAgents(), 0
    async with town.scaling(0, agents) as one, town.scaling(1, agents) as two:

        async def count() -> None:
            nonlocal most
            while True:
                most = max(most, one.leads + two.leads)
                await asyncio.sleep(0.01)

        counting = asyncio.create_task(count())
        await until("one leads", lambda: one.leads or two.leads, AT_ONCE_S)
        first, second = (one, two) if one.leads else (two, one)
        await until("its server is asked for", lambda: first.proxy.seen(MAKE_SERVER), AT_ONCE_S)
        await cut_off(town, "cut", first, second)
        await cut_off(town, "hang", second, first)
        made = one.proxy.seen(MAKE_SERVER) + two.proxy.seen(MAKE_SERVER)
        assert len(made) == 1, "what one began the other one does not begin again"
        counting.cancel()
    assert most == 1
    assert leads_doubly([one.journal, two.journal]) == []
    terms = {str(fields["term"]) for scaler in (one, two) for fields in scaler.events("leads")}
    assert len(terms) >= 3, (
        "a lease that could not be renewed in time is taken once more, in a term of its own"
    )

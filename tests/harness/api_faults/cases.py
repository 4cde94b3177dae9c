"""What becomes of a stack while the cloud's API does wrong: real loop, provider and lease.

A proxy before the API brings the faults about, so that nobody else in the cloud has them. Each of
:data:`CASES` is a test of a :class:`Town`, on a fake cloud (``tests/unit/providers/openstack``) and on a real
one (``tests/lab/provider``).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sipmediadeploy.providers.base import ReplicaRecord
from sipmediadeploy.providers.lease import reserve
from sipmediadeploy.providers.openstack.cloud import Cloud
from sipmediadeploy.providers.openstack.lease import REQUEST_TIMEOUT_S, OpenStackLeaseStore
from sipmediadeploy.providers.openstack.leftovers import remove_server, servers
from sipmediadeploy.providers.openstack.provider import OpenStackProvider, make_provider
from sipmediadeploy.scaler.documents import make_document
from sipmediadeploy.stack import Limits, OpenStack, Role, Stack, parse_stack
from tests.harness.api_faults.fault_proxy import Fault
from tests.harness.api_faults.scalers import (
    MASTER,
    SUBNET,
    VERSION,
    Pulse,
    ReadyAgents,
    Running,
    leads_doubly,
    scaling,
)
from tests.harness.waiting import until, until_async

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
_PATIENCE = 20.0
_STACK = """
name: {name}
domain: sip.example.org
provider: openstack
conference: {{url: "ws://192.0.2.9/janus"}}
pools:
  kamailio: {{replicas: 1}}
  coturn: {{replicas: 1}}
  scaler: {{replicas: 2}}
  gateway: {{min: 1, max: 1, spare: 0}}
"""


@dataclass(frozen=True, slots=True)
class Town:
    """A stack that has everything but a gateway. What it does itself no fault reaches."""

    stack: Stack
    cloud: Cloud
    credentials: Mapping[str, Any]
    provider: OpenStackProvider
    path: Path
    """Where scalers write."""
    at_once_s: float
    """The cloud builds a server in less time."""

    def gateways(self) -> list[str]:
        """The names of the gateways' servers."""
        role = str(Role.GATEWAY)
        found = servers(self.cloud, self.stack.name)
        return sorted(str(s["name"]) for s in found if s["metadata"]["smd.role"] == role)

    def ports(self) -> list[str]:
        """The names of the gateways' ports."""
        names = (p.get("name") or "" for p in self.cloud.all("the test looks", "network", "/ports", "ports"))
        return sorted(name for name in names if name.startswith(f"{self.stack.name}-gateway-"))

    def scaling(
        self, slot: int = 0, agents: ReadyAgents | None = None
    ) -> contextlib.AbstractAsyncContextManager[Running]:
        """Run the scaler in a slot meanwhile."""
        return scaling(self.credentials, self.stack, slot, agents or ReadyAgents(), self.path)

    def again(self, path: Path) -> Town:
        """The same, without the gateway that a scaler made; scalers write to ``path``."""
        for server in list(servers(self.cloud, self.stack.name)):
            if server["metadata"]["smd.role"] == str(Role.GATEWAY):
                remove_server(self.cloud, self.stack.name, str(server["id"]))
        assert self.ports() == []
        return replace(self, path=path)


def build_town(
    name: str, settings: OpenStack, cloud: Cloud, credentials: Mapping[str, Any], path: Path, at_once_s: float
) -> Town:
    """Make the servers of the stack ``name``, whose foundation is there, and a lease that nobody holds."""
    openstack = settings.model_copy(update={"public_address": "none"})
    stack = parse_stack(_STACK.format(name=name)).model_copy(update={"openstack": openstack})
    provider = make_provider(stack, VERSION, MASTER.model_copy(update={"cloud": dict(credentials)}))

    async def build() -> None:
        wanted = [(Role.SCALER, 0), (Role.SCALER, 1), (Role.KAMAILIO, 0), (Role.COTURN, 0)]

        def make(role: Role, slot: int) -> asyncio.Future[ReplicaRecord]:
            replica = f"{name}-{role}-{slot}"
            document = make_document(stack, SUBNET, MASTER, VERSION, role, slot, replica)
            return asyncio.ensure_future(provider.create(document, Limits()))

        await asyncio.gather(*(make(role, slot) for role, slot in wanted))
        # With patience: what is proved does not depend on how fast the lease is made.
        lease_cloud = Cloud(lambda: credentials, REQUEST_TIMEOUT_S * _PATIENCE)
        await reserve(OpenStackLeaseStore(name, lease_cloud, _PATIENCE), None)

    began = time.monotonic()
    asyncio.run(build())
    print(f"\nbuilt in {time.monotonic() - began:.1f} s")
    return Town(stack, cloud, credentials, provider, path, at_once_s)


async def whole(town: Town, running: Running, began: float) -> None:
    """Wait until the scaler sees its one gateway, and see that there is no other, and nothing left."""
    await until("a gateway is there", lambda: running.replicas(Role.GATEWAY), town.at_once_s)
    print(f"\nthe gateway is seen after {time.monotonic() - began:.1f} s")
    await until("its creation is over", lambda: not running.scaler.view().underway, town.at_once_s)
    (name,) = await asyncio.to_thread(town.gateways)
    assert running.replicas(Role.GATEWAY) == [name]
    assert await asyncio.to_thread(town.ports) == [name]


async def while_the_api_answers_503_for_20_s_a_replica_is_made_once_and_soon_after(town: Town) -> None:
    async with town.scaling() as running:
        hold = running.proxy.begin(Fault("hang", MAKE_SERVER))
        await until("its server is asked for", lambda: hold.met, town.at_once_s)
        away = running.proxy.begin(Fault("answer", lasts_s=20.0))
        running.proxy.end(hold)  # that very request is lost
        await until("it leads no more", lambda: not running.leads, 8.0)
        await until("the API is back", lambda: not away.left_s, 25.0)
        back = time.monotonic()
        await whole(town, running, back)
        assert len(running.proxy.seen(MAKE_SERVER, back)) == 1
        print(f"503 was answered {away.met} times in 20 s")
        assert away.met < 200, "it does not beat upon an API that is away"


async def a_server_whose_making_was_answered_by_nobody_has_no_twin(town: Town) -> None:
    async with town.scaling() as running:
        cut = running.proxy.begin(Fault("cut after", MAKE_SERVER, times=1))
        # What it may have left can't be looked for.
        deaf = running.proxy.begin(Fault("answer", "GET compute .*/servers/detail", after=cut))
        told = "it is told that this failed"
        await until(told, lambda: running.events("create failed"), 2 * town.at_once_s)
        running.proxy.end(deaf)
        await whole(town, running, time.monotonic())
        assert len(running.proxy.seen(MAKE_SERVER)) == 1, "what is there is not asked for again"


async def a_cloud_that_says_later_is_left_alone_until_then(town: Town) -> None:
    after_s = 8
    async with town.scaling() as running:
        headers = {"Retry-After": str(after_s)}
        busy = running.proxy.begin(Fault("answer", MAKE_SERVER, 429, headers=headers, times=1))
        await until("it is told", lambda: busy.met, town.at_once_s)
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


async def an_expired_token_is_renewed_and_nobody_is_told(town: Town) -> None:
    async with town.scaling() as running:
        await until("its server is asked for", lambda: running.proxy.seen(MAKE_SERVER), town.at_once_s)
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
        await until("it is told", lambda: full.met, town.at_once_s)
        await until("so is the operator", lambda: len(running.events("create failed")) > failed)
        error = str(running.events("create failed")[-1]["error"])
        for said in (f"replica {town.stack.name}-gateway-0", "Quota exceeded", "ask for a higher quota"):
            assert said in error

        async def nothing_is_left() -> bool:
            return not await asyncio.to_thread(town.ports)

        await until_async("nothing is left half made", nothing_is_left)
    assert full.met <= 4, "it asks less and less often"


async def a_used_up_quota_is_told_and_when_it_is_raised_it_goes_on(town: Town) -> None:
    async with town.scaling() as running:
        await until("it leads", lambda: running.leads, town.at_once_s)
        await refused(town, running, MAKE_PORT, 409, QUOTA_OF_NEUTRON)
        await refused(town, running, MAKE_SERVER, 403, QUOTA_OF_NOVA)
        await whole(town, running, time.monotonic())


async def an_api_that_hangs_holds_up_nothing_else(town: Town) -> None:
    async with town.scaling() as running:
        pulse = Pulse()
        beating = asyncio.create_task(pulse.beat())
        await until("its server is asked for", lambda: running.proxy.seen(MAKE_SERVER), town.at_once_s)
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
        await until("the other one leads", lambda: new.leads, town.at_once_s)
        print(f"{kind}: the other one leads after {time.monotonic() - began:.1f} s")
        await whole(town, new, began)
    await until("it sees who leads", lambda: old.scaler.lease.leader == new.name, 30.0)


async def never_two_scalers_lead_that_are_cut_off_from_the_api(town: Town) -> None:
    agents, most = ReadyAgents(), 0
    async with town.scaling(0, agents) as one, town.scaling(1, agents) as two:

        async def count() -> None:
            nonlocal most
            while True:
                most = max(most, one.leads + two.leads)
                await asyncio.sleep(0.01)

        counting = asyncio.create_task(count())
        await until("one leads", lambda: one.leads or two.leads, town.at_once_s)
        first, second = (one, two) if one.leads else (two, one)
        await until("its server is asked for", lambda: first.proxy.seen(MAKE_SERVER), town.at_once_s)
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


Case = Callable[[Town], Coroutine[Any, Any, None]]
CASES: tuple[Case, ...] = (
    while_the_api_answers_503_for_20_s_a_replica_is_made_once_and_soon_after,
    an_api_that_hangs_holds_up_nothing_else,
    a_server_whose_making_was_answered_by_nobody_has_no_twin,
    a_cloud_that_says_later_is_left_alone_until_then,
    an_expired_token_is_renewed_and_nobody_is_told,
    a_used_up_quota_is_told_and_when_it_is_raised_it_goes_on,
    never_two_scalers_lead_that_are_cut_off_from_the_api,
)


def name_of(case: Case) -> str:
    """A test's id."""
    return case.__name__

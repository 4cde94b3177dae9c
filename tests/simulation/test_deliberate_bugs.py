"""Behind each promise a bug: the simulation finds it, or it could not find one that nobody meant."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from sipmediadeploy.scaler import fixed_pool, gateway_pool, lease, model, plan, pool
from sipmediadeploy.scaler.lease import Lease
from sipmediadeploy.scaler.loop import Scaler
from sipmediadeploy.scaler.model import Action, Condition, Kind, Probe
from sipmediadeploy.scaler.pool import Member, Pool
from tests.simulation import test_scaler
from tests.simulation.clock import run
from tests.simulation.history import history

SEEDS = range(100)
Patch = pytest.MonkeyPatch


def nothing_is_retired(patch: Patch) -> None:
    """Promise 1: a drained gateway is deleted at once."""

    def see_off(pool: Pool, member: Member) -> list[Action]:
        leaving = member.condition is Condition.LEAVING
        return pool.order(Kind.DELETE, member, "drained") if leaving else []

    patch.setattr(gateway_pool, "_see_off", see_off)


def silent_gateways_go_at_once(patch: Patch) -> None:
    """Promise 1: silent is taken for dead."""
    real = gateway_pool._see_off

    def see_off(pool: Pool, member: Member) -> list[Action]:
        if member.condition is Condition.SILENT:
            return pool.order(Kind.DELETE, member, "silent")
        return real(pool, member)

    patch.setattr(gateway_pool, "_see_off", see_off)


def whoever_never_answered_is_empty(patch: Patch) -> None:
    """Promise 1: what this scaler has not seen is taken for what is not."""
    real = model.condition
    patch.setattr(pool, "condition", lambda replica, now, timing, _since: real(replica, now, timing, 0.0))


def the_lease_never_ends(patch: Patch) -> None:
    """Promise 2: a scaler that was frozen goes on where it was."""
    patch.setattr(Lease, "leads", property(lambda self: self._mine is not None))

    async def confirm(self: Lease) -> bool:
        return self.leads

    patch.setattr(Lease, "confirm", confirm)


def the_lease_is_taken_early(patch: Patch) -> None:
    """Promise 2: nobody waits until the old leader must have stopped."""
    real: Callable[[Lease], Any] = Lease._look

    async def look(self: Lease) -> None:
        self._timing = lease.LeaseTiming(duration=1.0, settle=0.0)
        await real(self)
        self._timing = lease.LeaseTiming(duration=8.0)

    patch.setattr(Lease, "_look", look)


def the_blind_act(patch: Patch) -> None:
    """Promise 4: a scaler that sees nothing takes all for dead."""
    patch.setattr(plan, "blindness", lambda *_: None)


def creations_know_no_bounds(patch: Patch) -> None:
    """Promise 4: what never comes up is made again at once."""
    patch.setattr(plan, "_count_flops", lambda memory, *_: memory.flops)


def what_is_silent_is_well(patch: Patch) -> None:
    """Promise 5: it is never replaced."""
    real = model.condition

    def condition(*given: Any) -> tuple[Condition, str]:
        what, why = real(*given)
        return (Condition.USABLE if what is Condition.SILENT else what), why

    patch.setattr(pool, "condition", condition)


def only_agents_count(patch: Patch) -> None:
    """Promise 1: a gateway is taken for dead whose SIP service answers."""
    patch.setattr(Probe, "lost_for", Probe.silent_for)


def two_may_hold_an_address(patch: Patch) -> None:
    """Promise 3: callers reach the one or the other."""
    patch.setattr(plan, "_end_second_holders", lambda *_: [])


def a_blind_standby_is_well(patch: Patch) -> None:
    """Promise 3: nobody can take over when the leader dies."""
    patch.setattr(Scaler, "_blind", lambda *_: None)


def an_outage_is_everybodys_end(patch: Patch) -> None:
    """Promise 4: what others say of an outage is taken for news when it is over."""
    patch.setattr(pool, "_steady", lambda *_: True)


def the_dead_stay(patch: Patch) -> None:
    """Promise 5: what is dead is not cleaned up."""
    patch.setattr(fixed_pool, "_remove_bad", lambda _pool, _member: [])


def a_new_leader_forgets(patch: Patch) -> None:
    """Promise 6: an operator's pause ends with the leader that heard of it."""
    real: Callable[..., Any] = Lease._take

    async def take(self: Lease, *, sure: bool) -> None:
        self._paused = False
        await real(self, sure=sure)

    patch.setattr(Lease, "_take", take)


@pytest.mark.parametrize(
    ("bug", "first"),
    [
        (nothing_is_retired, 15),
        (silent_gateways_go_at_once, 2),
        (whoever_never_answered_is_empty, 80),
        (the_lease_never_ends, 2),
        (the_lease_is_taken_early, 10),
        (the_dead_stay, 0),
    ],
)
def test_histories_show(bug: Callable[[Patch], None], first: int, monkeypatch: Patch) -> None:
    """``first``: the first seed that reveals the bug, so that a search takes no minute.

    Where the scaler has changed so that this one no longer does, another one must, and is named.
    """
    bug(monkeypatch)
    for seed in (first, *SEEDS):
        try:
            run(history(seed))
        except AssertionError as e:
            print(f"seed {seed}: {str(e).splitlines()[0]}")
            if seed != first:
                warnings.warn(f"{bug.__name__}: seed {first} shows it no more, {seed} does", stacklevel=1)
            return
    pytest.fail(f"{bug.__doc__} {len(SEEDS)} histories did not show it")


@pytest.mark.parametrize(
    ("bug", "scene"),
    [
        (the_blind_act, test_scaler.test_when_everything_turns_silent_at_once_nothing_is_deleted_or_made),
        (
            creations_know_no_bounds,
            test_scaler.test_creations_that_never_come_up_get_slower_and_stay_within_bounds,
        ),
        (
            what_is_silent_is_well,
            test_scaler.test_a_silent_gateway_is_replaced_soon_and_keeps_its_calls_for_ten_minutes,
        ),
        (
            only_agents_count,
            test_scaler.test_a_gateway_whose_service_answers_without_its_agent_is_replaced_and_not_deleted,
        ),
        (
            two_may_hold_an_address,
            test_scaler.test_of_two_holders_of_an_address_one_is_replaced,
        ),
        (a_blind_standby_is_well, test_scaler.test_a_standby_that_is_cut_off_from_the_provider_is_replaced),
        (an_outage_is_everybodys_end, test_scaler.test_an_outage_of_the_provider_costs_no_scaler),
        (a_new_leader_forgets, test_scaler.test_a_pause_outlives_the_leader_that_heard_of_it),
    ],
)
def test_a_scene_shows(bug: Callable[[Patch], None], scene: Callable[[], None], monkeypatch: Patch) -> None:
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        scene()

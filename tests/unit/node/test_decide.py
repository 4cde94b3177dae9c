from __future__ import annotations

from sipmediadeploy.node.decide import BOOT_LIMIT_S, Seen, after_check, decide, start, warnings
from sipmediadeploy.node.roles import keepalived
from sipmediadeploy.node.roles.base import Health
from sipmediadeploy.node.state import AgentState
from sipmediadeploy.protocol.agent import State

GOOD = Health(True, "answers", calls=1, capacity=4)
BAD = Health(False, "kamailio: nothing listens")


def seen(*checks: Health, patience_s: float = 0.0, step_s: float = 0.25) -> Seen:
    """What is known after ``checks``, one each ``step_s`` from 0 on."""
    result = start(0.0)
    for i, check in enumerate(checks):
        result = after_check(result, check, patience_s, i * step_s)
    return result


def test_a_replica_is_booting_until_its_service_does_its_job() -> None:
    assert decide(start(0.0), AgentState(), None, 1.0)[0] is State.BOOTING
    assert decide(seen(BAD, BAD, BAD), AgentState(), None, 1.0) == (State.BOOTING, BAD.reason)
    assert decide(seen(BAD, BAD, GOOD), AgentState(), None, 1.0)[0] is State.READY


def test_a_replica_that_never_came_up_has_failed_and_says_why() -> None:
    state, reason = decide(seen(BAD, BAD), AgentState(), None, BOOT_LIMIT_S + 1)
    assert state is State.FAILED
    assert BAD.reason in reason


def test_one_miss_is_forgiven_and_two_are_not() -> None:
    assert seen(GOOD, BAD).healthy
    assert not seen(GOOD, BAD, BAD).healthy
    assert seen(GOOD, BAD, GOOD, BAD).healthy
    assert decide(seen(GOOD, BAD, BAD), AgentState(), None, 1.0) == (State.FAILED, BAD.reason)


def test_a_forgiven_miss_does_not_forget_the_calls() -> None:
    assert seen(GOOD, BAD).last.calls == 1


def test_misses_within_a_roles_patience_are_forgiven() -> None:
    assert seen(GOOD, BAD, BAD, BAD, patience_s=3.0).healthy
    assert not seen(GOOD, BAD, BAD, BAD, patience_s=0.5).healthy


def test_it_recovers_with_one_good_check() -> None:
    assert decide(seen(GOOD, BAD, BAD, GOOD), AgentState(), None, 2.0)[0] is State.READY


def test_all_places_taken_is_busy() -> None:
    assert decide(seen(Health(True, "", 4, 4)), AgentState(), None, 1.0)[0] is State.BUSY


def test_draining_lasts_while_calls_go_on_or_the_address_is_held() -> None:
    drained = AgentState(drained_by="operator")
    assert decide(seen(GOOD), drained, None, 1.0) == (
        State.DRAINING,
        "drained by the operator; 1 calls go on",
    )
    idle = seen(Health(True, ""))
    assert decide(idle, drained, True, 1.0)[0] is State.DRAINING
    assert decide(idle, drained, False, 1.0)[0] is State.DRAINED
    assert decide(idle, AgentState(drained_by="scaler", retired=True), None, 1.0) == (
        State.DRAINED,
        "retired",
    )


def test_healthy_beats_draining_beats_sick_whatever_the_base_priorities() -> None:
    bases = (200, 185)
    for mine in bases:
        for other in bases:
            healthy = mine + keepalived.election_value(True, 0, draining=False, holder=False)
            draining = other + keepalived.election_value(True, 0, draining=True, holder=True)
            sick = mine + keepalived.election_value(False, 5, draining=False, holder=True)
            assert healthy > draining > sick > 0


def test_a_healthy_holder_keeps_the_address_from_a_replica_that_comes_back() -> None:
    holder = 185 + keepalived.election_value(True, 0, draining=False, holder=True)
    assert holder > 200 + keepalived.election_value(True, 0, draining=False, holder=False)


def test_a_replica_that_turns_sick_gives_the_address_up_at_once_and_later_takes_it_if_nobody_else_can() -> (
    None
):
    assert keepalived.election_value(False, 0.2, draining=False, holder=True) == keepalived.RELEASE
    assert keepalived.election_value(False, 1.5, draining=False, holder=False) == keepalived.SICK


def test_one_lost_check_after_an_agents_restart_shows_nothing() -> None:
    assert not seen(BAD).known
    assert seen(BAD, BAD).known
    assert seen(GOOD).known


def test_a_service_address_that_keeps_coming_is_a_warning_and_one_that_moved_now_and_then_is_not() -> None:
    assert warnings([10.0, 20.0, 30.0, 40.0], 0.9, 41.0) == ()
    assert warnings([10.0, 20.0, 30.0, 40.0, 50.0], 0.9, 200.0) == ()
    (warning,) = warnings([10.0, 20.0, 30.0, 40.0, 50.0], 0.9, 51.0)
    assert warning.startswith("the service address comes and goes: it came to this replica 5 times")


def test_a_full_run_is_a_warning() -> None:
    (warning,) = warnings([], 0.01, 0.0)
    assert warning.startswith("/run is full: 1% of it are free")

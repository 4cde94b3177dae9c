from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from sipmediadeploy.node import state
from sipmediadeploy.node.state import AgentState, NotYours, OlderTerm, StateError
from sipmediadeploy.protocol.agent import Gateway, Gateways


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    kept = AgentState(
        term=7,
        drained_by="operator",
        retired=True,
        gateways=Gateways(term=7, gateways=(Gateway(name="g", address=IPv4Address("10.0.0.1"), free=2),)),
    )
    state.save(kept, tmp_path / "agent.json")
    assert state.load(tmp_path / "agent.json") == kept
    assert [p.name for p in tmp_path.iterdir()] == ["agent.json"]


def test_no_file_is_a_fresh_start_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    assert state.load(tmp_path / "agent.json") == AgentState()
    (tmp_path / "agent.json").write_text("{")
    with pytest.raises(StateError, match=r"agent\.json.*replace this replica"):
        state.load(tmp_path / "agent.json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_an_error_that_says_what_to_do_and_keeps_the_old_state(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    state.save(AgentState(term=1), path)
    path.with_suffix(".new").symlink_to("/dev/full")
    with pytest.raises(StateError, match="free some space"):
        state.save(AgentState(term=2), path)
    assert state.load(path).term == 1


def test_an_older_term_is_refused_and_a_newer_one_remembered() -> None:
    assert state.with_term(AgentState(term=3), 5).term == 5
    assert state.with_term(AgentState(term=3), 3).term == 3
    with pytest.raises(OlderTerm, match="term 2 is older than 3"):
        state.with_term(AgentState(term=3), 2)


def test_an_operators_drain_is_undone_by_an_operator_only() -> None:
    by_operator = state.drained(AgentState(), "operator")
    assert state.drained(by_operator, "scaler").drained_by == "operator"
    with pytest.raises(NotYours):
        state.undrained(by_operator, "scaler")
    assert state.undrained(by_operator, "operator").drained_by is None
    assert state.undrained(state.drained(AgentState(), "scaler"), "scaler").drained_by is None


def test_retirement_is_for_good_and_comes_after_a_drain() -> None:
    with pytest.raises(NotYours, match="drain"):
        state.retired(AgentState())
    gone = state.retired(AgentState(drained_by="scaler"))
    assert gone.retired
    assert state.retired(gone) == gone
    with pytest.raises(NotYours, match="never takes a call again"):
        state.undrained(gone, "operator")

"""What the audit trail says of problems."""

from __future__ import annotations

from pathlib import Path

from sipmediadeploy.scaler.journal import Journal
from sipmediadeploy.scaler.loop import Report
from sipmediadeploy.scaler.main import Reporter
from sipmediadeploy.scaler.metrics import Metrics


def test_a_problem_is_told_once_though_its_details_change_from_look_to_look(tmp_path: Path) -> None:
    journal = Journal("demo-scaler-0")
    reporter = Reporter(journal, Metrics(), tmp_path / "alive.json")
    other = "the service address of kamailio is held by nobody"
    for problems in (
        ["demo-kamailio-0: its agent is silent (no answer), its service does not answer either", other],
        ["demo-kamailio-0: its agent is silent (Cannot connect (111)), its service does not answer either"],
        ["demo-kamailio-0: its agent is silent (no answer), its service does not answer either"],
        [],
    ):
        reporter(Report(False, None, 0, False, tuple(problems), 0))
    told = [(e.event, e.fields["problem"]) for e in journal.after("", 0).entries if "problem" in e.fields]
    silent = "demo-kamailio-0: its agent is silent"
    assert sorted(told) == [
        ("problem", f"{silent} (no answer), its service does not answer either"),
        ("problem", other),
        ("problem is over", f"{silent}, its service does not answer either"),
        ("problem is over", other),
    ]

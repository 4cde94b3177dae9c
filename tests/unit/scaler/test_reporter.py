"""What the audit trail says of problems."""

from __future__ import annotations

import json
from pathlib import Path

from sipmediadeploy.scaler.journal import Journal
from sipmediadeploy.scaler.loop import Report
from sipmediadeploy.scaler.main import Reporter
from sipmediadeploy.scaler.metrics import Metrics
from sipmediadeploy.scaler.model import Problem


def test_a_problem_is_told_once_though_its_details_change_from_look_to_look(tmp_path: Path) -> None:
    journal = Journal("demo-scaler-0", tmp_path / "events.jsonl")
    reporter = Reporter(journal, Metrics(), tmp_path / "alive.json")
    address = "the service address of kamailio"
    deaf = f"{address} does not answer"
    for problems in (
        [
            Problem("demo-gateway-0: silent", "demo-gateway-0: silent (no answer)"),
            Problem(deaf, f"{address}, 4 s"),
        ],
        [Problem("demo-gateway-0: silent", "demo-gateway-0: silent (Cannot connect (111))")],
        [Problem("demo-gateway-0: silent", "demo-gateway-0: silent (no answer)")],
        [],
    ):
        reporter(Report(False, None, 0, False, tuple(problems), 0))
        shown = json.loads((tmp_path / "alive.json").read_text())["problems"]
        assert shown == [problem.text for problem in problems]
    told = [(e.event, e.fields["problem"]) for e in journal.after("", 0).entries if "problem" in e.fields]
    assert sorted(told) == [
        ("problem", "demo-gateway-0: silent (no answer)"),
        ("problem", f"{address}, 4 s"),
        ("problem is over", "demo-gateway-0: silent"),
        ("problem is over", deaf),
    ]

"""The alert rules, as Prometheus understands them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from sipmediadeploy.scaler.metrics import Metrics, Sight
from sipmediadeploy.scaler.model import Action, Condition, Kind
from sipmediadeploy.stack import Role

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed"),
]
RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
LEADS = {'smd_scaler_leading{instance="a"}': "1x400"}


def promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_rules() -> None:
    assert "7 rules found" in promtool("check", "rules", str(RULES))


@pytest.mark.parametrize(
    ("alert", "series"),
    [
        ("NoScalerLeads", {'smd_scaler_leading{instance="a"}': "0x400"}),
        ("NoScalerLeads", {'up{instance="other"}': "1x400"}),
        ("TwoScalersLead", LEADS | {'smd_scaler_leading{instance="b"}': "1x400"}),
        ("ScalersPaused", LEADS | {'smd_scaler_paused{instance="a"}': "1x400"}),
        ("StackNotWhole", LEADS | {'smd_scaler_problems{instance="a"}': "2x400"}),
        ("InventoryNotRead", LEADS | {'smd_scaler_inventory_age_seconds{instance="a"}': "0+15x400"}),
        (
            "FailoversRepeat",
            LEADS | {'smd_scaler_failover_seconds_count{instance="a",role="kamailio"}': "0+1x400"},
        ),
        (
            "ActionsFail",
            LEADS | {'smd_scaler_actions_total{instance="a",kind="create",result="failed"}': "0+1x400"},
        ),
        ("", LEADS | {'smd_scaler_leading{instance="b"}': "0x400"}),
        ("", LEADS | {'smd_scaler_problems{instance="b"}': "3x400"}),
    ],
)
def test_an_alert_fires_when_it_should_and_no_other_does(
    tmp_path: Path, alert: str, series: dict[str, str]
) -> None:
    firing = "count by (alertname) (ALERTS{alertstate='firing'})"
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else []
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [{"expr": firing, "eval_time": "65m", "exp_samples": samples}],
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(test))
    promtool("test", "rules", str(file))


def test_the_rules_speak_of_metrics_that_there_are() -> None:
    metrics = Metrics()
    for now, holder in ((1.0, "a"), (2.0, "b")):
        sight = Sight({(Role.GATEWAY, Condition.USABLE): 1}, {Role.COTURN: holder}, 1.0)
        metrics.step(now, True, 3, False, 0, sight)
    metrics.action("failed", Action(Kind.CREATE, Role.GATEWAY, "x", "why"), "no room")
    known = {re.split(r"[{ ]", line)[0] for line in metrics.text().decode().splitlines()}
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    used = {name for rule in rules for name in re.findall(r"smd_\w+", rule["expr"])}
    assert used
    assert used <= known, used - known

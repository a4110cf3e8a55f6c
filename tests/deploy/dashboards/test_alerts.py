"""Each alert fires on metrics that go wrong, and none on those of a sound run, by Prometheus' own judgement (`promtool
test rules`)."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.reporting.metric_table import METRICS
from cluster.reporting.metrics import ALERTS
from cluster.running.proof import MEAN_GAP
from tests.project.reference import ROOT

FOLDER = ROOT / "deploy/dashboards"
RULES = {rule["alert"]: rule for rule in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]}
HOURS = 2
needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not installed"
)

# Metrics of a run, minute by minute in promtool's notation, "START+CHANGExTIMES": a step a minute, from time 0 on.
SOUND = {
    "step_ended_at": "0+60x120",
    "seconds_wait": "20x120",
    "seconds_train": "30x120",
    "seconds_sync": "5x120",
    "seconds_other": "5x120",
    "groups_dispatched": "64+64x120",
    "groups_in_flight": "64x120",
    "patience_spent": "0.01x120",
    "generators": "2x120",
    "probe_gap_mean": "0.01x120",
    "probe_doubts": "0x120",
    "mismatch_capped": "0.001x120",
    "staleness_max": "1x120",
    "entropy": "0.11-0.0004x120",  # to half of where it began
    "responses_timeout": "0x120",
    "responses_error": "0x120",
    "timeout_share": "0x120",
    "judge_unread": "0x120",
    "disk_used": "0.5x120",
}
NODE = {"node_disk_utilization_percentage": "40x120"}
# Alert -> what differs from a sound run.
WRONG: Mapping[str, Mapping[str, str]] = {
    "WinnowStarves": {"patience_spent": "0.01+0.005x120"},
    "WinnowStalls": {"step_ended_at": "0+60x60 3600x60"},
    "WinnowSamplingStalls": {"groups_dispatched": "64+64x60 3904x60"},
    "WinnowGeneratorsAreMissing": {"generators": "2x90 1x30"},
    "WinnowDisagrees": {"probe_doubts": "0x90 1x30"},
    "WinnowIsStale": {"mismatch_capped": "0.001x60 0.1x60"},
    "WinnowEntropyFalls": {"entropy": "0.11x60 0.02x60"},
    "WinnowVerdictsAreMissing": {"responses_error": "0x60 3x60"},
    "WinnowVerdictsAreLate": {"timeout_share": "0x60 0.06x60"},
    "WinnowJudgeIsUnread": {"judge_unread": "0x60 0.06x60"},
    "WinnowDiskFills": {"disk_used": "0.5x60 0.95x60"},
    "WinnowNodeDiskFills": {"node_disk_utilization_percentage": "40x60 95x60"},
}


NO_STEP = {name: "_x120" for name in SOUND if name.startswith("seconds_")} | {"step_ended_at": "60x120"}


def case(name: str, changed: Mapping[str, str], alert: str = "") -> dict[str, Any]:
    """For promtool: with these metrics exactly this alert fires after HOURS; none where it is ""."""
    series = [
        {"series": _series(metric), "values": changed.get(metric, sound)} for metric, sound in (SOUND | NODE).items()
    ]
    expected = [{"labels": _firing(alert, of_a_node=bool(set(changed) & set(NODE))), "value": 1}] if alert else []
    question = {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{HOURS}h", "exp_samples": expected}
    return {"name": name, "interval": "1m", "input_series": series, "promql_expr_test": [question]}


def _series(metric: str) -> str:
    return f'ray_{metric}{{ip="10.0.0.1"}}' if metric in NODE else f'ray_{metric}{{run="demo", WorkerId="a"}}'


def _firing(alert: str, *, of_a_node: bool) -> str:
    where = {"ip": "10.0.0.1"} if of_a_node else {"run": "demo"}
    labels = {"alertname": alert, "alertstate": "firing", **RULES[alert]["labels"], **where}
    return "ALERTS{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


@pytest.mark.slow
@needs_promtool
def test_each_alert_fires_on_metrics_that_go_wrong_and_none_on_those_of_a_sound_run(tmp_path: Path) -> None:
    cases = [case(alert, changed, alert) for alert, changed in WRONG.items()]
    cases += [case("sound", {}), case("no step has ended yet", NO_STEP, "WinnowStalls")]
    file = tmp_path / "test.yml"
    rules = {"rule_files": [str(FOLDER / "alerts.yml")], "evaluation_interval": "2m", "tests": cases}
    file.write_text(yaml.safe_dump(rules))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_accepts_the_rules_and_the_config_that_names_them() -> None:
    done = subprocess.run(["promtool", "check", "config", FOLDER / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_every_alert_is_tried_and_asks_for_metrics_that_there_are() -> None:
    assert set(WRONG) == set(RULES)
    for name, rule in RULES.items():
        asked = set(re.findall(r"\bray_(?!node_)(\w+)", rule["expr"]))
        assert asked <= set(METRICS), name
        assert asked <= set(SOUND), name


def test_thresholds_that_a_run_knows_too_are_the_same() -> None:
    bounds = {name: re.findall(rf"ray_{name}\) > ([\d.]+)", str(RULES)) for name in (*ALERTS, "probe_gap_mean")}
    wanted = {name: alert.above for name, alert in ALERTS.items()} | {"probe_gap_mean": MEAN_GAP}
    assert {name: [float(bound) for bound in found] for name, found in bounds.items()} == {
        name: [bound] for name, bound in wanted.items()
    }

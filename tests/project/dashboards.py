"""Writes deploy/dashboards/winnow.json, the Grafana dashboard, so that it cannot drift from the metrics: a test holds
them against each other.

    python -m tests.project.dashboards       from the root of the repository, after a metric or a panel has changed
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.reporting.gauges import RUN
from cluster.reporting.metric_table import METRICS

FILE = Path(__file__).parents[2] / "deploy/dashboards/winnow.json"
WIDTH, HEIGHT = 8, 7  # of a panel; Grafana's rows are 24 wide
# Unit of a metric -> how Grafana calls it; others are written behind the number.
UNITS = {"share": "percentunit", "s": "s", "GiB/s": "GiBs", "": "short"}
BARE = ("version", "score", "loss", "norm", "rate", "ratio")  # units that say nothing beside a number


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Some curves."""

    title: str
    curves: Mapping[str, str]  # legend -> query of one run, in which {NAME} is a metric
    unit: str = ""  # of `METRICS`
    about: str = ""
    stacked: bool = False


def of(title: str, *names: str, **options: Any) -> Panel:
    """A panel of metrics as they are, which have one unit."""
    (unit,) = {METRICS[name].unit for name in names}
    return Panel(title=title, curves={name: f"{{{name}}}" for name in names}, unit=unit, **options)


ROWS: Mapping[str, Sequence[Panel]] = {
    "Does it learn": (
        of("Accuracy", "accuracy", "eval_accuracy"),
        of("Reward", "reward_mean", "reward_trained"),
        of("Entropy", "entropy"),
        of("Distance from the start", "kl_start"),
        of("Distance from the teacher", "kl_teacher"),
        of("Foreseeing the environment", "loss_told"),
        of("Loss", "loss"),
        of("Gradient", "grad_norm"),
        of("Learning rate", "lr"),
        of("Length of responses", "response_tokens_mean", "response_tokens_kept"),
        Panel(title="Progress", curves={name: f"{{{name}}}" for name in ("step", "updates", "version")}),
    ),
    "Groups": (
        of(
            "What became of groups",
            *("groups_trained", "groups_all_correct", "groups_all_wrong", "groups_failed", "groups_dropped"),
            stacked=True,
        ),
        of("Groups so far", "groups_dispatched", "groups_kept", "groups_unpackable", "groups_interrupted"),
        of("Groups now", "groups_in_flight", "groups_buffered", stacked=True),
        of("Patience that is spent", "patience_spent"),
        of("Responses without an answer or a verdict", "responses_unparsable", "responses_timeout", "responses_error"),
        of("Doubtful verdicts", "timeout_share", "judge_unread", "verifier_disagreement"),
    ),
    "Where the time goes": (
        Panel(
            title="Seconds of a step, by stage",
            curves={
                "generate": "{seconds_wait} - {seconds_wait_verify}",
                "verify": "{seconds_wait_verify}",
                "train": "{seconds_train}",
                "sync": "{seconds_sync}",
                "other": "{seconds_other}",
            },
            unit="s",
            about="What the learner did in the last step, or waited for.",
            stacked=True,
        ),
        of("How busy the parts are", "busy_generators", "busy_verifiers", "busy_learner"),
        of("Tokens a second", "tokens_per_second", "tokens_trained_per_second"),
        of("Latency of a group", "seconds_generate", "seconds_verify"),
        of("Queue before the verifiers", "verifier_queue"),
        of("Speed of the sync", "sync_gib_per_second"),
        of("Tokens of a step", "tokens_generated", "tokens_trained", "tokens_padding", "tokens_shared"),
        of("Packing", "sequences_per_row"),
        Panel(
            title="Time since the last step",
            curves={"since the last step": "time() - {step_ended_at}", "since the start": "{wall_seconds}"},
            unit="s",
        ),
    ),
    "Episodes of an environment": (
        of("Turns of an episode", "turns_mean"),
        of("Time of an episode", "episode_seconds"),
        of("Calls of tools", "tool_calls", "tool_failures"),
        of("Tokens of others than the policy", "tokens_user", "tokens_tool"),
    ),
    "Sampler against learner": (
        of("Staleness", "staleness_mean", "staleness_max"),
        of("Mismatch", "mismatch_kl"),
        of("Shares of tokens beyond a bound", "mismatch_capped", "clip_fraction"),
        of("Probe", "probe_gap", "probe_gap_mean"),
        of("Syncs out of bounds", "probe_doubts"),
        of("Ratio, 99th percentile", "ratio_p99"),
        of("Responses that were cut", "responses_truncated"),
    ),
    "Parts and machines": (
        Panel(title="Parts", curves={name: f"{{{name}}}" for name in ("generators", "verifiers", "restarts")}),
        of("Disk of the run folder", "disk_used"),
        Panel(
            title="Disks of the nodes", curves={"{{ip}}": "ray_node_disk_utilization_percentage / 100"}, unit="share"
        ),
        Panel(title="CPUs of the nodes", curves={"{{ip}}": "ray_node_cpu_utilization / 100"}, unit="share"),
        Panel(title="Memory of the nodes", curves={"{{ip}}": "ray_node_mem_used / ray_node_mem_total"}, unit="share"),
    ),
}


def panels() -> list[Panel]:
    """All panels, in order."""
    return [panel for row in ROWS.values() for panel in row]


def named_in(panel: Panel) -> list[str]:
    """The metrics that a panel shows."""
    return [name for name in METRICS if any(f"{{{name}}}" in query for query in panel.curves.values())]


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "uid": "winnow",
        "title": "winnow",
        "description": "Runs of winnow, as Ray shows their metrics to Prometheus.",
        "tags": ["winnow", "ray"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), _runs()]},
        "panels": list(_rows()),
    }


def written() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def _source() -> dict[str, Any]:
    """Which Prometheus is asked: Ray's provisioning makes one the default."""
    return {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "hide": 0}


def _runs() -> dict[str, Any]:
    """Which runs are shown."""
    return {
        "type": "query",
        "name": RUN,
        "label": "run",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": f"label_values(ray_step, {RUN})", "refId": "run"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _rows() -> Iterator[dict[str, Any]]:
    numbers, below = itertools.count(1), 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": below, "w": 24, "h": 1}
        yield {"type": "row", "id": next(numbers), "title": title, "collapsed": False, "gridPos": place, "panels": []}
        below += 1
        for index, panel in enumerate(row):
            line, column = divmod(index, 24 // WIDTH)
            place = {"x": column * WIDTH, "y": below + line * HEIGHT, "w": WIDTH, "h": HEIGHT}
            yield _panel(panel, next(numbers), place)
        below += -(-len(row) // (24 // WIDTH)) * HEIGHT


def _panel(panel: Panel, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    about = [f"{name}: {METRICS[name].about}" for name in named_in(panel)]
    unit = "" if panel.unit in BARE else panel.unit
    stacking = {"mode": "normal" if panel.stacked else "none"}
    drawn = {"drawStyle": "line", "fillOpacity": 25 if panel.stacked else 0, "stacking": stacking, "showPoints": "auto"}
    return {
        "type": "timeseries",
        "id": number,
        "title": panel.title,
        "description": "\n\n".join([panel.about, *about] if panel.about else about),
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": dict(place),
        "fieldConfig": {
            "defaults": {
                "unit": UNITS.get(unit, f"suffix: {unit}"),
                "min": 0 if panel.stacked else None,
                "custom": drawn,
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": _query(query), "legendFormat": _legend(legend)}
            for index, (legend, query) in enumerate(panel.curves.items())
        ],
    }


def _query(query: str) -> str:
    """In PromQL; a run that went on in another process is one curve."""
    for name in METRICS:
        query = query.replace(f"{{{name}}}", f'max by ({RUN}) (ray_{name}{{{RUN}=~"$run"}})')
    return query


def _legend(legend: str) -> str:
    return legend if legend.startswith("{{") else f"{legend}, {{{{{RUN}}}}}"


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
    print(f"written: {FILE}")

"""`winnow metrics`: the table of metrics in a terminal."""

import difflib
import textwrap
from collections.abc import Sequence

from cluster.config.errors import ConfigError
from cluster.reporting.metric_table import METRICS, MetricGroup
from cluster.reporting.metrics import ALERTS

WIDTH = 100  # columns
PAGE = "docs/metrics.md"


def all_metrics() -> str:
    """Every metric by group, with its sentence."""
    return "\n".join(_group(group) for group in MetricGroup)


def told_of_metrics(names: Sequence[str]) -> str:
    """All that is known of some metrics, or of all metrics of some groups.

    Raises:
        ConfigError: there is none of such a name.
    """
    known = [*METRICS, *MetricGroup]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            meant = f"did you mean {' or '.join(close)}? " * bool(close) + "winnow metrics lists all"
            raise ConfigError(f"there is no metric {name!r}: {meant}")
    return "\n".join(_metric(name) if name in METRICS else _group(MetricGroup(name)) for name in names)


def _group(group: MetricGroup) -> str:
    lines = [f"{group}: {group.about}", ""]
    for name, metric in METRICS.items():
        if metric.group is group:
            lines += [f"  {name} [{metric.unit}]", *_wrapped(metric.about, "      ")]
    return "\n".join([*lines, ""])


def _metric(name: str) -> str:
    metric = METRICS[name]
    lines = [f"{name} [{metric.unit}]", *_wrapped(metric.about, "    ")]
    lines += _wrapped(metric.use or metric.group.about, "    ")
    if alert := ALERTS.get(name):
        lines += _wrapped(f"Above {alert.above:g} the run says: {alert.remedy}.", "    ")
    lines += [
        f"    In metrics.jsonl: {name}. In TensorBoard: {metric.group}/{name}. In Prometheus: ray_{name}.",
        f"    Explained with its neighbours in {PAGE}, under {metric.group}.",
    ]
    return "\n".join([*lines, ""])


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False)

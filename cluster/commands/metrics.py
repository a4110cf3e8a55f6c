"""`winnow metrics`: the tables of metrics in a terminal, those of training runs and those of reward models."""

import difflib
import textwrap
from collections.abc import Sequence

from cluster.config.errors import ConfigError
from cluster.reporting.metric_table import METRICS, MetricGroup
from cluster.reporting.metrics import ALERTS
from cluster.reporting.reward_model_table import ABOUT, REWARD_MODEL, REWARD_MODEL_METRICS

WIDTH = 100  # columns
PAGE = "docs/metrics.md"


def all_metrics() -> str:
    """Every metric by group, with its sentence."""
    return "\n".join([*map(_group, MetricGroup), _group(REWARD_MODEL)])


def told_of_metrics(names: Sequence[str]) -> str:
    """All that is known of some metrics, or of all metrics of some groups.

    Raises:
        ConfigError: there is none of such a name.
    """
    groups = [*MetricGroup, REWARD_MODEL]
    known = [*dict.fromkeys([*METRICS, *REWARD_MODEL_METRICS]), *groups]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            meant = f"did you mean {' or '.join(close)}? " * bool(close) + "winnow metrics lists all"
            raise ConfigError(f"there is no metric {name!r}: {meant}")
    return "\n".join(_group(name) if name in groups else _told(name) for name in names)


def _group(name: str) -> str:
    if name == REWARD_MODEL:
        about, members = ABOUT, {key: (metric.unit, metric.about) for key, metric in REWARD_MODEL_METRICS.items()}
    else:
        group = MetricGroup(name)
        about = group.about
        members = {key: (metric.unit, metric.about) for key, metric in METRICS.items() if metric.group is group}
    lines = [f"{name}: {about}", ""]
    for key, (unit, sentence) in members.items():
        lines += [f"  {key} [{unit}]", *_wrapped(sentence, "      ")]
    return "\n".join([*lines, ""])


def _told(name: str) -> str:
    """Of a name that both kinds of runs have, what it is in either."""
    tell = ((METRICS, _metric), (REWARD_MODEL_METRICS, _reward_model_metric))
    return "\n".join(told(name) for table, told in tell if name in table)


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


def _reward_model_metric(name: str) -> str:
    metric = REWARD_MODEL_METRICS[name]
    where = f"In metrics.jsonl of a reward model's training: {name}. Explained with the others in {PAGE}."
    return "\n".join([f"{name} [{metric.unit}]", *_wrapped(metric.about, "    "), *_wrapped(where, "    "), ""])


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False)

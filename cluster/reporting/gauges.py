"""A run's metrics in Ray, whose agents show them to Prometheus, each under its name with `ray_` before it."""

import math
from collections.abc import Mapping

from ray.util.metrics import Gauge

from cluster.reporting.metrics import METRICS

RUN = "run"  # the tag that tells runs apart


class Gauges:
    """The metrics of one run. Ray shows what was set last, for as long as this process lives, and nothing of a metric
    that is not a number."""

    def __init__(self, run: str) -> None:
        self._run = {RUN: run}
        self._gauges = {
            name: Gauge(name, description=f"{metric.about} Unit: {metric.unit}.", tag_keys=(RUN,))
            for name, metric in METRICS.items()
        }

    def set(self, numbers: Mapping[str, float]) -> None:
        """New values of some metrics; the others keep theirs."""
        for name, number in numbers.items():
            self._gauges[name].set(number, tags=self._run)

    def close(self) -> None:
        """The run is over: nothing more is shown of it."""
        self.set(dict.fromkeys(self._gauges, math.nan))

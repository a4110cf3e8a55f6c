"""A run's metrics in Ray, whose agents show them to Prometheus, each under its name with `ray_` before it."""

from collections.abc import Mapping

from ray.util.metrics import Gauge

from cluster.reporting.metric_table import METRICS

RUN = "run"  # the tag that tells runs apart


class Gauges:
    """The metrics of one run. Ray tells each value once and forgets it after two of its intervals, 20 s in all, so they
    have to be told again and again while the run goes on; nothing is shown of one that has ended."""

    def __init__(self, run: str) -> None:
        self._run = {RUN: run}
        self._gauges = {
            name: Gauge(name, description=f"{metric.about} Unit: {metric.unit}.", tag_keys=(RUN,))
            for name, metric in METRICS.items()
        }
        self._numbers: dict[str, float] = {}

    def tell(self, numbers: Mapping[str, float]) -> None:
        """New values of some metrics, and the last ones of all others."""
        self._numbers.update(numbers)
        for name, number in self._numbers.items():
            self._gauges[name].set(number, tags=self._run)

"""Where the metrics of a run go: metrics.jsonl, TensorBoard events, Ray's metrics and loggers."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from actors.disk import append
from cluster.config import run_files
from cluster.reporting.gauges import Gauges
from cluster.reporting.loggers import TENSORBOARD, Loggers
from cluster.reporting.logs import LOGGER
from cluster.reporting.metric_table import METRICS


class MetricsWriter:
    """Writes each step's metrics to every place that shows them, under the same names."""

    def __init__(self, folder: Path, run: str, step: int = 0, loggers: Sequence[str] = (TENSORBOARD,)) -> None:
        """
        Args:
            folder: of the run.
            run: its name in Ray's metrics and in loggers.
            step: that it goes on from: what is in the folder of later ones counts no more.
            loggers: of `run.loggers`.
        """
        self._folder, self._step = folder, step
        self._draws, self._loggers = TENSORBOARD in loggers, Loggers(loggers, folder, run, step)
        self._events: EventFileWriter | None = None  # made with the first step, and anew where it could not write
        self._gauges, self._now = Gauges(run), set[str]()  # metrics that `now` has told of

    def write(self, metrics: Mapping[str, Any]) -> None:
        """One step.

        Raises:
            OSError: its line cannot be written. Nothing of the step has been then, and it may be tried again.
        """
        append(self._folder / run_files.METRICS, json.dumps(metrics))
        numbers = {name: float(metrics[name]) for name in METRICS if metrics[name] is not None}
        self._gauges.tell({name: value for name, value in numbers.items() if name not in self._now})
        if self._draws:
            self._draw(metrics["step"], numbers)
        self._loggers.look(metrics["step"])

    def evaluated(self, step: int, accuracy: float) -> None:
        """The held-out accuracy of a step whose line is written already: Ray and TensorBoard show it; loggers read it
        in evals.jsonl."""
        numbers = {"eval_accuracy": accuracy}
        self._gauges.tell(numbers)
        if self._draws:
            self._draw(step, numbers)

    def _draw(self, step: int, numbers: Mapping[str, float]) -> None:
        values = [
            Summary.Value(tag=f"{METRICS[name].group}/{name}", simple_value=value) for name, value in numbers.items()
        ]
        try:
            self._events = self._events or self._opened()
            self._events.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
            self._events.flush()
        except OSError as failure:
            LOGGER.warning("TensorBoard lacks step %s, which metrics.jsonl has: %s", step, failure)
            self._events = None

    def _opened(self) -> EventFileWriter:
        events, step = EventFileWriter(str(self._folder / "tensorboard")), self._step
        if step:  # TensorBoard hides then what earlier event files have of these steps
            events.add_event(
                Event(wall_time=time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START))
            )
        self._step = 0
        return events

    def now(self, numbers: Mapping[str, float]) -> None:
        """Between two steps, every few seconds: how metrics stand that are known at any time. Ray alone shows them, and
        of the steps nothing of them from then on: what a step counted is older, and a total that falls would look like
        a new run."""
        self._now |= set(numbers)
        self._gauges.tell(numbers)

    def close(self) -> None:
        """Ends all files and loggers."""
        self._loggers.close()
        if self._events is not None:
            with suppress(OSError):
                self._events.close()

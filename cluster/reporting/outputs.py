"""What a run leaves behind and shows: metrics.jsonl, TensorBoard events, Ray's metrics, loggers, and the terminal."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from actors.disk import append
from cluster.reporting.gauges import Gauges
from cluster.reporting.loggers import TENSORBOARD, Loggers
from cluster.reporting.logs import LOGGER, SHOWN
from cluster.reporting.metric_table import METRICS
from cluster.reporting.terminal import console, plain


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
        append(self._folder / "metrics.jsonl", json.dumps(metrics))
        numbers = {name: float(metrics[name]) for name in METRICS if metrics[name] is not None}
        self._gauges.tell({name: value for name, value in numbers.items() if name not in self._now})
        if self._draws:
            self._draw(metrics["step"], numbers)
        self._loggers.look(metrics["step"])

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


_COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {  # heading -> how a step shows it, the most telling first
    "step": lambda m: f"{m['step']}",
    "accuracy": lambda m: _number(m["accuracy"], ".3f"),
    "kept": lambda m: f"{m['groups_kept']}",
    "all correct": lambda m: f"{m['groups_all_correct']}",
    "all wrong": lambda m: f"{m['groups_all_wrong']}",
    "wait s": lambda m: f"{m['seconds_wait']:.1f}",
    "train s": lambda m: f"{m['seconds_train']:.1f}",
    "sync s": lambda m: f"{m['seconds_sync']:.1f}",
    "entropy": lambda m: _number(m["entropy"], ".3f"),
    "lag": lambda m: f"{m['staleness_max']}",
    "probe gap": lambda m: f"{m['probe_gap']:.0e}",
    "reward": lambda m: _number(m["reward_mean"], "+.2f"),
    "bottleneck": lambda m: m["bottleneck"],
}


class Progress(Protocol):
    """Whoever is told how a run gets on."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def status(self, text: str) -> None:
        """What goes on until the next step."""

    def step(self, metrics: Mapping[str, Any]) -> None:
        """A finished step, by the names of `METRICS`."""


class Display:
    """The progress of a run: a live table on a terminal, a line per step elsewhere."""

    def __init__(self, steps: int, rows: int = 12) -> None:
        self._steps, self._rows = steps, rows
        self._console = console(soft_wrap=False)
        self._live: Live | None = None
        self._seen: list[Mapping[str, Any]] = []
        self._status = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=False)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        SHOWN.info("%s", text)
        with suppress(OSError):  # the file or terminal behind stdout is full or gone: no reason to end a run
            self._console.print(plain(text), soft_wrap=True)

    def status(self, text: str) -> None:
        """What is going on until the next step: under the table on a terminal, a line elsewhere."""
        self._status = plain(text)
        if self._live is None:
            self.say(text)
        else:
            SHOWN.info("%s", text)
            self._live.update(self._table())

    def step(self, metrics: Mapping[str, Any]) -> None:
        """A finished step."""
        self._seen.append(metrics)
        self._status = ""
        cells = (f"{name} {show(metrics)}" for name, show in _COLUMNS.items() if name != "step")
        line = f"step {metrics['step']}/{self._steps}: {', '.join(cells)}"
        if self._live is None:
            self.say(line)
        else:
            SHOWN.info("%s", line)
            self._live.update(self._table())

    def _table(self) -> Table | str:
        if not self._seen:
            return self._status
        done = self._seen[-1]["step"]
        table = Table(title=f"step {done} of {self._steps}", caption=self._status or None)
        shown = self._columns_that_fit()
        for heading in shown:
            table.add_column(heading, justify="right", no_wrap=True)
        for metrics in self._seen[-self._rows :]:
            table.add_row(*(_COLUMNS[heading](metrics) for heading in shown))
        return table

    def _columns_that_fit(self) -> list[str]:
        ends = accumulate(max(len(heading), len("0.000")) + 3 for heading in _COLUMNS)
        return [heading for heading, end in zip(_COLUMNS, ends, strict=True) if end < self._console.width]


class ProgressLine:
    """The progress of one run among many: a line that is written over on a terminal, and one that stays at its end."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._began = time.monotonic()
        self._last: Mapping[str, Any] = {}

    def say(self, text: str) -> None:
        """A line that stays."""
        SHOWN.info("%s: %s", self._name, text)
        self._console.print(plain(f"{self._name}: {text}"))

    def status(self, text: str) -> None:
        """What is going on; only a terminal shows it."""
        if self._console.is_terminal:
            line = plain(f"{self._name}: {text}".replace("\n", " "))
            self._console.print(line[: self._console.width - 1].ljust(self._console.width - 1), end="\r")

    def step(self, metrics: Mapping[str, Any]) -> None:
        """A finished step."""
        self._last = metrics
        self.status(f"step {metrics['step']}, accuracy {_number(metrics['accuracy'], '.3f')}")

    def done(self) -> None:
        """The run has ended well."""
        last = self._last
        shown = f"held-out accuracy {_number(last['eval_accuracy'], '.3f')}, {last['step']} steps"
        self.say(f"{shown}, {time.monotonic() - self._began:.0f} s".ljust(60))

    def failed(self, why: str) -> None:
        """The run has broken."""
        self.say(f"failed: {why}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

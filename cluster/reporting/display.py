"""What a person sees of a run that goes on: on a terminal a table, bars and a clock, elsewhere plain lines."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import accumulate
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.reporting.logs import SHOWN
from cluster.reporting.terminal import console, plain
from cluster.reporting.words import clock, sparkline

QUIET_SECONDS = 15.0  # without a line, after which one says what goes on; doubled each time, up to
LONGEST_QUIET = 240.0
LINE_SECONDS = 10.0  # between two lines on how far something has got
INDENT = " " * 9  # of lines that have no time of their own
SPARKS = 40  # bars at most

COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {  # heading -> how a step shows it, the most telling first
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

    def status(self, text: str, *, line: bool = True) -> None:
        """What goes on until the next step; without `line` it is told only where nothing else has been for long."""

    def advance(self, what: str, done: int, total: int, note: str = "") -> None:
        """How far something has got that takes long and is no step: a warm-up, an evaluation."""

    def step(self, metrics: Mapping[str, Any], sample: str = "") -> None:
        """A finished step, by the names of `METRICS`, and a response of it."""


class Display:
    """The progress of one run: what is up to date on a terminal, and lines elsewhere. Each line has the time since the
    beginning; while nothing else is to be told, a line says what is waited for."""

    def __init__(self, steps: int, rows: int = 12, quiet_seconds: float = QUIET_SECONDS) -> None:
        """
        Args:
            steps: that the run is to make.
            rows: of the table.
            quiet_seconds: without a line, after which one says what goes on.
        """
        self._steps, self._rows, self._quiet = steps, rows, quiet_seconds
        self._console = console(soft_wrap=False)
        self._began = self._told = time.monotonic()
        self._live: Live | None = None
        self._seen: list[Mapping[str, Any]] = []
        self._ends: list[float] = []  # when the steps ended
        self._status, self._since, self._sample = "", self._began, ""  # what goes on, and since when
        self._bar: _Bar | None = None  # of what takes long
        self._over = threading.Event()
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self._began = self._told = self._since = time.monotonic()
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._shown, console=self._console, refresh_per_second=2, transient=False)
            self._live.start()
        else:
            threading.Thread(target=self._watch, name="display", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._status, self._bar = "", None
        if self._live is not None:
            with suppress(OSError):  # the terminal is gone
                self._live.stop()
        elif line := self._accuracies():
            self.say(line)

    def say(self, text: str) -> None:
        """A line that stays, with the time since the beginning; further lines of the text stand below it."""
        SHOWN.info("%s", text)
        first, *more = plain(text).split("\n")
        lines = [f"{clock(time.monotonic() - self._began):>7}  {first}", *(f"{INDENT}{line}" for line in more)]
        with self._lock, suppress(OSError):  # what is behind stdout is full or gone: no reason to end a run
            self._told = time.monotonic()
            self._console.print("\n".join(lines), soft_wrap=True)

    def status(self, text: str, *, line: bool = True) -> None:
        """What is going on until the next step. Behind a colon stands how far it is."""
        if text.partition(":")[0] != self._status.partition(":")[0]:
            self._since = time.monotonic()
        self._status = text
        if line:
            self._bar = None
            if text:
                self._line(text)

    def advance(self, what: str, done: int, total: int, note: str = "") -> None:
        """How far something has got; a line for it where there is no terminal, every few seconds."""
        bar = self._bar
        if bar is None or bar.what != what:
            bar = _Bar(what, done, self._told if self._live is None else 0.0)
        bar.done, bar.total, bar.note = done, total, note
        self._bar = bar if done < total else None
        if done == total or time.monotonic() - bar.told >= LINE_SECONDS:
            bar.told = time.monotonic()
            self._line(bar.line())

    def step(self, metrics: Mapping[str, Any], sample: str = "") -> None:
        """A finished step."""
        self._seen.append(metrics)
        self._ends.append(time.monotonic())
        self._status, self._bar, self._sample = "", None, sample
        cells = [f"{name} {cell}" for name, show in COLUMNS.items() if name != "step" and (cell := show(metrics))]
        left = f"; {clock(self._left())} left" if len(self._ends) > 1 and metrics["step"] < self._steps else ""
        self._line(f"step {metrics['step']}/{self._steps}: {', '.join(cells)}{left}")
        if sample:
            self._line(f"    {sample}")

    def _line(self, text: str) -> None:
        """On a terminal it is for the log alone: the table shows it."""
        if self._live is None:
            self.say(text)
        else:
            SHOWN.info("%s", text)

    def _watch(self) -> None:
        """Has a line said where none has been for long. Runs in a thread: what a run waits for may block."""
        quiet, told = self._quiet, self._told
        while not self._over.wait(min(1.0, self._quiet / 4)):
            if self._told != told:
                quiet, told = self._quiet, self._told
            bar, since = self._bar, self._since
            doing = f"at {bar.line()}" if bar is not None else self._status
            if doing and time.monotonic() - self._told >= quiet and not self._over.is_set():
                self.say(f"still {doing} (for {clock(time.monotonic() - (bar.began if bar else since))})")
                quiet, told = min(LONGEST_QUIET, 2 * quiet), self._told

    def _left(self) -> float:
        """Seconds to the last step, if the rest take as long as the last ten."""
        ends = self._ends[-11:]
        return (ends[-1] - ends[0]) / max(1, len(ends) - 1) * (self._steps - self._seen[-1]["step"])

    def _accuracies(self) -> str:
        known = [float(metrics["accuracy"]) for metrics in self._seen if metrics["accuracy"] is not None]
        if len(known) < 2:
            return ""
        sparks = sparkline(known, SPARKS)
        try:
            sparks.encode(self._console.encoding)
        except UnicodeEncodeError:
            sparks = "..."
        return f"accuracy {known[0]:.3f} {sparks} {known[-1]:.3f}"

    def _shown(self) -> RenderableType:
        """What a terminal shows now."""
        now, parts = time.monotonic(), list[RenderableType]()
        if self._seen:
            parts.append(self._table())
            if line := self._accuracies():
                parts.append(Text(line, no_wrap=True))
            if self._sample:
                parts.append(Text(plain(self._sample), no_wrap=True, overflow="ellipsis"))
            step, left = self._seen[-1]["step"], clock(self._left()) if len(self._ends) > 1 else ""
            parts.append(_bar("steps", step, self._steps, f"{left} left" if left and step < self._steps else ""))
        if (bar := self._bar) is not None:  # another thread may take it away meanwhile
            parts.append(_bar(bar.what, bar.done, bar.total, ", ".join(filter(None, (bar.note, bar.left())))))
        elif self._status:
            since = f" ({clock(now - self._since)})" if now - self._since >= 1 else ""
            parts.append(Text(plain(self._status) + since, no_wrap=True, overflow="ellipsis"))
        if not self._over.is_set():
            parts.append(Text(clock(now - self._began)))
        return Group(*parts)

    def _table(self) -> Table:
        table, shown = Table(), self._columns_that_fit()
        for heading in shown:
            table.add_column(heading, justify="right", no_wrap=True)
        for metrics in self._seen[-self._rows :]:
            table.add_row(*(COLUMNS[heading](metrics) for heading in shown))
        return table

    def _columns_that_fit(self) -> list[str]:
        ends = accumulate(max(len(heading), len("0.000")) + 3 for heading in COLUMNS)
        return [heading for heading, end in zip(COLUMNS, ends, strict=True) if end < self._console.width]


class ProgressLine:
    """The progress of one run among many: a line that is written over on a terminal, and one that stays at its end."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._began = time.monotonic()
        self._last: Mapping[str, Any] = {}

    def say(self, text: str) -> None:
        """A line that stays."""
        SHOWN.info("%s: %s", self._name, text)
        line = plain(f"{self._name}: {text}")  # over what status has left there
        self._console.print(line.ljust(self._console.width - 1) if self._console.is_terminal else line)

    def status(self, text: str, *, line: bool = True) -> None:
        """What is going on; only a terminal shows it."""
        if self._console.is_terminal and line:
            shown = plain(f"{self._name}: {text}".replace("\n", " "))
            self._console.print(shown[: self._console.width - 1].ljust(self._console.width - 1), end="\r")

    def advance(self, what: str, done: int, total: int, note: str = "") -> None:
        """How far something has got."""
        self.status(f"{what}: {done} of {total}")

    def step(self, metrics: Mapping[str, Any], sample: str = "") -> None:
        """A finished step."""
        self._last = metrics
        self.status(f"step {metrics['step']}, accuracy {_number(metrics['accuracy'], '.3f') or 'unknown'}")

    def done(self) -> None:
        """The run has ended well."""
        accuracy, steps = self._last.get("eval_accuracy"), self._last.get("step", 0)
        held_out = "" if accuracy is None else f"held-out accuracy {accuracy:.3f}, "
        self.say(f"{held_out}{steps} steps, {time.monotonic() - self._began:.0f} s")

    def failed(self, why: str) -> None:
        """The run has broken."""
        self.say(f"failed: {why}")


class _Bar:
    """How far something has got that takes long."""

    def __init__(self, what: str, first: int, told: float) -> None:
        self.what, self.first, self.told, self.began = what, first, told, time.monotonic()
        self.done, self.total, self.note = 0, 0, ""

    def line(self) -> str:
        """All of it."""
        return ", ".join(filter(None, (f"{self.what}: {self.done} of {self.total}", self.note, self.left())))

    def left(self) -> str:
        """The time to its end, once there is a pace."""
        if not self.first < self.done < self.total:
            return ""
        pace = (time.monotonic() - self.began) / (self.done - self.first)
        return f"{clock(pace * (self.total - self.done))} left"


def _bar(what: str, done: int, total: int, note: str) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    row.add_row(Text(plain(what)), ProgressBar(total=max(1, total), completed=done, width=30), f"{done}/{total}", note)
    return row


def _number(value: float | None, form: str) -> str:
    """Blank where there is none."""
    return "" if value is None else format(value, form)

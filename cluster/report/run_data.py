"""Reads the folder of a run, whatever its state: before its first step, while it runs, crashed, finished, or a copy."""

import fcntl
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG, load_run, unchecked_tree
from cluster.config.run_config import RunConfig
from cluster.config.run_files import EVALUATIONS, LOCK, METRICS
from cluster.report.trajectories import ToldByTrajectories, told_by_trajectories
from cluster.report.words import ASKED
from cluster.reporting.hints import Hints
from cluster.reporting.logs import LOG_FILE
from cluster.reporting.metrics import alerts
from cluster.reporting.terminal import plain

MOST_CHANGES = 6  # prompts that are shown twice
MOST_SAID = 12  # hints and warnings
LOG_TAIL = 256 * 1024  # bytes of the log that are read
_WARNING = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ WARNING [\w.]+: (.*)$")
_BEGAN = "winnow.shown: run folder: "  # in the log when a run begins or goes on
_KINDS = {  # exceptions whose message says something else than why
    "Stopped": ASKED,
    "KeyboardInterrupt": "it was interrupted",
    "Terminated": "it was interrupted",
}
_ENDED_EARLY = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ DEBUG winnow: the run ended early$")

Line = Mapping[str, Any]


class State(StrEnum):
    """How far a run is."""

    RUNNING = "running"
    DONE = "done"  # all its steps, tokens or seconds
    ENDED = "ended"  # before that


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """What is known of a run."""

    name: str
    folder: Path
    steps: Sequence[Line]  # metrics.jsonl; a number that is not finite is None
    evals: Sequence[Line]  # evals.jsonl
    tree: Mapping[str, Any]  # config.toml; empty where it cannot be read
    settings: RunConfig | None  # the same, where this version of winnow can read it
    state: State
    why_ended: str  # of one that ended early, "" where it is not known
    said: Sequence[str]  # hints of its metrics and warnings of its log
    responses: ToldByTrajectories  # or that there are none
    planned: Mapping[str, float]  # steps, tokens and seconds; 0 is no limit

    def column(self, name: str) -> list[float | None]:
        """A metric of every step; None where the step has no such number."""
        return [_number(line.get(name)) for line in self.steps]

    def total(self, name: str) -> float:
        """The sum of a metric over the steps."""
        return sum(value for value in self.column(name) if value is not None)


def read_run(folder: Path, *, has_ended: bool = False, why_ended: str = "") -> RunData:
    """Reads a run.

    Args:
        folder: of the run.
        has_ended: whether it is known to run no more, though its process still holds the folder.
        why_ended: why it ended early, where that is known.

    Raises:
        ConfigError: this is not the folder of a run.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: name the folder of a run, such as runs/demo")
    if not (folder / CONFIG).is_file() and not (folder / METRICS).is_file():
        raise ConfigError(
            f"{folder} is not the folder of a run: it holds neither {CONFIG} nor {METRICS}. Name one such as runs/demo"
        )
    tree = unchecked_tree(folder / CONFIG)
    settings = _settings(folder)
    steps, evals = read_lines(folder / METRICS), read_lines(folder / EVALUATIONS)
    planned = {unit: _number(tree.get("run", {}).get(unit)) or 0.0 for unit in ("steps", "tokens", "seconds")}
    state = _state(folder, steps, planned, has_ended)
    log = _tail(folder / LOG_FILE)
    responses = told_by_trajectories(folder, MOST_CHANGES)
    return RunData(
        name=folder.resolve().name,
        folder=folder,
        steps=steps,
        evals=evals,
        tree=tree,
        settings=settings,
        state=state,
        why_ended=plain(why_ended or _why_ended(log)) if state is State.ENDED else "",
        said=[*_said(steps, settings, log), *_left_out(responses)],
        planned=planned,
        responses=responses,
    )


def read_lines(path: Path) -> tuple[Line, ...]:
    """The objects of a file of JSON lines. A last line that is still being written is left out, and so is one that is
    broken; numbers that are not finite are None."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    found = []
    for line in text.splitlines()[: None if text.endswith("\n") else -1]:
        with suppress(ValueError, RecursionError):
            tree = json.loads(line, parse_constant=lambda word: None)
            if isinstance(tree, dict):
                found.append(tree)
    return tuple(found)


def named_apart(runs: Sequence[RunData]) -> list[str]:
    """A name for each run: its folder's, with as many folders above it as tell it from the others."""
    paths = [run.folder.resolve().parts for run in runs]
    depth = 1
    while len({path[-depth:] for path in paths}) < len(set(paths)):
        depth += 1
    return [plain("/".join(path[-depth:])) for path in paths]


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _settings(folder: Path) -> RunConfig | None:
    try:
        return load_run(folder)[0]
    except ConfigError:
        return None


def _state(folder: Path, steps: Sequence[Line], planned: Mapping[str, float], has_ended: bool) -> State:
    last = steps[-1] if steps else {}
    spent = {
        "steps": _number(last.get("step")) or 0.0,
        "tokens": sum(_number(line.get("tokens_generated")) or 0.0 for line in steps),
        "seconds": _number(last.get("wall_seconds")) or 0.0,
    }
    if any(0 < planned[unit] <= spent[unit] for unit in planned):
        return State.DONE
    return State.RUNNING if not has_ended and _is_held(folder / LOCK) else State.ENDED


def _is_held(lock: Path) -> bool:
    """Whether another process holds the lock of a run."""
    try:
        with lock.open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        return False
    return False


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL))
            return file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _why_ended(log: Sequence[str]) -> str:
    """What the log says of the exception that ended the run: the line behind its traceback. "" where there is none, or
    the run went on after it."""
    ends = [place for place, line in enumerate(log) if _ENDED_EARLY.match(line)]
    behind = log[ends[-1] + 1 :] if ends else []
    traced = [place for place, line in enumerate(behind) if line.startswith("  ")]
    if not traced or traced[-1] + 1 >= len(behind) or any(_BEGAN in line for line in behind):
        return ""
    kind, _, why = behind[traced[-1] + 1].partition(": ")
    kind = kind.rpartition(".")[2]
    return _KINDS.get(kind) or why or kind


def _left_out(responses: ToldByTrajectories) -> list[str]:
    """That the responses of some steps are not read, where that is so."""
    if len(responses.steps) >= responses.written:
        return []
    return [
        f"responses were read in {len(responses.steps)} evenly spaced steps of {responses.written:,}: verdicts, "
        "lengths and what is said of trained responses are those of these steps"
    ]


def _said(steps: Sequence[Line], settings: RunConfig | None, log: Sequence[str]) -> list[str]:
    """The hints of the metrics, as the run said them, and what the log warns of; each once."""
    said: dict[str, None] = {}
    hints = Hints(settings.learner) if settings else None
    for line in steps:
        with suppress(KeyError, TypeError, ValueError):
            whole = {"kl_start": None, "step": "?", **line}
            found = hints.after(whole) if hints else list(alerts(whole).values())
            said |= dict.fromkeys(found)
    for logged in log:
        if warned := _WARNING.match(logged):
            said[warned[1]] = None
        elif "no response was correct in the last" in logged:
            said[logged.partition("winnow.shown: ")[2] or logged] = None
    shown = [plain(each) for each in said]
    left = len(shown) - MOST_SAID
    return shown[:MOST_SAID] + ([f"and {left} more in {LOG_FILE}"] if left > 0 else [])

"""Reads a comparison's folder and tells what it shows: methods' numbers with their intervals over seeds, and curves.

Only finished runs count: a run that failed or stopped early would pull its method's mean, so it is named instead.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.config.run_files import EVALUATIONS, METRICS
from cluster.report.run_data import read_lines

Array = npt.NDArray[np.float64]
Line = Mapping[str, Any]
Series = tuple[Array, Array]  # generated tokens spent, and the values there

WINDOW = 5  # training steps in the trailing mean of a noisy metric, in curves and at the end
GRID = 101  # points of a curve
ENOUGH = 0.9  # share of the budget from which a run counts as finished: the last step may end short of it
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 % quantiles for 1 to 9 degrees


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of the comparison."""

    name: str
    objective: str  # one line of ASCII
    changes: Mapping[str, Any]  # settings that differ from the common run file
    baseline: bool  # the starting model itself: it has no runs
    note: str  # what to hold the numbers against; may be empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run."""

    method: str
    seed: int
    steps: tuple[Line, ...]  # metrics.jsonl, one per training step; at least one
    evals: tuple[Line, ...]  # evals.jsonl; the first is the starting model, the last the trained one

    def column(self, name: str) -> Array:
        """A metric of every step; NaN where the step has no such number."""
        return np.array([step.get(name) for step in self.steps], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A planned run that gives no numbers."""

    method: str
    seed: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was planned, the runs that finished, and those that did not."""

    name: str
    title: str
    budget_tokens: int  # generated tokens of a run; 0: not limited
    budget_seconds: float  # 0: not limited
    machine: str
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]  # at least one
    failed: tuple[Absent, ...]
    missing: tuple[Absent, ...]

    def of(self, method: str) -> tuple[Run, ...]:
        """The finished runs of a method, by seed."""
        return tuple(run for run in self.runs if run.method == method)

    @property
    def reference(self) -> str:
        """The method that others are compared with where none is chosen: the first that trains."""
        return next(method.name for method in self.methods if not method.baseline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number measured once per seed. Example: Estimate(values=(0.5, 0.6, 0.7)) prints as 0.600 ± 0.248."""

    values: tuple[float, ...]  # at least one

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def half(self) -> float | None:
        """Half the width of the 95 % Student-t interval of the mean; one seed has none, as it shows no spread."""
        return float(half_width(np.array(self.values))) if len(self.values) > 1 else None

    def text(self, form: str = ".3f") -> str:
        """The mean, and the half width where there is one."""
        interval = "" if self.half is None else f" ± {format(self.half, form.lstrip('+'))}"
        return format(self.mean, form) + interval


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """A method's measure over tokens spent, from where all its seeds have begun to where the first of them ends."""

    tokens: Array  # (n,), evenly spaced
    seeds: Array  # (seeds, n), each seed's values, interpolated linearly
    mean: Array  # (n,)
    half: Array | None  # (n,), half widths of the 95 % intervals; none with one seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A method's line of the table. A baseline has `final` and `difference` only."""

    method: Method
    seeds: tuple[int, ...]  # seeds with a value
    planned: int  # seeds that there should be
    final: Estimate  # held-out accuracy at the end
    difference: Estimate | None  # final accuracy less the reference method's, seed by seed
    half: Estimate | None  # held-out accuracy at half the budget
    entropy_start: Estimate | None  # of the first step, nats per token
    entropy_end: Estimate | None  # mean of the last steps
    kl_end: Estimate | None  # from the starting model, nats per token, mean of the last steps
    kept: Estimate | None  # share of the graded groups that the filter accepted
    generated: Estimate | None  # tokens
    trained: Estimate | None  # tokens, each update's counted
    steps: Estimate | None
    minutes: Estimate | None


def read_comparison(folder: Path) -> Comparison:
    """Reads what `winnow compare` wrote, finished or not; ValueError where it is broken or no run has finished."""
    plan = _read_plan(folder / "compare.json")
    failed = {(absent.method, absent.seed): absent for absent in plan["failed"]}
    runs, missing = [], []
    for method in (method for method in plan["methods"] if not method.baseline):
        for seed in (seed for seed in plan["seeds"] if (method.name, seed) not in failed):
            run, why = read_run(folder, method.name, seed, tokens=plan["budget_tokens"], seconds=plan["budget_seconds"])
            if why:
                missing.append(Absent(method=method.name, seed=seed, why=why))
            else:
                runs.append(run)
    if not runs:
        raise ValueError(f"{folder}: no run has finished: {len(failed)} failed, {len(missing)} are missing")
    return Comparison(**plan | {"failed": tuple(failed.values())}, runs=tuple(runs), missing=tuple(missing))


def method_folder(name: str) -> str:
    """The folder of a method's runs."""
    return name.replace("/", "-").replace(" ", "-")


def run_folder(folder: Path, method: str, seed: int) -> Path:
    """The folder of a run."""
    return folder / method_folder(method) / f"seed={seed}"


def _read_plan(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist: this is not the folder of a comparison")
    told = json.loads(path.read_text(encoding="utf-8"))
    lacking = [key for key in ("name", "title", "methods", "seeds") if key not in told]
    if lacking:
        raise ValueError(f"{path} lacks {', '.join(lacking)}")
    methods = tuple(_method(method, told.get("notes", {})) for method in told["methods"])
    if len({method_folder(method.name) for method in methods}) < len(methods):
        raise ValueError(f"{path}: two methods share a folder: {', '.join(method.name for method in methods)}")
    return {
        "name": told["name"],
        "title": told["title"],
        "budget_tokens": told.get("budget_tokens", 0),
        "budget_seconds": told.get("budget_seconds", 0),
        "machine": told.get("machine", ""),
        "methods": methods,
        "seeds": tuple(told["seeds"]),
        "failed": [
            Absent(method=line["method"], seed=line["seed"], why=line["why"]) for line in told.get("failed", [])
        ],
    }


def _method(told: Line, notes: Mapping[str, str]) -> Method:
    return Method(
        name=told["name"],
        objective=told.get("objective", ""),
        changes=told.get("changes", {}),
        baseline=told.get("baseline", False),
        note=notes.get(told["name"], ""),
    )


def read_run(folder: Path, method: str, seed: int, *, tokens: int, seconds: float) -> tuple[Run, str]:
    """What a run has written so far, and why it gives no numbers: "" where it has spent its budget.

    Args:
        folder: of the comparison.
        method: its name.
        seed: of the run.
        tokens: the budget in generated tokens; 0: not limited.
        seconds: the budget in seconds; 0: not limited.
    """
    place = run_folder(folder, method, seed)
    run = Run(method=method, seed=seed, steps=read_lines(place / METRICS), evals=read_lines(place / EVALUATIONS))
    return run, _why_unfinished(run, tokens, seconds) if place.is_dir() else "no folder"


def _why_unfinished(run: Run, tokens: int, seconds: float) -> str:
    if not run.steps:
        return "no training step"
    if not run.evals or run.evals[0]["step"] != 0 or run.evals[-1]["step"] == 0:
        return "not evaluated both before and after training"
    budgets = {"tokens": tokens, "wall_seconds": seconds}
    spent = max((run.evals[-1][unit] / budget for unit, budget in budgets.items() if budget), default=1.0)
    return "" if spent >= ENOUGH else f"last evaluated at {spent:.0%} of its budget"


def half_width(values: Array) -> Any:
    """Half the width of the 95 % Student-t interval of the mean over axis 0: t(n - 1) s / sqrt(n), n at least 2."""
    return student_t(len(values) - 1) * np.std(values, axis=0, ddof=1) / math.sqrt(len(values))


def student_t(degrees: int) -> float:
    """The 97.5 % quantile of Student's t: a table up to 9 degrees, then Fisher's expansion (error below 0.001)."""
    if degrees <= len(_STUDENT):
        return _STUDENT[degrees - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def _held_out(run: Run) -> Series:
    tokens, values = ([line[name] for line in run.evals] for name in ("tokens", "accuracy"))
    return np.array(tokens, np.float64), np.array(values, np.float64)


def _trailing(values: Array) -> Array:
    return np.array([values[max(0, end - WINDOW) : end].mean() for end in range(1, len(values) + 1)])


def _metric(name: str, run: Run) -> Series:
    tokens, values = np.cumsum(run.column("tokens_generated")), run.column(name)
    there = ~np.isnan(values)
    return tokens[there], _trailing(values[there])


def _kept(run: Run) -> Series:
    """Groups kept over groups graded in the last steps, not the mean of their shares: a step may grade none."""
    tokens = np.cumsum(run.column("tokens_generated"))
    kept, graded = (_trailing(np.diff(column, prepend=0)) for column in (run.column("groups_kept"), _graded(run)))
    return tokens[graded > 0], kept[graded > 0] / graded[graded > 0]


MEASURES: dict[str, Callable[[Run], Series]] = {
    "held_out": _held_out,
    "accuracy": partial(_metric, "accuracy"),
    "entropy": partial(_metric, "entropy"),
    "kl_start": partial(_metric, "kl_start"),
    "kept": _kept,
}


def curve(comparison: Comparison, method: str, measure: str) -> Curve | None:
    """The mean over seeds of one of `MEASURES`; none where the method has no such numbers."""
    series = [MEASURES[measure](run) for run in comparison.of(method)]
    series = [(tokens, values) for tokens, values in series if len(tokens)]
    start = max((tokens[0] for tokens, _ in series), default=0.0)
    end = min((tokens[-1] for tokens, _ in series), default=0.0)
    if start >= end:
        return None
    grid = np.linspace(start, end, GRID)
    seeds = np.stack([np.interp(grid, tokens, values) for tokens, values in series])
    return Curve(tokens=grid, seeds=seeds, mean=seeds.mean(axis=0), half=half_width(seeds) if len(seeds) > 1 else None)


def evaluations(comparison: Comparison, method: str) -> list[Series]:
    """Each finished run's held-out accuracy where it was evaluated."""
    return [_held_out(run) for run in comparison.of(method)]


def finals(comparison: Comparison, method: Method) -> dict[int, float]:
    """Each seed's held-out accuracy at the end; a baseline's is what the seed's runs measured before training."""
    if not method.baseline:
        return {run.seed: run.evals[-1]["accuracy"] for run in comparison.of(method.name)}
    before: dict[int, list[float]] = {}
    for run in comparison.runs:
        before.setdefault(run.seed, []).append(run.evals[0]["accuracy"])
    return {seed: float(np.mean(before[seed])) for seed in sorted(before)}


def rows(comparison: Comparison, reference: str | None = None) -> tuple[Row, ...]:
    """The table, a method per row in the order of the plan; methods without a finished run have none."""
    chosen = comparison.reference if reference is None else reference
    against = next((finals(comparison, method) for method in comparison.methods if method.name == chosen), None)
    if against is None:
        raise ValueError(f"no method is called {chosen}: {', '.join(method.name for method in comparison.methods)}")
    values = [(method, finals(comparison, method)) for method in comparison.methods]
    return tuple(
        _row(comparison, method, final, {} if method.name == chosen else against) for method, final in values if final
    )


def _row(comparison: Comparison, method: Method, final: Mapping[int, float], against: Mapping[int, float]) -> Row:
    runs = comparison.of(method.name)
    return Row(
        method=method,
        seeds=tuple(final),
        planned=len(comparison.seeds),
        final=Estimate(values=tuple(final.values())),
        difference=_estimate([final[seed] - against[seed] for seed in final if seed in against]),
        half=_estimate([held_out_at(comparison, run, 0.5) for run in runs]),
        **{name: _estimate([number(run) for run in runs]) for name, number in _NUMBERS.items()},
    )


def _estimate(values: Sequence[float | None]) -> Estimate | None:
    there = tuple(float(value) for value in values if value is not None)
    return Estimate(values=there) if there else None


def held_out_at(comparison: Comparison, run: Run, share: float) -> float | None:
    """A run's held-out accuracy when this share of the budget was spent, between two evaluations on the line that joins
    them; without a budget, the share of what every run spent. None where it did not come so far."""
    unit = "wall_seconds" if comparison.budget_seconds and not comparison.budget_tokens else "tokens"
    budget = comparison.budget_tokens or comparison.budget_seconds
    spent = (budget or min(run.evals[-1]["tokens"] for run in comparison.runs)) * share
    clock, accuracy = ([line[name] for line in run.evals] for name in (unit, "accuracy"))
    return float(np.interp(spent, clock, accuracy)) if spent <= clock[-1] else None


def _at(index: int, name: str, run: Run) -> float | None:
    values = MEASURES[name](run)[1]
    return values[index] if len(values) else None


def _kept_share(run: Run) -> float | None:
    graded = _graded(run)[-1]
    return float(run.column("groups_kept")[-1] / graded) if graded else None


def _graded(run: Run) -> Array:
    """Groups dispatched so far less those still being sampled."""
    return run.column("groups_dispatched") - np.nan_to_num(run.column("groups_in_flight"))


_NUMBERS: dict[str, Callable[[Run], float | None]] = {  # fields of a row that each run gives by itself
    "entropy_start": partial(_at, 0, "entropy"),  # the trailing mean of one step
    "entropy_end": partial(_at, -1, "entropy"),
    "kl_end": partial(_at, -1, "kl_start"),
    "kept": _kept_share,
    "generated": lambda run: run.column("tokens_generated").sum(),
    "trained": lambda run: run.column("tokens_trained").sum(),
    "steps": lambda run: run.steps[-1]["step"],
    "minutes": lambda run: run.steps[-1]["wall_seconds"] / 60,
}

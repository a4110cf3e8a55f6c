"""What a part of the benchmarks gives: figures beside their targets, and lines for charts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


def met(reached: float, target: float | None, most: bool) -> bool | None:
    """Whether a target is reached; None where there is no target, or no figure."""
    if target is None or not math.isfinite(reached):
        return None
    return reached <= target if most else reached >= target


def number(value: float) -> str:
    """Three digits that count, thousands apart; "-" where there is none."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number that was reached.

    Example: ``Figure(name="samples/s against TRL, short", reached=1.7, target=1.5, unit="x")``
    """

    name: str
    reached: float
    unit: str = ""
    target: float | None = None  # None: it is only reported
    most: bool = False  # whether the target is the most that is allowed, rather than the least
    note: str = ""  # what a reader must know: how it was measured, or why it falls short

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return met(self.reached, self.target, self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a number should reach, or stay under."""

    value: float | None
    most: bool = False  # as in `Figure`
    unit: str = ""
    title: str = ""  # what the page calls the number; "": by its own name


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Lines over one measure, or with `bars` one bar for each of the points."""

    title: str
    x: str  # what stands on the horizontal axis
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    bars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The results of one part."""

    figures: Sequence[Figure]
    charts: Sequence[Chart] = ()
    details: Mapping[str, Any] = field(default_factory=dict)  # what else is kept: settings, profiles
    remarks: Sequence[str] = ()  # sentences for the page: what was seen, and what was not

    def as_json(self) -> dict[str, Any]:
        """Plain values, and whether each target was met."""
        tree = asdict(self)
        for figure, row in zip(self.figures, tree["figures"], strict=True):
            row["met"] = figure.met
        return tree


def part_of_numbers(tree: Mapping[str, Any], targets: Mapping[str, "Target"]) -> Part:
    """A figure for each number in the mapping, with its target where it has one."""
    figures = [
        Figure(name=goal.title or name, reached=number, target=goal.value, most=goal.most, unit=goal.unit)
        for name, number in _numbers(tree)
        for goal in [targets.get(name, Target(value=None))]
    ]
    return Part(figures=figures, details=dict(tree))


def part_of(tree: Mapping[str, Any]) -> Part:
    """The part that `as_json` wrote."""
    figures = [Figure(**{key: value for key, value in row.items() if key != "met"}) for row in tree["figures"]]
    charts = [
        Chart(**(chart | {"lines": {name: [(x, y) for x, y in line] for name, line in chart["lines"].items()}}))
        for chart in tree.get("charts", [])
    ]
    details, remarks = tree.get("details", {}), tree.get("remarks", [])
    return Part(figures=figures, charts=charts, details=details, remarks=remarks)


def _numbers(tree: Mapping[str, Any], before: str = "") -> list[tuple[str, float]]:
    found = []
    for key, value in tree.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found += _numbers(value, f"{name}, ")
        elif isinstance(value, int | float):
            found.append((name, float(value)))
    return found

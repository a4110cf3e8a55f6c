"""Metrics of one run or several as lines, tables and sentences."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster.report.charts import Axes, Line, Point, averaged, line_chart, thinned
from cluster.report.page import Chart, Section, Table
from cluster.report.run_data import RunData
from cluster.report.words import counted, ends, listed, number, trend

MOST_ROWS = 40  # of a table of steps; of more evenly spaced ones are shown

Reads = Callable[[RunData], Sequence[tuple[float, float | None]]]  # (step, value) pairs of a run


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Something that is known of steps."""

    name: str  # in the legend and the table
    reads: Reads


def metric(name: str, shown: str = "") -> Measure:
    """A metric as it stands in metrics.jsonl; `shown` is its name on the page."""

    def reads(run: RunData) -> list[tuple[float, float | None]]:
        return list(zip((float(line.get("step") or 0) for line in run.steps), run.column(name), strict=True))

    return Measure(name=shown or name, reads=reads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The runs of a page with their names."""

    names: Sequence[str]
    runs: Sequence[RunData]

    @property
    def is_one(self) -> bool:
        """Whether there is one run only."""
        return len(self.runs) == 1

    @property
    def pairs(self) -> list[tuple[str, RunData]]:
        """Each name with its run."""
        return list(zip(self.names, self.runs, strict=True))


def line_section(
    runs: Runs,
    title: str,
    measures: Sequence[Measure],
    axes: Axes,
    *,
    note: str = "",
    what: str = "",
    more: str = "",
) -> Section | None:
    """A section with a line for each measure of each run; None where none of them is known.

    Args:
        runs: of the page.
        title: of the section.
        measures: in the sequence of their telling; the sentence is about the first that is known.
        axes: of the chart.
        note: how they were measured.
        what: the first measure in a sentence; unset, its name.
        more: a sentence behind the first.
    """
    lines, size = lines_of(runs, measures)
    if not lines:
        return None
    sentence = " ".join(filter(None, [sentence_of(runs, measures, what), more]))
    return Section(
        title=title,
        sentence=sentence,
        charts=[Chart(spec=line_chart(lines, axes), about=sentence)],
        tables=[step_table(runs, measures)],
        note=" ".join(filter(None, [note, averaging(size)])),
    )


def lines_of(runs: Runs, measures: Sequence[Measure]) -> tuple[list[Line], int]:
    """The lines of a chart, and of how many steps each point is the mean, at most. With one run measures have colours,
    with several runs have, and measures their dashes."""
    lines, largest = [], 1
    for name, run in runs.pairs:
        for measure in measures:
            points = [Point(x=x, y=y) for x, y in measure.reads(run) if y is not None and math.isfinite(y)]
            points, size = averaged(points)
            largest = max(largest, size)
            part = measure.name if len(measures) > 1 and not runs.is_one else ""
            if points:
                lines.append(Line(name=measure.name if runs.is_one else name, part=part, points=points))
    return lines, largest


def sentence_of(runs: Runs, measures: Sequence[Measure], what: str = "") -> str:
    """What is seen of the first measure that is known; of several runs, which ends highest and which lowest."""
    for measure in measures:
        told = [(name, [value for _, value in measure.reads(run)]) for name, run in runs.pairs]
        told = [(name, values) for name, values in told if any(value is not None for value in values)]
        if told:
            called = what or measure.name
            return trend(called, told[0][1]) if runs.is_one else highest_and_lowest(called, told)
    return ""


def highest_and_lowest(what: str, told: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """A sentence of where several runs end.

    Example: "Accuracy at the end is highest in a (0.6, from 0.2) and lowest in b (0.4, from 0.2)."
    """
    last: dict[str, tuple[float | None, float]] = {}
    for name, values in told:
        found = ends(values)
        there = [value for value in values if value is not None]
        last[name] = (found[0], found[1]) if found else (None, there[-1])
    best, worst = (pick(last, key=lambda name: last[name][1]) for pick in (max, min))
    name = what[:1].upper() + what[1:]
    if number(last[best][1]) == number(last[worst][1]):
        return f"{name} ends at {number(last[best][1])} in {listed(list(last))}."

    def shown(which: str) -> str:
        first, end = last[which]
        return f"{which} ({number(end)}" + (f", from {number(first)})" if first is not None else ")")

    return f"{name} at the end is highest in {shown(best)} and lowest in {shown(worst)}."


def step_table(runs: Runs, measures: Sequence[Measure]) -> Table:
    """A row for each step, or for evenly spaced ones where they are many."""
    columns = {}
    for name, run in runs.pairs:
        for measure in measures:
            known = {x: y for x, y in measure.reads(run) if y is not None}
            if known:
                columns[measure.name if runs.is_one else f"{name}: {measure.name}"] = known
    return step_table_of(columns)


def step_table_of(columns: Mapping[str, Mapping[float, float]], name: str = "") -> Table:
    """A row for each step, or for evenly spaced ones where they are many.

    Args:
        columns: heading -> step -> value.
        name: of what the table is about, where there are several.
    """
    steps = sorted({step for values in columns.values() for step in values})
    shown = thinned(steps, MOST_ROWS)
    left_out = "" if len(shown) == len(steps) else f" (of {counted(len(steps), 'step')})"
    title = f"able of {counted(len(shown), 'step')}{left_out}"
    return Table(
        title=f"{name}: t{title}" if name else f"T{title}",
        columns=["step", *columns],
        rows=[[number(step), *(number(values.get(step)) for values in columns.values())] for step in shown],
    )


def averaging(size: int) -> str:
    """What is to be said of a chart whose points are means of several steps."""
    return f"Each point of the chart is the mean of {size} steps." if size > 1 else ""

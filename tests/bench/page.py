"""The page of the benchmarks, made of the parts of winnow's own pages: every target beside what each run reached."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cluster.report.page as pages
from cluster.report.charts import Axes, Line, Point, Spec, line_chart
from tests.bench.figures import Chart, part_of
from tests.bench.records import Record
from tests.bench.spread import Spread, number, spreads, target_of

MET = {None: "", True: "reached", False: "falls short"}


def write_page(runs: Sequence[Record], about: Mapping[str, str], path: Path) -> None:
    """Writes the page.

    Args:
        runs: at least one, of one machine and one code, the oldest first.
        about: what each part is, in the order of the page.
        path: of the page.
    """
    found = spreads(runs, list(about))
    judged = [row.met for row in found if row.met is not None]
    last = runs[-1].about
    page = pages.Page(
        title="winnow: benchmarks",
        lead=[
            f"On {last.machine}. Ratios are taken within one run of these benchmarks; absolute figures are of this "
            f"machine only. The medians of {_runs(runs)} reach {sum(judged)} of {len(judged)} targets.",
            "Packages: " + ", ".join(f"{name} {version}" for name, version in last.versions.items()) + ".",
        ],
        warnings=_warnings(runs),
        warning_title="Not all parts ended well.",
        sections=[_targets(runs, found), *(_section(name, told, runs, found) for name, told in about.items())],
    )
    pages.write_page(page, path)


def _runs(runs: Sequence[Record]) -> str:
    return "one run" if len(runs) == 1 else f"{len(runs)} runs"


def _warnings(runs: Sequence[Record]) -> list[str]:
    return [
        f"{run.about.began}: {name}: {result['problem']}"
        for run in runs
        for name, result in run.parts.items()
        if result["problem"]
    ]


def _targets(runs: Sequence[Record], found: Sequence[Spread]) -> pages.Section:
    """Every target with the figure of each run."""
    columns = ["part", "figure", "target", "median (least to most)", "", *(run.about.began for run in runs)]
    rows = [
        [row.part, row.figure.name, f"{target_of(row.figure)} {row.figure.unit}".strip(), row.shown, MET[row.met]]
        + [number(value) for value in row.values]
        for row in found
        if row.figure.target is not None
    ]
    short = [[row.figure.name, row.figure.note] for row in found if row.met is False and row.figure.note]
    made = [f"{run.about.began}: commit {run.about.commit}, begun at a load of {run.about.load:.1f}." for run in runs]
    why = pages.Table(columns=["falls short", "why, in the last run"], rows=short, is_open=True, is_text=True)
    return pages.Section(
        title="Targets",
        sentence="\n".join(made),
        charts=[],
        tables=[
            pages.Table(title="Targets", columns=columns, rows=rows, is_open=True, is_text=True),
            *([why] if short else []),
        ],
        is_wide=True,
    )


def _section(name: str, about: str, runs: Sequence[Record], found: Sequence[Spread]) -> pages.Section:
    """A part: its figures over the runs, and charts and remarks of the last run that has it."""
    tree: Mapping[str, Any] | None = next(
        (run.parts[name]["part"] for run in reversed(runs) if run.parts.get(name, {}).get("part")), None
    )
    part = part_of(tree) if tree else None
    rows = [
        [
            row.figure.name,
            f"{row.shown} {row.figure.unit}".strip(),
            target_of(row.figure),
            MET[row.met],
            row.figure.note,
        ]
        for row in found
        if row.part == name
    ]
    columns = ["figure", "median (least to most)", "target", "", "how it came about in the last run"]
    return pages.Section(
        title=name,
        sentence="\n".join([about, *(part.remarks if part else ["Not measured yet."])]),
        charts=[
            pages.Chart(spec=spec_of(chart), about=chart.title, title=chart.title)
            for chart in (part.charts if part else ())
        ],
        tables=[pages.Table(title="Figures", columns=columns, rows=rows, is_open=True, is_text=True)] if rows else [],
        is_wide=True,
    )


def spec_of(chart: Chart) -> Spec:
    """The chart's specification."""
    if chart.bars:
        return _bars({name: points[0][1] for name, points in chart.lines.items()}, chart.y)
    lines = [
        Line(name=name, points=[Point(x=x, y=y) for x, y in points]) for name, points in chart.lines.items() if points
    ]
    few = all(len(line.points) < 9 for line in lines)
    return line_chart(lines, Axes(x=chart.x, y=chart.y, zero=True), dots=few)


def _bars(values: Mapping[str, float], title: str) -> Spec:
    """A bar for each name."""
    names = {"field": "name", "type": "nominal", "sort": list(values), "title": None, "axis": {"labelLimit": 200}}
    along = {"field": "value", "type": "quantitative", "title": title}
    return {
        "data": {"values": [{"name": name, "value": value} for name, value in values.items()]},
        "mark": {"type": "bar"},
        "encoding": {"y": names, "x": along, "color": {"value": "@c0"}, "tooltip": [names, along]},
        "height": {"step": 26},
    }

"""The page of the benchmarks, of the parts of winnow's own pages: every target beside the figure that was reached."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cluster.report.page as pages
from cluster.report.charts import Axes, Line, Point, Spec, line_chart
from tests.bench.figures import Chart, Figure, Part, part_of


def write_page(results: Sequence[Mapping[str, Any]], machine: str, path: Path) -> None:
    """Writes the page.

    Args:
        results: of each part `name`, `about`, `problem` ("" where it ended well) and `part` (its JSON, or None).
        machine: in words.
        path: of the page.
    """
    parts = [(result, part_of(result["part"]) if result["part"] else None) for result in results]
    judged = [figure.met for _, part in parts if part for figure in part.figures if figure.met is not None]
    page = pages.Page(
        title="winnow: benchmarks",
        lead=[
            f"On {machine}. Ratios are taken within one run of these benchmarks; absolute figures are of this machine "
            f"only. {sum(judged)} of {len(judged)} targets are reached."
        ],
        warnings=[f"{result['name']}: {result['problem']}" for result, _ in parts if result["problem"]],
        warning_title="Not all parts ended well.",
        sections=[_section(result, part) for result, part in parts],
    )
    pages.write_page(page, path)


def _section(result: Mapping[str, Any], part: Part | None) -> pages.Section:
    told = [result["about"], *(part.remarks if part else [])]
    figures = [_row(figure) for figure in part.figures] if part else []
    columns = ["figure", "reached", "target", "", "how it came about"]
    return pages.Section(
        title=result["name"],
        sentence="\n".join(told),
        charts=[
            pages.Chart(spec=spec_of(chart), about=chart.title, title=chart.title)
            for chart in (part.charts if part else ())
        ],
        tables=[pages.Table(title="Figures", columns=columns, rows=figures, is_open=True, is_text=True)]
        if figures
        else [],
        is_wide=True,
    )


def _row(figure: Figure) -> list[str]:
    most = "at most" if figure.most else "at least"
    target = "" if figure.target is None else f"{most} {number(figure.target)}"
    met = {None: "", True: "reached", False: "falls short"}[figure.met]
    return [figure.name, f"{number(figure.reached)} {figure.unit}".strip(), target, met, figure.note]


def number(value: float) -> str:
    """Three digits that count, thousands apart; "-" where there is none."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


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

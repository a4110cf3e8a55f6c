"""The page of the benchmarks, in the look of a comparison's page: every target beside the figure that was reached."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cluster.comparing.page import COLOURS, STYLE, _colour, _svg
from tests.bench.figures import Chart, part_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_page(results: Sequence[Mapping[str, Any]], machine: str, path: Path) -> None:
    """Writes the page.

    Args:
        results: of each part `name`, `about`, `problem` ("" where it ended well) and `part` (its JSON, or None).
        machine: in words.
        path: of the page.
    """
    from matplotlib import rc_context

    here = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=here, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    parts = [(r["name"], r["about"], part_of(r["part"]) if r["part"] else None, r["problem"]) for r in results]
    judged = [figure.met for _, _, part, _ in parts if part for figure in part.figures if figure.met is not None]
    with rc_context(STYLE):
        text = page.get_template("page.html").render(
            parts=parts,
            machine=machine,
            colours=COLOURS,
            met=sum(judged),
            targets=len(judged),
            number=number,
            draw=draw,
        )
    path.write_text(text, encoding="utf-8")


def number(value: float) -> str:
    """Three digits that count, thousands apart; "-" where there is none."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def draw(chart: Chart) -> Markup:
    """The chart as an SVG that follows the reader's theme."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.2))
    axes = figure.add_axes((0.12, 0.15, 0.85, 0.8))
    (_bars if chart.bars else _lines)(axes, chart)
    return _svg(figure, chart.title)


def _lines(axes: "Axes", chart: Chart) -> None:
    for place, (name, line) in enumerate(chart.lines.items()):
        if line:
            x, y = zip(*line, strict=True)
            axes.plot(x, y, color=_colour(place), marker="o" if len(x) < 9 else None, ms=4, lw=1.7, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    axes.legend(frameon=False, labelcolor="linecolor")


def _bars(axes: "Axes", chart: Chart) -> None:
    names = list(chart.lines)
    for place, name in enumerate(names):
        axes.barh(place, chart.lines[name][0][1], color=_colour(place), height=0.6)
        axes.text(0, place + 0.42, name, va="center", fontsize=7)
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(chart.y)
    axes.grid(axis="x")

"""The page of a comparison: one HTML file that needs no network, with the table, charts and a section for each method.

Charts are drawn with stand-in colours that become CSS variables, so they follow the reader's light or dark theme.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cluster.comparing.comparison import Array, Comparison, Curve, Row, curve, rows
from cluster.comparing.table import COLUMNS, MORE, tokens_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE = ("#6b7280", "#9aa3b2")
COLOURS = (  # on light ground and on dark; an method's place in the plan chooses
    ("#1f5fbf", "#7fb2ff"),
    ("#d9600a", "#ff9f5a"),
    ("#12855a", "#4fd1a0"),
    ("#c2257f", "#ff86c4"),
    ("#6d43c4", "#b99bff"),
    ("#a67c00", "#f0c648"),
    ("#0e8fa6", "#5fd6ea"),
    ("#a12a1f", "#ff8f86"),
    ("#5f7a12", "#bcd65a"),
    ("#8a5a33", "#d8a77d"),
    ("#a845b0", "#e69bf0"),
    ("#2f3b63", "#b7c2e8"),
)
MARKERS = "os^DvPXh<>*p"
DASHES: tuple[Any, ...] = ("-", (0, (4.5, 1.8)))  # the second for the second half of the colours
INK, MUTED, RULE, PAPER = "#fe0100", "#fe0200", "#fe0300", "#fe0400"  # stand-ins
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--paper)"}
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 8,
    "font.family": "DejaVu Sans",  # comes with matplotlib; it only measures, the page has its own
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
}


CHARTS = {  # measure over tokens spent -> title, and what it is
    "held_out": ("Held-out accuracy", "Share of right responses to the held-out prompts, the same for all methods."),
    "accuracy": ("Training accuracy", "Share of right responses among all sampled ones, those of rejected groups too."),
    "entropy": ("Entropy", "Of the next token, nats, over the tokens that were trained on."),
    "kl_start": ("KL from start", "KL(policy || starting model), nats per trained token."),
    "kept": ("Groups kept", "Share of the graded groups that the filter let through."),
}
AGAINST_KL = "Held-out accuracy reached at a distance from the starting model; a mark every eighth of the run."


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Where an method's line ends, and so where its name points."""

    place: int  # of the method in the plan
    name: str
    x: float
    y: float


def write_page(comparison: Comparison, path: Path) -> None:
    """Writes the page; the same comparison gives the same bytes."""
    from matplotlib import rc_context

    here = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=here, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    with rc_context(STYLE):
        text = page.get_template("page.html").render(_content(comparison))
    path.write_text(text, encoding="utf-8")


def _content(comparison: Comparison) -> dict[str, Any]:
    """What the template shows."""
    told = {row.method.name: row for row in rows(comparison)}
    columns = COLUMNS | MORE
    charts = [(*said, _over_tokens(comparison, measure)) for measure, said in CHARTS.items()]
    small = _small_charts(comparison)
    return {
        "it": comparison,
        "evaluation": comparison.runs[0].evals[-1],
        "columns": columns,
        "intervals": _intervals(list(told.values())),
        "charts": [*charts, ("Accuracy against KL", AGAINST_KL, _against_kl(comparison))],
        "methods": [
            (place, method, told.get(method.name), small.get(place)) for place, method in enumerate(comparison.methods)
        ],
        "colours": _colours(comparison),
        "verdict": verdict,
    }


def verdict(row: Row) -> str:
    """What the difference to the reference method says."""
    if row.difference is None:
        return ""
    if row.difference.half is None:
        return "one seed: cannot tell"
    if abs(row.difference.mean) <= row.difference.half:
        return "cannot be told apart"
    return "better" if row.difference.mean > 0 else "worse"


def _colours(comparison: Comparison) -> list[tuple[str, str]]:
    trained = iter(COLOURS * len(comparison.methods))
    return [BASELINE if method.baseline else next(trained) for method in comparison.methods]


def _intervals(told: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Each row's final accuracy as lengths on a line from 0 to 100 that holds the seeds of all methods that train."""
    trained = [row for row in told if not row.method.baseline]
    seeds = [value for row in trained for value in row.final.values]
    pad = 0.1 * (max(seeds) - min(seeds)) or 0.01
    low, high = min(seeds) - pad, max(seeds) + pad

    def at(value: float) -> float:
        return round(float(np.clip(100 * (value - low) / (high - low), 0, 100)), 1)

    return {
        row.method.name: {
            "mean": at(row.final.mean),
            "low": at(row.final.mean - (row.final.half or 0)),
            "high": at(row.final.mean + (row.final.half or 0)),
            "seeds": [at(value) for value in row.final.values],
        }
        for row in trained
    }


def _over_tokens(comparison: Comparison, measure: str) -> Markup:
    figure, axes = _paper(comparison, "tokens generated")
    axes.xaxis.set_major_formatter(lambda value, _: tokens_text(value))
    curves = [
        (place, method.name, curve(comparison, method.name, measure)) for place, method in enumerate(comparison.methods)
    ]
    drawn = [(place, name, line) for place, name, line in curves if line is not None]
    for place, _, line in drawn:
        _draw(axes, place, line.tokens, line.mean, line.half)
    ends = [End(place=place, name=name, x=line.tokens[-1], y=line.mean[-1]) for place, name, line in drawn]
    if measure == "held_out":
        ends += _draw_baselines(axes, comparison)
    _limit(axes, [line.seeds for _, _, line in drawn])
    _label(axes, ends)
    return _svg(figure, measure)


def _against_kl(comparison: Comparison) -> Markup:
    figure, axes = _paper(comparison, "KL from start, nats per token")
    ends, drawn = [], []
    for place, method in enumerate(comparison.methods):
        accuracy, kl = (curve(comparison, method.name, measure) for measure in ("held_out", "kl_start"))
        if accuracy is not None and kl is not None:
            there = accuracy.tokens <= kl.tokens[-1]
            x = np.interp(accuracy.tokens[there], [0.0, *kl.tokens], [0.0, *kl.mean])  # no distance before training
            y = accuracy.mean[there]
            _draw(axes, place, x, y, None)
            drawn.append(y)
            ends.append(End(place=place, name=method.name, x=x[-1], y=y[-1]))
    _limit(axes, drawn)
    _label(axes, ends)
    return _svg(figure, "against-kl")


def _small_charts(comparison: Comparison) -> dict[int, Markup]:
    """For each method its held-out accuracy, with a thin line per seed, before those of all the others."""
    curves = {place: curve(comparison, method.name, "held_out") for place, method in enumerate(comparison.methods)}
    lines = {place: line for place, line in curves.items() if line is not None}
    return {place: _small(place, lines) for place in lines}


def _small(place: int, lines: dict[int, Curve]) -> Markup:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 2.5))
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.83))
    axes.xaxis.set_major_formatter(lambda value, _: tokens_text(value))
    for other in lines.values():
        axes.plot(other.tokens, other.mean, color=RULE, lw=1.2)
    own = lines[place]
    _limit(axes, [line.seeds for line in lines.values()])
    if own.half is not None:
        axes.fill_between(own.tokens, own.mean - own.half, own.mean + own.half, color=_colour(place), alpha=0.15, lw=0)
    for seed in own.seeds:
        axes.plot(own.tokens, seed, color=_colour(place), lw=0.6, alpha=0.8)
    axes.plot(own.tokens, own.mean, color=_colour(place), lw=1.8)
    return _svg(figure, f"small-{place}")


def _paper(comparison: Comparison, unit: str) -> tuple["Figure", "Axes"]:
    """An empty chart with room for the names on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.5))
    longest = max(len(_short(method.name)) for method in comparison.methods)
    axes = figure.add_axes((0.09, 0.13, 0.85 - 0.0108 * longest, 0.84))
    axes.set_xlabel(unit)
    return figure, axes


def _draw(axes: "Axes", place: int, x: Array, y: Array, half: Array | None) -> None:
    if half is not None:
        axes.fill_between(x, y - half, y + half, color=_colour(place), alpha=0.08, lw=0, gid=f"method{place}-band")
    axes.plot(
        x,
        y,
        color=_colour(place),
        linestyle=DASHES[place // 7 % len(DASHES)],
        lw=1.7,
        marker=MARKERS[place % len(MARKERS)],
        ms=4.5,
        mec=PAPER,
        mew=0.6,
        markevery=(place % 12, 12),
        gid=f"method{place}-line",
    )


def _draw_baselines(axes: "Axes", comparison: Comparison) -> list[End]:
    places = {method.name: place for place, method in enumerate(comparison.methods)}
    ends = []
    for row in (row for row in rows(comparison) if row.method.baseline):
        place, right = places[row.method.name], axes.dataLim.x1
        axes.axhline(row.final.mean, color=_colour(place), lw=1.2, ls=(0, (1, 2)), gid=f"method{place}-line")
        ends.append(End(place=place, name=row.method.name, x=right, y=row.final.mean))
    return ends


def _limit(axes: "Axes", values: Sequence[Array]) -> None:
    """Shows all that seeds measured; a band may go beyond, as that of two seeds would flatten every line."""
    if values:
        low, high = min(each.min() for each in values), max(each.max() for each in values)
        pad = 0.04 * (high - low) or 0.01
        axes.set_ylim(low - pad, high + pad)


def _label(axes: "Axes", ends: Sequence[End]) -> None:
    """Names the lines at their ends, moved apart where they would overlap."""
    if not ends:
        return
    transform = axes.transData.transform([(end.x, end.y) for end in ends])
    wanted = axes.transAxes.inverted().transform(transform)[:, 1]
    for end, height in zip(ends, _spaced(wanted, gap=0.052, low=0.01, high=0.99), strict=True):
        gid = f"method{end.place}-name"
        leader = {
            "arrowstyle": "-",
            "color": _colour(end.place),
            "lw": 0.6,
            "alpha": 0.6,
            "shrinkA": 2,
            "shrinkB": 3,
            "relpos": (0, 0.5),
        }
        note = axes.annotate(
            _short(end.name),
            xy=(end.x, end.y),
            xytext=(1.05, height),
            textcoords="axes fraction",
            va="center_baseline",
            color=_colour(end.place),
            arrowprops=leader,
            annotation_clip=False,
            gid=gid,
        )
        assert note.arrow_patch is not None
        note.arrow_patch.set_gid(gid)


def _spaced(wanted: Array, *, gap: float, low: float, high: float) -> Array:
    """The heights nearest to the wanted ones (least squares) that lie `gap` apart: an isotonic fit of what is left."""
    order, steps = np.argsort(wanted, kind="stable"), gap * np.arange(len(wanted))
    left, n = wanted[order] - steps, len(wanted)
    fit = [max(min(left[i : k + 1].mean() for k in range(at, n)) for i in range(at + 1)) for at in range(n)]
    places = np.empty(n)
    places[order] = np.clip(fit, low, max(low, high - steps[-1])) + steps
    return places


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _colour(place: int) -> str:
    return f"#fd00{place:02x}"


def _svg(figure: "Figure", salt: str) -> Markup:
    """The figure for inlining: stand-in colours become variables, marks of methods classes, and unused ids go."""
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.hashsalt": salt}):
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' id="(method\d+)-(\w+)"', r' class="\1 \2"', text)
    used = set(re.findall(r'#([\w-]+)[")]', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)  # as fine as it shows
    text = re.sub(r"#fd00(\w\w)", lambda found: f"var(--method{int(found[1], 16)})", text)
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, variable)
    return Markup(text)

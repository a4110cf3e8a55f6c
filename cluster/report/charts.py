"""Charts as Vega-Lite specifications. Colours are named, `@NAME`, and looked up when a chart is drawn: by the page for
the reader's light or dark theme, here for files."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Spec = Mapping[str, Any]
Step = TypeVar("Step")

COLOURS = (  # on light ground and on dark
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
NAMED = {  # colour by name: on light ground and on dark
    "paper": ("#ffffff", "#14171c"),
    "ink": ("#16191f", "#e8eaee"),
    "muted": ("#5c6470", "#a2aab6"),
    "rule": ("#dcdfe5", "#343a45"),
    "grey": ("#8b93a1", "#7b8494"),
    **{f"c{place}": pair for place, pair in enumerate(COLOURS)},
}
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])  # of lines of one colour
MOST_POINTS = 250  # of a line, more are averaged
FEW_STEPS = 10
HEIGHT = 230  # pixels
WIDTH = 620  # pixels, of a file; a page gives as much as it has


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point of a line."""

    x: float
    y: float
    low: float | None = None  # of an interval around y
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a line shows. Lines of one name have one colour, lines of one part one dash."""

    name: str
    points: Sequence[Point]
    part: str = ""  # which of several lines of this name; all lines have one, or none


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What stands at the axes."""

    x: str = "step"
    y: str = ""
    form: str = ""  # of y, in D3's language: "%" for shares
    x_form: str = "~s"
    log: bool = False  # whether y is logarithmic
    zero: bool = False  # whether y begins at 0
    low: float | None = None  # ends of y, beyond which nothing is drawn; unset, what the points ask for
    high: float | None = None


def line_chart(
    lines: Sequence[Line],
    axes: Axes,
    *,
    dots: bool = False,
    marks: Sequence[Line] = (),
    colours: Mapping[str, str] | None = None,
    dashed: bool = True,
    in_sequence: bool = False,
) -> Spec:
    """Lines, with bands where points have intervals. A click on a name of the legend shows it alone.

    Args:
        lines: at least one point in all.
        axes: what stands at them.
        dots: whether every point is a dot; else only a line's only point is.
        marks: dots of their own, such as what a line is the mean of.
        colours: colour of names, `@c0` and so on; unset, in the sequence of lines.
        dashed: whether parts have dashes of their own; else they look alike.
        in_sequence: whether points are joined as they follow each other, and not by x.
    """
    names, parts = _distinct(line.name for line in lines), _distinct(line.part for line in lines)
    picked = {"condition": {"param": "pick", "value": 1}, "value": 0.12}
    encoding: dict[str, Any] = {
        "x": _x(axes),
        "y": _y(axes),
        "color": _colour(names, colours or {}),
        **({"detail": {"field": "part"}} if len(parts) > 1 else {}),
        **({"opacity": picked} if len(names) > 1 else {}),
        "tooltip": _tooltips(axes, named=len(names) > 1, parted=len(parts) > 1),
    }
    dashes = _dashes(names, parts, dashed)
    line = {"type": "line", "strokeWidth": 2 if dashed else 1.4, "clip": True}
    layers: list[dict[str, Any]] = []
    if any(point.low is not None for each in lines for point in each.points):
        layers.append(_band(encoding))
    if dots:
        layers.append(_rules(encoding))
    sequence = {"order": {"field": "place", "type": "quantitative"}} if in_sequence else {}
    layers.append(
        {"mark": line, "encoding": encoding | dashes | sequence, **({"params": [PICK]} if len(names) > 1 else {})}
    )
    if marks:
        own = [_value(each, point) for each in marks for point in each.points]
        layers.append({"data": {"values": own}, "mark": DOT | {"size": 22}, "encoding": encoding})
    else:
        seen = dots or any(len(each.points) == 1 for each in lines)
        dot = DOT | ({"size": 45} if seen else {"size": 90, "opacity": 0})
        hidden = {} if seen else {"opacity": {"value": 0}}
        layers.append({"mark": dot, "encoding": encoding | hidden})
    values = [_value(each, point) for each in lines for point in each.points]
    _mark_whole_steps(encoding, axes, values)
    if axes.log:
        encoding["y"]["axis"] = {"format": ".0e", "values": _powers([value["y"] for value in values])}
    if axes.zero and not any(value["y"] for value in values):
        encoding["y"]["scale"] = {"domain": [0, 1]}  # a line at 0 lies at the bottom
    if in_sequence:
        values = [{**value, "place": place} for place, value in enumerate(values)]
    return {"data": {"values": values}, "layer": layers}


PICK = {"name": "pick", "select": {"type": "point", "fields": ["name"]}, "bind": "legend"}
DOT = {"type": "point", "filled": True}


def _dashes(names: Sequence[str], parts: Sequence[str], dashed: bool) -> dict[str, Any]:
    """The dashes of parts or, where colours come round again, of names."""
    if len(parts) > 1 and dashed:
        field, domain, chosen = "part", list(parts), [DASHES[place % len(DASHES)] for place in range(len(parts))]
    elif len(names) > len(COLOURS):
        field, domain = "name", list(names)
        chosen = [DASHES[place // len(COLOURS) % len(DASHES)] for place in range(len(names))]
    else:
        return {}
    scale = {"domain": domain, "range": chosen}
    return {"strokeDash": {"field": field, "type": "nominal", "title": None, "scale": scale}}


def _band(encoding: Mapping[str, Any]) -> dict[str, Any]:
    """Intervals of a line."""
    y = {key: value for key, value in encoding["y"].items() if key != "field"}
    return {
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "area", "opacity": 0.16, "clip": True},
        "encoding": {
            "x": encoding["x"],
            "y": {**y, "field": "low"},
            "y2": {"field": "high"},
            "color": encoding["color"],
            **{key: encoding[key] for key in ("detail",) if key in encoding},
            **(
                {"opacity": {"condition": {"param": "pick", "value": 0.16}, "value": 0.02}}
                if "opacity" in encoding
                else {}
            ),
        },
    }


def _rules(encoding: Mapping[str, Any]) -> dict[str, Any]:
    """The interval of each point."""
    y = {**encoding["y"], "field": "low"}
    shown = {key: encoding[key] for key in ("x", "color", "tooltip")}
    mark = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.45}
    has_interval = [{"filter": "isValid(datum.low)"}]
    return {"transform": has_interval, "mark": mark, "encoding": {**shown, "y": y, "y2": {"field": "high"}}}


def stacked_chart(
    lines: Sequence[Line], axes: Axes, colours: Mapping[str, str], *, bars: bool = False, share: bool = False
) -> Spec:
    """Areas, or with `bars` a bar at each point, that stand on each other in the sequence of lines.

    Args:
        lines: with equal x.
        axes: what stands at them.
        colours: colour of each name.
        bars: instead of areas; of a bar the tallest part is in full colour.
        share: whether each stack is 1 in all.
    """
    names = _distinct(line.name for line in lines)
    tallest = _tallest(lines)
    values = [
        _value(line, point) | {"place": names.index(line.name), "most": tallest.get(point.x) == line.name}
        for line in lines
        for point in line.points
    ]
    single = len({value["x"] for value in values}) == 1
    encoding: dict[str, Any] = {
        "x": _x(axes) | ({"type": "ordinal"} if bars or single else {}),
        "y": _y(axes) | {"stack": "normalize" if share else "zero"},
        "color": _colour(names, colours),
        "order": {"field": "place", "type": "quantitative"},
        "tooltip": _tooltips(axes, named=True, parted=False),
    }
    if not bars and not single:
        _mark_whole_steps(encoding, axes, values)
    if bars or single:
        encoding["x"] = {**encoding["x"], "axis": {"labelAngle": 0, "labelOverlap": True, "grid": False}}
        encoding["x"].pop("scale", None)
    if bars:
        encoding["opacity"] = {"condition": {"test": "datum.most", "value": 1}, "value": 0.5}
    mark = {"type": "bar"} if bars or single else {"type": "area", "line": False, "opacity": 0.85}
    return {"data": {"values": values}, "mark": mark, "encoding": encoding}


def interval_chart(lines: Sequence[Line], axes: Axes, colours: Mapping[str, str]) -> Spec:
    """A row for each line: its first point with an interval, and the others as small marks, all along x.

    Args:
        lines: of which only y, low and high of the points count.
        axes: what stands at them; y is along the horizontal.
        colours: colour of each name.
    """
    names = _distinct(line.name for line in lines)
    values = [_value(line, point) | {"main": place == 0} for line in lines for place, point in enumerate(line.points)]
    row = {"field": "name", "type": "nominal", "sort": names, "title": None, "axis": {"grid": True, "labelLimit": 150}}
    along = {**_y(axes), "scale": {"zero": False, "nice": True}, "axis": {"format": axes.form, "tickCount": 8}}
    base = {"y": row, "color": {**_colour(names, colours), "legend": None}}
    tooltip = {"tooltip": _tooltips(axes, named=True, parted=False)[1:]}
    main = {"transform": [{"filter": "datum.main"}]}
    return {
        "data": {"values": values},
        "layer": [
            {
                **main,
                "mark": {"type": "rule", "strokeWidth": 6, "opacity": 0.3, "strokeCap": "round"},
                "encoding": {**base, "x": {**along, "field": "low"}, "x2": {"field": "high"}},
            },
            {
                **main,
                "mark": {"type": "tick", "thickness": 3, "size": 16},
                "encoding": {**base, "x": along, **tooltip},
            },
            {
                "transform": [{"filter": "!datum.main"}],
                "mark": {"type": "point", "filled": True, "size": 28, "opacity": 0.9},
                "encoding": {**base, "x": along, **tooltip},
            },
        ],
        "height": {"step": 26},
    }


def thinned(steps: Sequence[Step], most: int) -> list[Step]:
    """At most so many of them, evenly spaced, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]


def averaged(points: Sequence[Point], most: int = MOST_POINTS) -> tuple[list[Point], int]:
    """At most so many points, each the mean of as many neighbours, and how many that are. x is the last neighbour's.

    Args:
        points: by x.
        most: how many may stay.
    """
    size = -(-len(points) // most)
    if size <= 1:
        return list(points), 1
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    return [_mean(chunk) for chunk in chunks], size


def _mean(chunk: Sequence[Point]) -> Point:
    lows = [point.low for point in chunk if point.low is not None]
    highs = [point.high for point in chunk if point.high is not None]
    return Point(
        x=chunk[-1].x,
        y=sum(point.y for point in chunk) / len(chunk),
        low=sum(lows) / len(lows) if lows else None,
        high=sum(highs) / len(highs) if highs else None,
    )


def as_svg(spec: Spec, about: str) -> str:
    """A chart as an SVG file on light ground, with a description."""
    import vl_convert

    columns = max(1, (WIDTH - 40) // (7 * min(30, _letters_of_names(spec)) + 30))
    config = {**CONFIG, "legend": {**CONFIG["legend"], "columns": columns}}
    text = json.dumps({**spec, "config": config, "description": about, "background": "@paper"})
    for name, (light, _) in NAMED.items():
        text = text.replace(f'"@{name}"', f'"{light}"')
    whole = {"width": WIDTH, "height": HEIGHT, **json.loads(text)}
    return _numbered_anew(str(vl_convert.vegalite_to_svg(whole)))


def _letters_of_names(tree: Any) -> int:
    """Letters of the longest name in a legend of a chart."""
    if isinstance(tree, list):
        return max(map(_letters_of_names, tree), default=0)
    if not isinstance(tree, Mapping):
        return 0
    names = tree.get("domain")
    own = [len(name) for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return max([*own, *map(_letters_of_names, tree.values())], default=0)


def _numbered_anew(svg: str) -> str:
    """The ids of clips count up over all charts of a process: here over those of one."""
    names = {name: f"clip{place}" for place, name in enumerate(dict.fromkeys(re.findall(r"clip\d+", svg)))}
    return re.sub(r"clip\d+", lambda found: names[found[0]], svg)


CONFIG: dict[str, Any] = {  # of all charts; the page adds what depends on its width
    "font": "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif",
    "view": {"stroke": None},
    "axis": {
        "gridColor": "@rule",
        "domainColor": "@rule",
        "tickColor": "@rule",
        "labelColor": "@muted",
        "titleColor": "@muted",
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11.5,
    },
    "axisX": {"grid": False, "labelFlush": False},
    "axisY": {"domain": False, "ticks": False, "tickCount": 5},
    "legend": {
        "orient": "top",
        "labelColor": "@ink",
        "labelFontSize": 12,
        "symbolStrokeWidth": 3,
        "symbolSize": 90,
        "labelLimit": 220,
        "symbolOpacity": 1,
    },
}


def _value(line: Line, point: Point) -> dict[str, Any]:
    value: dict[str, Any] = {"x": point.x, "y": point.y, "name": line.name}
    if line.part:
        value["part"] = line.part
    if point.low is not None and point.high is not None:
        value |= {"low": point.low, "high": point.high}
    return value


def _x(axes: Axes) -> dict[str, Any]:
    axis: dict[str, Any] = {"format": axes.x_form, "labelOverlap": True}
    if axes.x == "step":
        axis |= {"format": "~d" if axes.x_form == "~s" else axes.x_form}
    return {
        "field": "x",
        "type": "quantitative",
        "title": axes.x,
        "scale": {"zero": False, "nice": False},
        "axis": axis,
    }


def _y(axes: Axes) -> dict[str, Any]:
    axis: dict[str, Any] = {"format": axes.form} if axes.form else {}
    scale: dict[str, Any] = {"type": "log"} if axes.log else {"zero": axes.zero}
    if axes.low is not None and axes.high is not None:
        scale = {"domain": [axes.low, axes.high], "nice": False}
    return {"field": "y", "type": "quantitative", "title": axes.y or None, "scale": scale, "axis": axis}


def _powers(values: Sequence[float]) -> list[float]:
    """The powers of ten around some numbers above 0."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(low, high + 1)]


def _mark_whole_steps(encoding: Mapping[str, Any], axes: Axes, values: Sequence[Mapping[str, Any]]) -> None:
    """Where steps are few, each is named at the axis, and nothing between them."""
    steps = [value["x"] for value in values]
    if axes.x == "step" and max(steps) - min(steps) <= FEW_STEPS:
        encoding["x"]["axis"]["values"] = list(range(math.ceil(min(steps)), math.floor(max(steps)) + 1))


def _colour(names: Sequence[str], colours: Mapping[str, str]) -> dict[str, Any]:
    chosen = [colours.get(name, f"@c{place % len(COLOURS)}") for place, name in enumerate(names)]
    legend = {"legend": None} if len(names) == 1 else {}
    return {"field": "name", "type": "nominal", "title": None, "scale": {"domain": names, "range": chosen}, **legend}


def _tooltips(axes: Axes, *, named: bool, parted: bool) -> list[dict[str, Any]]:
    form = {"format": ".1%"} if axes.form.endswith("%") else {"format": ".4~g"}
    told = [{"field": "x", "title": axes.x, "type": "quantitative", "format": ",.6~g"}]
    told += [{"field": "name", "title": "what", "type": "nominal"}] if named else []
    told += [{"field": "part", "title": "of", "type": "nominal"}] if parted else []
    return [*told, {"field": "y", "title": axes.y or "value", "type": "quantitative", **form}]


def _tallest(lines: Sequence[Line]) -> dict[float, str]:
    """At each x the name of the line that is highest there."""
    found: dict[float, tuple[float, str]] = {}
    for line in lines:
        for point in line.points:
            if point.x not in found or point.y > found[point.x][0]:
                found[point.x] = (point.y, line.name)
    return {x: name for x, (_, name) in found.items()}


def _distinct(names: Any) -> list[str]:
    return list(dict.fromkeys(names))

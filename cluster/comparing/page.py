"""The page of a comparison: the table, a section with chart and table for each measure, and a card for each method."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cluster.comparing.comparison import Comparison, Curve, Method, Row, curve, evaluations, rows
from cluster.comparing.table import COLUMNS, MORE
from cluster.config.run_files import REPORT
from cluster.report.charts import COLOURS, Axes, Line, Point, as_svg, interval_chart, line_chart
from cluster.report.page import Card, Chart, Page, Section, Table, write_page
from cluster.report.words import counted, listed
from cluster.reporting.terminal import plain
from cluster.reporting.words import duration

ENOUGH_SEEDS = 3  # from which bands are drawn: those of two are as wide as the chart
ONE_SEED, ALIKE = "one seed: cannot tell", "cannot be told apart"
VERDICTS = ("better", "worse", ALIKE, ONE_SEED)
FEW_METHODS = 5  # up to which bands are drawn: more lie over each other
PLACES = (0.25, 0.5, 0.75, 1.0)  # of the budget, in the tables of curves
CHARTS = {  # measure over tokens spent -> title, what it is, and its form
    "held_out": (
        "Held-out accuracy",
        "Share of correct responses to the held-out prompts, the same for all methods.",
        ".0%",
    ),
    "accuracy": (
        "Training accuracy",
        "Share of correct responses among all that were judged, those of rejected groups too; mean of the last 5 "
        "steps.",
        ".0%",
    ),
    "entropy": (
        "Entropy",
        "Of the next token, nats, over the tokens that were trained on; mean of the last 5 steps.",
        "",
    ),
    "kl_start": (
        "KL from the start",
        "The k3 estimate of KL(policy || starting model), nats per trained token; mean of the last 5 steps.",
        "",
    ),
    "kept": ("Groups kept", "Share of the graded groups that the filter let through, of the last 5 steps.", ".0%"),
}


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Writes report.html and, below charts/, every chart as an SVG; the same comparison gives the same bytes."""
    page = page_of(comparison)
    write_page(page, folder / REPORT)
    (folder / "charts").mkdir(exist_ok=True)
    for section in page.sections:
        for chart in section.charts:
            (folder / "charts" / f"{section.anchor}.svg").write_text(as_svg(chart.spec, chart.about), encoding="utf-8")


def page_of(comparison: Comparison) -> Page:
    """The page."""
    told = rows(comparison)
    measured = [section for measure in CHARTS if (section := _over_tokens(comparison, measure)) is not None]
    against = _against_kl(comparison)
    return Page(
        title=plain(comparison.title),
        lead=_lead(comparison),
        warning_title="Not all planned runs are in the numbers.",
        warnings=[
            *(plain(f"{run.method}, seed {run.seed} failed: {run.why}") for run in comparison.failed),
            *(plain(f"{run.method}, seed {run.seed} is missing: {run.why}") for run in comparison.missing),
        ],
        sections=[
            _results(comparison, told),
            *measured,
            *([against] if against else []),
            _methods(comparison, told),
        ],
    )


def verdict(row: Row) -> str:
    """What the difference to the reference method says."""
    if row.difference is None:
        return ""
    if row.difference.half is None:
        return ONE_SEED
    if abs(row.difference.mean) <= row.difference.half:
        return ALIKE
    return "better" if row.difference.mean > 0 else "worse"


def colours(comparison: Comparison) -> dict[str, str]:
    """The name of each method's colour."""
    trained = [method.name for method in comparison.methods if not method.baseline]
    chosen = {name: f"c{place % len(COLOURS)}" for place, name in enumerate(trained)}
    return {method.name: chosen.get(method.name, "grey") for method in comparison.methods}


def _drawn(comparison: Comparison) -> dict[str, str]:
    return {name: f"@{colour}" for name, colour in colours(comparison).items()}


def _lead(comparison: Comparison) -> list[str]:
    seeds = f"{counted(len(comparison.seeds), 'seed')} ({listed([str(seed) for seed in comparison.seeds])})"
    limits = [f"generated {comparison.budget_tokens:,} tokens"] if comparison.budget_tokens else []
    limits += [f"taken {duration(comparison.budget_seconds)}"] if comparison.budget_seconds else []
    until = " or ".join(limits) or "done its steps"
    last = comparison.runs[0].evals[-1]
    trained = sum(not method.baseline for method in comparison.methods)
    machine = f", on {plain(comparison.machine)}" if comparison.machine else ""
    return [
        f"{counted(trained, 'method')} trained from the same model, each with {seeds}, until a run had "
        f"{until}{machine}. The reference method, which the others are compared with, is "
        f"{plain(comparison.reference)}.",
        f"Accuracy is the share of correct responses among {last['responses']:,} responses to {last['prompts']:,} "
        "held-out prompts.",
    ]


def _results(comparison: Comparison, told: Sequence[Row]) -> Section:
    trained = [row for row in told if not row.method.baseline]
    sentence = _who_is_ahead(comparison, trained)
    lines = [Line(name=plain(row.method.name), points=_seeds(row)) for row in trained]
    of = colours(comparison)
    about = (
        "± is half the width of a 95 % Student-t interval for the mean over the seeds: about one interval in twenty "
        "misses by chance, few seeds make it wide, and it does not say what other prompts would have shown. To compare "
        f"with {plain(comparison.reference)}, read the difference, which is taken seed by seed, rather than whether "
        "two intervals overlap."
        if len(comparison.seeds) > 1
        else "One seed gives no interval: nothing here tells a difference between methods from chance."
    )
    headings = [
        f"difference to {plain(comparison.reference)}" if heading == "difference" else heading for heading in COLUMNS
    ]
    return Section(
        title="Results",
        sentence=sentence,
        charts=[
            Chart(
                spec=interval_chart(lines, Axes(y="held-out accuracy at the end", form=".0%"), _drawn(comparison)),
                about=sentence,
            )
        ],
        tables=[
            Table(
                title="Results",
                columns=headings,
                rows=[[plain(show(row)) for show in COLUMNS.values()] for row in told],
                colours=[of[row.method.name] for row in told],
                is_open=True,
            )
        ],
        note="In the chart a dot is a "
        f"seed{', the bar the interval' if len(comparison.seeds) >= ENOUGH_SEEDS else ''}. {about} Entropy and KL are "
        "means over the tokens that were trained on, at the end over the last 5 steps. The table is in this folder as "
        "table.md, table.csv and table.tex, and the charts are in charts/ as SVG.",
        is_wide=True,
    )


def _who_is_ahead(comparison: Comparison, trained: Sequence[Row]) -> str:
    best, worst = (pick(trained, key=lambda row: row.final.mean) for pick in (max, min))
    names = (plain(best.method.name), plain(worst.method.name))
    if best is worst:
        return f"{names[0]} ended at a held-out accuracy of {best.final.text()}."
    ends = f"{names[0]} ended highest, at a held-out accuracy of {best.final.text()}, and {names[1]} lowest, at "
    names_of = {words: [plain(row.method.name) for row in trained if verdict(row) == words] for words in VERDICTS}
    if names_of[ONE_SEED]:
        return f"{ends}{worst.final.text()}. One seed cannot tell a difference from chance."
    told = [
        f"{listed(names)} {('is ' if len(names) == 1 else 'are ') if words in ('better', 'worse') else ''}{words}"
        for words, names in names_of.items()
        if names
    ]
    against = f" Against {plain(comparison.reference)}, seed by seed, {'; '.join(told)}." if told else ""
    return f"{ends}{worst.final.text()}.{against}"


def _seeds(row: Row) -> list[Point]:
    """The mean with its interval, where three seeds give one, and each seed."""
    half = (row.final.half or 0.0) if len(row.final.values) >= ENOUGH_SEEDS else 0.0
    main = Point(x=0, y=row.final.mean, low=row.final.mean - half, high=row.final.mean + half)
    return [main, *(Point(x=0, y=value) for value in row.final.values)]


def _over_tokens(comparison: Comparison, measure: str) -> Section | None:
    """A measure over the tokens spent; None where no method has it."""
    title, about, form = CHARTS[measure]
    curves = {method.name: curve(comparison, method.name, measure) for method in comparison.methods}
    known = {name: line for name, line in curves.items() if line is not None}
    if not known:
        return None
    has_bands = _has_bands(comparison, known)
    lines = [Line(name=plain(name), points=_points(line, has_bands)) for name, line in known.items()]
    evaluated: list[Line] = []
    if measure == "held_out":
        lines += _baselines(comparison, max(line.tokens[-1] for line in known.values()))
        evaluated = [
            Line(name=plain(name), points=[Point(x=float(x), y=float(y)) for x, y in zip(*series, strict=True)])
            for name in known
            for series in evaluations(comparison, name)
        ]
    sentence = _ends_of(title, known, form)
    low, high = _span([line.seeds for line in known.values()])
    axes = Axes(x="tokens generated", y=title.lower(), form=form, low=low, high=high)
    seen = "A dot is an evaluation of one seed. " if evaluated else ""
    bands = "Bands are 95 % intervals, cut where they leave the chart. " if has_bands else ""
    mean = "Lines are means over the seeds. " if len(comparison.seeds) > 1 else ""
    return Section(
        title=title,
        sentence=sentence,
        charts=[
            Chart(
                spec=line_chart(lines, axes, marks=evaluated, colours=_drawn(comparison)), about=f"{title}. {sentence}"
            )
        ],
        tables=[_table(comparison, known)],
        note=f"{about} {mean}{seen}{bands}".strip(),
    )


def _has_bands(comparison: Comparison, known: dict[str, Curve]) -> bool:
    return len(comparison.seeds) >= ENOUGH_SEEDS and len(known) <= FEW_METHODS


def _points(line: Curve, has_band: bool) -> list[Point]:
    halves = line.half if has_band and line.half is not None and len(line.seeds) >= ENOUGH_SEEDS else None
    return [
        Point(
            x=float(x),
            y=float(y),
            low=None if halves is None else float(y - halves[place]),
            high=None if halves is None else float(y + halves[place]),
        )
        for place, (x, y) in enumerate(zip(line.tokens, line.mean, strict=True))
    ]


def _baselines(comparison: Comparison, end: float) -> list[Line]:
    return [
        Line(name=plain(row.method.name), points=[Point(x=0, y=row.final.mean), Point(x=float(end), y=row.final.mean)])
        for row in rows(comparison)
        if row.method.baseline
    ]


def _span(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Shows all that seeds measured; a band may go beyond."""
    low, high = min(float(each.min()) for each in values), max(float(each.max()) for each in values)
    pad = 0.06 * (high - low) or 0.01
    return low - pad, high + pad


def _ends_of(title: str, known: dict[str, Curve], form: str) -> str:
    ends = {plain(name): float(line.mean[-1]) for name, line in known.items()}
    best, worst = max(ends, key=ends.__getitem__), min(ends, key=ends.__getitem__)

    def shown(value: float) -> str:
        return format(value, ".1%" if form else ".3f").replace("%", " %")

    if len(ends) == 1:
        (line,) = known.values()
        return f"{title} went from {shown(float(line.mean[0]))} to {shown(ends[best])}."
    return f"{title} ends highest with {best} ({shown(ends[best])}) and lowest with {worst} ({shown(ends[worst])})."


def _table(comparison: Comparison, known: dict[str, Curve]) -> Table:
    of = colours(comparison)
    return Table(
        title="Table",
        columns=["method", *(f"after {place:.0%} of its tokens" for place in PLACES)],
        rows=[
            [plain(name), *(_at(line, round(place * (len(line.mean) - 1))) for place in PLACES)]
            for name, line in known.items()
        ],
        colours=[of[name] for name in known],
    )


def _at(line: Curve, place: int) -> str:
    half = "" if line.half is None else f" ± {line.half[place]:.3f}"
    return f"{line.mean[place]:.3f}{half}"


def _against_kl(comparison: Comparison) -> Section | None:
    """Held-out accuracy over the distance from the starting model."""
    lines = []
    for method in comparison.methods:
        accuracy, kl = (curve(comparison, method.name, measure) for measure in ("held_out", "kl_start"))
        if accuracy is None or kl is None:
            continue
        there = accuracy.tokens <= kl.tokens[-1]
        x = np.interp(accuracy.tokens[there], [0.0, *kl.tokens], [0.0, *kl.mean])  # no distance before training
        points = [Point(x=float(a), y=float(b)) for a, b in zip(x, accuracy.mean[there], strict=True)]
        lines.append(Line(name=plain(method.name), points=points))
    if not lines:
        return None
    far = max(lines, key=lambda line: line.points[-1].x)
    near = min(lines, key=lambda line: line.points[-1].x)
    sentence = f"{far.name} went furthest from the starting model ({far.points[-1].x:.3f} nats per token)"
    sentence += f", {near.name} least far ({near.points[-1].x:.3f})." if near is not far else "."
    axes = Axes(x="KL from the start, nats per token", y="held-out accuracy", form=".0%", x_form=".3~g")
    # Along a curve that may turn back x does not grow: points are joined as they follow each other in time.
    spec = line_chart(lines, axes, colours=_drawn(comparison), in_sequence=True)
    return Section(
        title="Accuracy against KL",
        sentence=sentence,
        charts=[Chart(spec=spec, about=sentence)],
        tables=[
            Table(
                columns=["method", "KL at the end", "accuracy there"],
                rows=[[line.name, f"{line.points[-1].x:.3f}", f"{line.points[-1].y:.3f}"] for line in lines],
                colours=[colours(comparison)[method.name] for method in comparison.methods if _has(lines, method)],
            )
        ],
        note="Held-out accuracy reached at a distance from the starting model: higher at the same distance is more "
        "learned for less change.",
    )


def _has(lines: Sequence[Line], method: Method) -> bool:
    return any(line.name == plain(method.name) for line in lines)


def _methods(comparison: Comparison, told: Sequence[Row]) -> Section:
    of, row_of = colours(comparison), {row.method.name: row for row in told}
    cards = [
        Card(
            title=plain(method.name),
            code=[
                *([plain(method.objective)] if method.objective else []),
                *(plain(f"{key} = {value}") for key, value in method.changes.items()),
            ],
            text=plain(method.note),
            pairs=_seen(comparison, row_of[method.name]) if method.name in row_of else [("runs", "none has finished")],
            colour=of[method.name],
            chart=_small(comparison, method),
        )
        for method in comparison.methods
    ]
    return Section(
        title="Method by method",
        sentence="Each with its objective, the settings that are not the same in all methods, and its seeds before the "
        "means of the others.",
        cards=cards,
        is_wide=True,
    )


def _seen(comparison: Comparison, row: Row) -> list[tuple[str, str]]:
    pairs = []
    for heading, show in (COLUMNS | MORE).items():
        text = plain(show(row))
        if heading == "method" or not text:
            continue
        if heading == "difference":
            pairs.append((f"against {plain(comparison.reference)}", f"{text}, {verdict(row)}"))
        elif heading == "accuracy at the end" and len(row.seeds) > 1:
            values = ", ".join(f"{value:.3f}" for value in row.final.values)
            pairs.append((heading, f"{text} (seeds: {values})"))
        else:
            pairs.append((heading, text))
    return pairs


def _small(comparison: Comparison, method: Method) -> Chart | None:
    """A method's held-out accuracy, mean and seeds, before the means of the others."""
    curves = {each.name: curve(comparison, each.name, "held_out") for each in comparison.methods}
    own = curves.pop(method.name)
    if own is None:
        return None
    others = [
        Line(name="other methods", part=plain(name), points=_points(line, False))
        for name, line in curves.items()
        if line is not None
    ]
    seeds = [
        Line(
            name="each seed",
            part=f"seed {place}",
            points=[Point(x=float(x), y=float(y)) for x, y in zip(own.tokens, values, strict=True)],
        )
        for place, values in enumerate(own.seeds)
        if len(own.seeds) > 1
    ]
    mean = Line(name=plain(method.name), part="mean", points=_points(own, False))
    drawn = {
        "other methods": "@rule",
        "each seed": "@muted",
        plain(method.name): f"@{colours(comparison)[method.name]}",
    }
    axes = Axes(x="tokens generated", y="held-out accuracy", form=".0%")
    spec = line_chart([*others, *seeds, mean], axes, colours=drawn, dashed=False)
    return Chart(
        spec={**spec, "height": 170}, about=f"Held-out accuracy of {plain(method.name)} over tokens generated."
    )

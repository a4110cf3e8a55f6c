"""A comparison as a table: what each column shows, for the page, a README, a paper, other programs and a terminal."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import fields
from itertools import accumulate

from rich.table import Table
from rich.text import Text

from cluster.comparing.comparison import Comparison, Estimate, Row, rows
from cluster.report.words import short
from cluster.reporting.terminal import plain

Cell = Callable[[Row], str]
COLUMNS: dict[str, Cell] = {  # heading -> how a row shows it, "" for what a baseline does not have
    "method": lambda row: (
        row.method.name + ("" if len(row.seeds) == row.planned else f" ({len(row.seeds)} of {row.planned} seeds)")
    ),
    "accuracy at the end": lambda row: row.final.text(),
    "at half the budget": lambda row: row.half.text() if row.half else "",
    "entropy start → end": lambda row: _means(".3f", row.entropy_start, row.entropy_end, between=" → "),
    "KL from start": lambda row: _means(".3f", row.kl_end),
    "groups kept": lambda row: _means(".0%", row.kept),
    "difference": lambda row: row.difference.text("+.3f") if row.difference else "",
    "tokens trained / generated": lambda row: _means("tokens", row.trained, row.generated, between=" / "),
}
MORE: dict[str, Cell] = {  # what the page and the terminal show beside them
    "steps": lambda row: _means(".0f", row.steps),
    "minutes": lambda row: _means(".1f", row.minutes),
}


def markdown_table(comparison: Comparison) -> str:
    """The table as a README shows it."""
    titles = {"difference": f"difference to {comparison.reference}"}
    lines = [[titles.get(heading, heading) for heading in COLUMNS], ["---", *["---:"] * (len(COLUMNS) - 1)]]
    lines += [[show(row).replace("|", "\\|") for show in COLUMNS.values()] for row in rows(comparison)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_table(comparison: Comparison) -> str:
    """The numbers behind the table: of each measure the mean over the seeds, half the width of its 95 % interval (empty
    with one seed), and every seed's value, between spaces."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    measures = [field.name for field in fields(Row) if field.name not in ("method", "seeds", "planned")]
    titles = [f"{name}_{kind}" for name in measures for kind in ("mean", "half", "values")]
    writer.writerow(["method", "reference", "seeds", "planned_seeds", *titles])
    for row in rows(comparison):
        cells = [row.method.name, comparison.reference, " ".join(map(str, row.seeds)), str(row.planned)]
        for name in measures:
            estimate: Estimate | None = getattr(row, name)
            half = "" if estimate is None or estimate.half is None else repr(estimate.half)
            values = " ".join(map(repr, estimate.values)) if estimate else ""
            cells += [repr(estimate.mean) if estimate else "", half, values]
        writer.writerow(cells)
    return file.getvalue()


def latex_table(comparison: Comparison) -> str:
    """The table for a paper, with the package booktabs."""
    titles = {"difference": f"difference to {comparison.reference}"}
    lines = [[titles.get(heading, heading) for heading in COLUMNS]]
    lines += [[show(row) for show in COLUMNS.values()] for row in rows(comparison)]
    head, *body = (" & ".join(_latex(cell) for cell in line) + r" \\" for line in lines)
    columns = "l" + "r" * (len(COLUMNS) - 1)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


_IN_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "±": r"$\pm$",
    "→": r"$\to$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
} | {letter: f"\\{letter}" for letter in "&%$#_"}


def _latex(text: str) -> str:
    return re.sub(r"^([+-])(?=\d)", r"$\1$", "".join(_IN_LATEX.get(letter, letter) for letter in plain(text)))


def terminal_table(comparison: Comparison, width: int) -> Table:
    """The table as a terminal of this width shows it, the last columns left out where they do not fit; under it the
    runs that it lacks."""
    absent = [f"{absent.method} seed {absent.seed}: {absent.why}" for absent in comparison.failed + comparison.missing]
    found = rows(comparison)
    cells = {heading: [show(row) for row in found] for heading, show in (COLUMNS | MORE).items()}
    ends = accumulate(max(map(len, [*column, *heading.split()])) + 5 for heading, column in cells.items())
    shown = [heading for heading, end in zip(cells, ends, strict=True) if end < width]
    caption = [f"difference: to {comparison.reference}, seed by seed"] if "difference" in shown else []
    below = Text(plain("\n".join(caption + absent))) if caption + absent else None
    table = Table(title=Text(plain(comparison.title)), caption=below)
    for heading in shown:
        longest = max(map(len, [*cells[heading], *heading.split()]))
        table.add_column(heading, justify="left" if heading == "method" else "right", min_width=longest)
    for line in zip(*(cells[heading] for heading in shown), strict=True):
        table.add_row(*(Text(plain(cell)) for cell in line))
    return table


def _means(form: str, *estimates: Estimate | None, between: str = "") -> str:
    means = [estimate.mean for estimate in estimates if estimate]
    return between.join(short(mean) if form == "tokens" else format(mean, form) for mean in means)

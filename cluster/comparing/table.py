"""A comparison as a table: what each column shows, for the page, a README and a terminal."""

from collections.abc import Callable
from itertools import accumulate

from rich.table import Table
from rich.text import Text

from cluster.comparing.comparison import Comparison, Estimate, Row, rows
from cluster.reporting.terminal import plain

Cell = Callable[[Row], str]
COLUMNS: dict[str, Cell] = {  # heading -> how a row shows it, "-" for what a baseline does not have
    "method": lambda row: (
        row.method.name + ("" if len(row.seeds) == row.planned else f" ({len(row.seeds)} of {row.planned} seeds)")
    ),
    "accuracy at the end": lambda row: row.final.text(),
    "at half the budget": lambda row: row.half.text() if row.half else "-",
    "entropy start → end": lambda row: _means(".3f", row.entropy_start, row.entropy_end, between=" → "),
    "KL from start": lambda row: _means(".3f", row.kl_end),
    "groups kept": lambda row: _means(".0%", row.kept),
    "difference": lambda row: row.difference.text("+.3f") if row.difference else "-",
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


def tokens_text(tokens: float) -> str:
    """A count of tokens in three digits. Example: 12.5k"""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= 0.9995 * size:
            return f"{tokens / size:.3g}{letter}"
    return f"{tokens:.0f}"


def _means(form: str, *estimates: Estimate | None, between: str = "") -> str:
    means = [estimate.mean for estimate in estimates if estimate]
    return between.join(tokens_text(mean) if form == "tokens" else format(mean, form) for mean in means) or "-"

"""What several recorded runs say together: of each figure the median and the spread, as rows of a table."""

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Figure, met, number, part_of
from tests.bench.records import Record

NONE = float("nan")
_TABLE = re.compile(r"(<!-- benchmarks: (\w+) -->\n).*?(<!-- end -->)", re.S)
MAIN = ("peer", "stages", "saving", "sync", "control")  # parts whose targets are in the table `main`


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure of one part over the runs."""

    part: str
    figure: Figure  # of the last run that measured it
    values: tuple[float, ...]  # of each run, oldest first; NaN where it has none

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if math.isfinite(value)]

    @property
    def median(self) -> float:
        return statistics.median(self.known) if self.known else NONE

    @property
    def low(self) -> float:
        return min(self.known, default=NONE)

    @property
    def high(self) -> float:
        return max(self.known, default=NONE)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target; None without a target."""
        return met(self.median, self.figure.target, self.figure.most)

    @property
    def shown(self) -> str:
        """Example: "1.62 (1.55 to 1.71)"; the median alone where there is one value."""
        if len(self.known) < 2:
            return number(self.median)
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


def spreads(runs: Sequence[Record], order: Sequence[str]) -> list[Spread]:
    """Every figure of the runs, by part in this order and by figure as the last run has them."""
    found = []
    for name in order:
        figures = [
            {figure.name: figure for figure in part_of(part).figures}
            if (part := run.parts.get(name, {}).get("part"))
            else {}
            for run in runs
        ]
        names = dict.fromkeys(title for several in reversed(figures) for title in several)
        for title in names:
            values = tuple(several[title].reached if title in several else NONE for several in figures)
            last = next(several[title] for several in reversed(figures) if title in several)
            found.append(Spread(part=name, figure=last, values=values))
    return found


def target_of(figure: Figure) -> str:
    """The target in words, "" without one."""
    if figure.target is None:
        return ""
    return f"{'at most' if figure.most else 'at least'} {number(figure.target)}"


def markdown(found: Sequence[Spread]) -> str:
    """The figures with a target, as a table."""
    lines = ["| | target | median (least to most) | |", "|---|---|---|---|"]
    for row in found:
        if row.figure.target is not None:
            unit = f" {row.figure.unit}" if len(row.figure.unit) > 1 else ""
            reached = {True: "reached", False: "falls short", None: "not measured"}[row.met]
            lines.append(f"| {row.figure.name} | {target_of(row.figure)}{unit} | {row.shown} | {reached} |")
    return "\n".join(lines)


def write_table(file: Path, found: Sequence[Spread], about: str) -> int:
    """Writes the table into a page, between `<!-- benchmarks: all -->` (or `main`) and `<!-- end -->`.

    Args:
        file: the page.
        found: the figures.
        about: a sentence above the table: how many runs, of which commit, on what machine.

    Returns:
        how many tables the page has.
    """

    def table(mark: "re.Match[str]") -> str:
        rows = [row for row in found if mark[2] == "all" or row.part in MAIN]
        return f"{mark[1]}\n{about}\n\n{markdown(rows)}\n\n{mark[3]}"

    text, count = _TABLE.subn(table, file.read_text(encoding="utf-8"))
    file.write_text(text, encoding="utf-8")
    return count

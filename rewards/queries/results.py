"""Results of queries: cells brought to plain values, equality of results, and how much of a result is right.

A cell is None, an int, a float, text, bytes or a tuple of cells. Knows no database and no query.
"""

import datetime
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby

Row = tuple[Hashable, ...]

TOLERANCE = 1e-6  # relative difference of two floats that count as equal
NEAR_ZERO = 1e-12  # absolute difference, for what rounding leaves of a zero
EXACT_FLOAT = 2.0**53  # up to here every whole float is one int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a query gave.

    Example: ``Result(columns=("name", "age"), rows=(("Ada", 36), ("Alan", 41)))``
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]  # of plain cells
    more: bool = False  # the query had more rows than were read


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How much of a wanted table a given table holds; every measure is in [0, 1]."""

    precision: float  # share of the given cells whose value is in the wanted table
    recall: float  # share of the wanted cells whose value is in the given table
    cardinality: float  # the smaller number of rows over the larger one

    @property
    def mean(self) -> float:
        """(CP + CR + TC) / 3, the reward of Think2SQL for partly right results."""
        return (self.precision + self.recall + self.cardinality) / 3


NO_OVERLAP = Overlap(precision=0.0, recall=0.0, cardinality=0.0)
WHOLE = Overlap(precision=1.0, recall=1.0, cardinality=1.0)


def plain(cell: object) -> Hashable:
    """A cell of a database driver as a plain value.

    Whole floats and decimals become ints, other decimals floats; booleans 0 and 1; NaN the text "nan"; dates and times
    ISO text, a midnight without time zone the date alone; lists, structs and maps tuples.
    """
    if cell is None or isinstance(cell, str | bytes):
        return cell
    if isinstance(cell, bool | int):
        return int(cell)
    if isinstance(cell, float | Decimal):
        return _plain_number(cell)
    if isinstance(cell, bytearray | memoryview):
        return bytes(cell)
    if isinstance(cell, datetime.datetime):
        return _plain_time(cell)
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    if isinstance(cell, dict):
        return tuple((plain(key), plain(value)) for key, value in cell.items())
    if isinstance(cell, list | tuple):
        return tuple(plain(part) for part in cell)
    return str(cell)


def same(wanted: Result, given: Result, keys: Sequence[Row] | None) -> bool:
    """Whether two results are equal: the same number of columns and rows, and equal rows.

    Columns are matched by position; failing that, by name, where both results have the same set of distinct names
    (case aside) in another order. Rows are compared as a bag when `keys` is None. Otherwise `keys` holds for each
    wanted row the values it was ordered by, and rows are compared in order, except among neighbours with equal keys:
    SQL leaves their order open.

    Cells: ints, text and bytes exactly; None equals None only; a float equals a number within a relative 1e-6.
    """
    if len(wanted.columns) != len(given.columns) or len(wanted.rows) != len(given.rows):
        return False
    if _same_rows(wanted.rows, given.rows, keys):
        return True
    places = _places(wanted.columns, given.columns)
    if places is None:
        return False
    return _same_rows(wanted.rows, [tuple(row[place] for place in places) for row in given.rows], keys)


def overlap(wanted: Result, given: Result) -> Overlap:
    """Cell precision, cell recall and tuple cardinality of a given table (QATCH; Think2SQL, arXiv 2504.15077).

    With G the cells of the given and W the cells of the wanted table, each counted as often as it stands there:
    CP = |{g in G: g occurs in W}| / |G|, CR = |{w in W: w occurs in G}| / |W|, TC = min(rows) / max(rows).
    Columns and their order play no part. Floats are matched to six significant digits. All are 0 where one is empty.
    """
    ours, theirs = _cells(wanted.rows), _cells(given.rows)
    if not ours or not theirs:
        return NO_OVERLAP
    return Overlap(
        precision=sum(count for cell, count in theirs.items() if cell in ours) / theirs.total(),
        recall=sum(count for cell, count in ours.items() if cell in theirs) / ours.total(),
        cardinality=min(len(wanted.rows), len(given.rows)) / max(len(wanted.rows), len(given.rows)),
    )


def _plain_number(cell: float | Decimal) -> Hashable:
    if not math.isfinite(cell):
        return float(cell) if isinstance(cell, float) and not math.isnan(cell) else str(cell).lower()
    if isinstance(cell, Decimal):
        return int(cell) if cell == cell.to_integral_value() else float(cell)
    return int(cell) if cell.is_integer() and abs(cell) <= EXACT_FLOAT else cell


def _plain_time(cell: datetime.datetime) -> str:
    if cell.tzinfo is not None:
        return cell.astimezone(datetime.UTC).isoformat(" ")
    return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(" ")


def _cells(rows: Iterable[Row]) -> Counter[Hashable]:
    return Counter(_rounded(cell, 6) for row in rows for cell in row)


def _rounded(cell: Hashable, digits: int) -> Hashable:
    return float(f"{cell:.{digits}g}") if isinstance(cell, float) else cell


def _places(wanted: Sequence[str], given: Sequence[str]) -> list[int] | None:
    ours, theirs = [name.casefold() for name in wanted], [name.casefold() for name in given]
    if ours == theirs or len(set(theirs)) < len(theirs) or set(ours) != set(theirs):
        return None
    return [theirs.index(name) for name in ours]


def _same_rows(wanted: Sequence[Row], given: Sequence[Row], keys: Sequence[Row] | None) -> bool:
    if keys is None:
        return _same_bag(wanted, given)
    start = 0
    for _, tied in groupby(keys):
        end = start + sum(1 for _ in tied)
        if not _same_bag(wanted[start:end], given[start:end]):
            return False
        start = end
    return True


def _same_bag(wanted: Sequence[Row], given: Sequence[Row]) -> bool:
    ours, theirs = Counter(wanted), Counter(given)
    left, right = sorted((ours - theirs).elements(), key=_rank), sorted((theirs - ours).elements(), key=_rank)
    return len(left) == len(right) and all(_close_rows(a, b) for a, b in zip(left, right, strict=True))


def _rank(row: Row) -> tuple[list[str], list[float]]:
    """Brings rows that are equal within the tolerance to the same place: first what must be equal, then the numbers.

    Nine digits are kept of a float, so that its rounding error does not outrank the next number of the row.
    """
    exact = [repr(cell) if not isinstance(cell, int | float) else "" for cell in row]
    return exact, [_rounded(cell, 9) for cell in row if isinstance(cell, int | float)]  # type: ignore[misc]


def _close_rows(left: Row, right: Row) -> bool:
    return len(left) == len(right) and all(_close(a, b) for a, b in zip(left, right, strict=True))


def _close(left: Hashable, right: Hashable) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        return _close_rows(left, right)
    if isinstance(left, float) and isinstance(right, int | float):
        return _close_numbers(left, right)
    if isinstance(right, float) and isinstance(left, int):
        return _close_numbers(left, right)
    return type(left) is type(right) and left == right


def _close_numbers(left: float, right: float) -> bool:
    try:
        return math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=NEAR_ZERO)
    except OverflowError:  # an int of DuckDB's HUGEINT or a decimal beyond the floats
        return False

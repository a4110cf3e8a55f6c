"""Numbers and trends in plain words, for the sentences of a page."""

import math
from collections.abc import Sequence

from cluster.reporting import words

NEAR = 0.02  # share of itself by which a measure has to move for that to be said
ASKED = "it was asked to stop"  # why a run ended that a person has stopped
FEW = 10  # steps up to which a run's beginning and end are one step each, and above which they are a tenth of it


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits that count; "" where there is none.

    Example: number(0.12345) is "0.123", number(12345) is "12,345", number(-3.8e-9) is "-3.8e-09"
    """
    if value is None or not math.isfinite(value):
        return ""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def share(value: float | None) -> str:
    """A share as a percentage that no line end parts. Example: share(0.125) is "12.5 %"; "" where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    percent = 100 * value
    return (f"{percent:.2g}" if 0 < abs(percent) < 0.95 else f"{percent:.1f}".removesuffix(".0")) + "\u00a0%"


def counted(count: int, one: str, many: str = "") -> str:
    """A count with its noun. Example: counted(1, "step") is "1 step" """
    return words.counted(count, one, many, form=",")


def listed(names: Sequence[str]) -> str:
    """Names in a sentence. Example: listed(["a", "b", "c"]) is "a, b and c" """
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def ends(values: Sequence[float | None]) -> "tuple[float, float, int] | None":
    """What a run's beginning and end were: the means of its first and last K values that there are, and K, which is a
    tenth of them, or 1 where they are few. None with fewer than two."""
    there = [value for value in values if value is not None and math.isfinite(value)]
    if len(there) < 2:
        return None
    size = max(1, len(there) // 10) if len(there) > FEW else 1
    return sum(there[:size]) / size, sum(there[-size:]) / size, size


def trend(what: str, values: Sequence[float | None]) -> str:
    """One sentence of how a measure moved over a run.

    Example: trend("accuracy", [0.25, 0.5]) is "Accuracy rose from 0.25 in the first step to 0.5 in the last."
    """
    name = what[:1].upper() + what[1:]
    found = ends(values)
    if found is None:
        there = [value for value in values if value is not None and math.isfinite(value)]
        return f"{name} was {number(there[0])}, known of one step only." if there else f"{name} is not known."
    first, last, size = found
    verb = "rose" if last > first else "fell"
    if number(first) == number(last):
        return f"{name} was {number(first)} at the beginning and at the end."
    if abs(last - first) <= NEAR * max(abs(first), abs(last)):
        return f"{name} stayed near {number(last)} (from {number(first)} at the beginning)."
    where = ("in the first step", "in the last") if size == 1 else (f"in the first {size} steps", f"in the last {size}")
    return f"{name} {verb} from {number(first)} {where[0]} to {number(last)} {where[1]}."


def short(count: float) -> str:
    """A large count in three digits. Example: short(12500) is "12.5k" """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"

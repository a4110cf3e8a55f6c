"""Numbers and times as a person reads them."""

from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"


def counted(number: float, one: str, many: str = "", form: str = ".12g") -> str:
    """A number of things, such as "1 rank", "2 ranks" or "0.5 CPUs". `many` is the plural where it is not `one` with an
    s, `form` how the number is written."""
    return f"{number:{form}} {one if number == 1 else many or one + 's'}"


def clock(seconds: float) -> str:
    """A duration as on a clock: 0:07, 12:34, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """A time in its two largest units. Example: duration(3725) is "1 h 2 min", duration(5.25) is "5.25 s" """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    first = next(place for place, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def aligned(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """Rows of a table as lines of columns, two spaces apart; with `numbers` all but the first end at their right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if numbers and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def sparkline(values: Sequence[float], width: int) -> str:
    """Numbers from 0 to 1 as bars, each the mean of as many of them as `width` bars ask for; the newest is the last."""
    if not values:
        return ""
    bars = min(width, len(values))
    ends = [len(values) * bar // bars for bar in range(bars + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(ends)]
    return "".join(BARS[min(len(BARS) - 1, max(0, int(mean * len(BARS))))] for mean in means)

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


def sparkline(values: Sequence[float], width: int) -> str:
    """Numbers from 0 to 1 as bars, each the mean of as many of them as `width` bars ask for; the newest is the last."""
    if not values:
        return ""
    bars = min(width, len(values))
    ends = [len(values) * bar // bars for bar in range(bars + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(ends)]
    return "".join(BARS[min(len(BARS) - 1, max(0, int(mean * len(BARS))))] for mean in means)

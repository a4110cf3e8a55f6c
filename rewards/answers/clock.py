"""Times of day. `5:12` is a time or a ratio; which of them, what it is compared with tells."""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textbf)\s*\{([^{}]*)\}")
_CLOCK = re.compile(r"(\d{1,2})(?::([0-5]\d))?(?::([0-5]\d))?\s*(?:(a|p)\.?\s?m\.?|o['’]?clock)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day as it was written."""

    hour: int
    minute: int
    second: int = 0
    half: str = ""  # "a" before noon, "p" after it, "" where it is not said
    ratio: Fraction | None = None  # hour over minute, where the same signs may be a ratio; None for a time for certain

    @property
    def certain(self) -> bool:
        """Whether this is no ratio: it has a zero in front, a half of the day, or as a ratio would be reduced."""
        return self.ratio is None or gcd(self.hour, self.minute) > 1


def clock(text: str) -> Clock | None:
    """The time that a clean answer is, as `5:00`, `10:30 pm`, `5 pm`; None for anything else."""
    if ":" not in text and not re.search(r"m|clock", text, re.IGNORECASE):
        return None
    found = _CLOCK.fullmatch(re.sub(r"\s+", " ", _TEXT.sub(r" \1 ", text)).strip())
    if found is None or int(found.group(1)) > 24 or found.group(0).isdigit():
        return None
    hour, minute, second = (int(part or 0) for part in found.groups()[:3])
    half = (found.group(4) or "").lower()
    plain = not half and found.group(3) is None and found.group(2) and found.group(2)[0] != "0"
    ratio = Fraction(hour, minute) if plain and hour else None
    return Clock(hour, minute, second, half, ratio)


def same_time(one: Clock, two: Clock) -> bool:
    """Whether two times are the same; where a half of the day is not said, 5:00 may be either, and 17:00 is one."""
    if (one.minute, one.second) != (two.minute, two.second):
        return False
    ours, theirs = (_hours(side) for side in (one, two))
    return bool(ours & theirs)


def _hours(side: Clock) -> set[int]:
    """The hours of a day of 24 that may be meant."""
    if side.half:
        return {side.hour % 12 + (12 if side.half == "p" else 0)}
    return {side.hour, (side.hour + 12) % 24} if 1 <= side.hour <= 12 else {side.hour % 24}

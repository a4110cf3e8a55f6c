r"""A second, cheap checker of mathematical answers: text and fractions only, a few microseconds, no algebra.

It knows nothing of the first one's reading, so that where the two disagree one of them may be wrong. It is stricter: it
takes `2x + 2` and `2(x + 1)` for different.
"""

import re
from fractions import Fraction

_DROP = re.compile(
    r"\\left|\\right|\\[!,;: ]|\\q?quad|\\displaystyle|\\?\$|\\?%|\^\{?\\circ\}?|°|[€£¥*`]|"
    r"(?:\\(?:text|mbox|mathrm|textbf)\s*\{\s*(?!and|or)[^{}]*\}(?:\^\{?\d\}?)?)+$|percent|degrees?|units?"
)
_WORDS = re.compile(r"\\(?:text|mbox|mathrm|textbf)\s*\{([^{}]*)\}")
_FRAC = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_NAME = re.compile(r"^[a-z](?:_\{?\w+\}?)?(?:=|\\in)", re.IGNORECASE)
_SPLIT = re.compile(r",(?!\d{3}(?!\d))|;|\band\b|\bor\b")


def agrees(said: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Whether two final answers, each of one or more texts, are the same by text or by value."""
    return sorted(_parts(said)) == sorted(_parts(wanted))


def _parts(texts: tuple[str, ...]) -> list[str]:
    joined = ",".join(_plain(text) for text in texts)
    if joined[:1] in ("(", "["):  # a tuple or interval: its order and brackets count
        return [joined]
    return sorted({_value(part) for part in _SPLIT.split(joined.removeprefix("\\{").removesuffix("\\}"))})


def _plain(text: str) -> str:
    bare = _DROP.sub("", text.strip().rstrip(".")) or _WORDS.sub(r"\1", text)
    bare = _WORDS.sub(r"\1", bare)
    bare = _FRAC.sub(lambda found: f"{found[1] or found[2]}/{found[3] or found[4]}", bare)
    bare = re.sub(r"(?<=\d)\{?,\}?(?=\d{3}(?!\d))|\s+", "", bare)
    return _NAME.sub("", bare.strip("."))


def _value(part: str) -> str:
    over, _, under = part.partition("/")
    try:
        return str(Fraction(over) / Fraction(under or 1))
    except (ValueError, ZeroDivisionError):
        return part.strip("()").casefold()

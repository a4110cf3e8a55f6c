r"""What a written answer means, without any algebra: a number, words, a list, an interval, a named value or a formula.

The structure (lists, tuples, intervals, `x = ...`) is read here, so that comparing can be exact part by part;
the formulas at the leaves are left as LaTeX text.
"""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import gcd

from rewards.answers.clock import Clock, clock
from rewards.answers.notation import clean, in_degrees, numeral, split_top, strip_unit
from rewards.answers.pieces import lines_of, piece
from rewards.answers.units import factor, is_count


@dataclass(frozen=True, slots=True)
class Number:
    """An exact number as it was written."""

    value: Fraction
    decimals: int | None = None  # digits behind the decimal point; None for whole numbers and fractions
    percent: bool = False
    unit: str = ""
    base: str = ""  # the base written as a subscript; the value is then that of the digits as decimal ones


@dataclass(frozen=True, slots=True)
class Words:
    """An answer that is no mathematics: lower case, without punctuation. Letters alone may be a product."""

    text: str
    written: str = field(default="", compare=False)  # as it was written, with its capitals


@dataclass(frozen=True, slots=True)
class Formula:
    """Anything that algebra has to read."""

    latex: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Many:
    """Several values: `list` (no brackets), `set` (braces), `pair` (round or square brackets), `union` of sets,
    `pieces` of a function, each a `piece` with its value and condition.
    """

    kind: str
    items: "tuple[Value, ...]"
    ends: str = ""  # of a pair: its two brackets, such as "[)"
    latex: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Named:
    """A value with the left side that it was given: `x = 3`, `f(x) = 2x`, `x \\in [0, 1]`."""

    name: str
    value: "Value"
    latex: str = field(compare=False)
    named: bool  # whether the left side is a name, not a formula such as 2x + z


Value = Number | Clock | Words | Formula | Many | Named

_NOTHING = re.compile(r"(?:there (?:is|are|exists?) )?(?:no solutions?|empty set)(?: exists?)?")
_BUILDER = re.compile(r"\\\{\s*[A-Za-z](?:\s*\\in \s*\\mathbb\s*\{?\s*R\s*\}?)?\s*(?:\\mid|\||:|\\colon)(.+)\\\}")
_LABEL = re.compile(
    r"[\s*$(]*(?:\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{)?\s*(?:(?:[Oo]ption|[Cc]hoice)\s+)?"
    r"(?:\(([A-Z])\)|([A-Z])(?:[.):]+(?=\W|$)|(?=[\s*$.)}]*$)))"
)
_SPACE = r"(?:\s|\\[ ,;:!~]|\\q?quad(?![a-zA-Z])|~)*"
_CHOICE = re.compile(
    rf"(?:\\(?:text|textbf|textrm|textit|mathrm|mathbf|mbox|textnormal)\s*\{{{_SPACE}\(?(?P<in>[A-H])(?:\)|[.:]|(?=\s*\}}))\.?"
    rf"{_SPACE}(?:\}}|(?P<inside>(?=[^{{}}]*\}}$)))|\(?(?P<alone>[A-H])(?:(?<=\(.)\)|[.):](?=\s|\\|\$)))\.?{_SPACE}\$?"
)
_NO_VALUE = re.compile(r"[=<>^_+*/,:]|\\(?:c[ua]p|times|cdot|in|le|ge|neq|to|sub|and|or)(?![a-z])|and\b|or\b")
_OTHER = re.compile(r"\([A-Z]\)|(?<![A-Za-z])[A-J](?![A-Za-z])|\b(?:or|and|not|wrong|incorrect)\b")
_POINT = re.compile(r"[A-Z]\s*(?=\()")
_BRACKETS = {"(": ")", "[": "]"}
_INEQUALITY = re.compile(r"(<|>|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z]))")
_NOT_A_NAME = re.compile(r"[-+*/^<>\d]|\\(?:d|t)?frac|\\sqrt|\\cdot|\\times|\\pm")
_QUOTIENT = re.compile(
    r"\\frac\s*\{([^{}]*(?:_\{[^{}]*\})?)\}\s*\{([^{}]*(?:_\{[^{}]*\})?)\}|([A-Za-z_]+)\s*/\s*([A-Za-z_]+)"
)
_SEGMENTS = re.compile(r"[A-Z]{2}(?:\s*[-+]\s*[A-Z]{2})+|[A-Z]{2}\^\{?2\}?")
_COMMANDS = re.compile(r"\\[a-zA-Z]+")
_TEXT = re.compile(r"\\(?:text|mbox|mathrm|textbf|textit|mathbf|operatorname)\s*\{([^{}]*)\}")


@lru_cache(maxsize=2048)
def read(text: str) -> Value | None:
    """What an answer means; None where nothing is written."""
    return _value(clean(text))


@lru_cache(maxsize=2048)
def readings(text: str, loose: bool) -> tuple[Value, ...]:
    """All that an answer may mean. Two only for `2,74` in running text (loose), a decimal comma or a list of two, and
    for `5 million`, whose million may be left out.
    """
    tight, unit = strip_unit(clean(text))
    value = read(text)
    found = () if value is None else (value,)
    if isinstance(value, Number) and is_count(value.unit):
        return value, Number(value.value * (factor(value.unit, "one") or 1))
    if loose and re.fullmatch(r"-?(?:\d+|\d{1,3}(?:[. ]\d{3})+),\d+", tight) and not isinstance(value, Number):
        number = numeral(re.sub(r"[. ]", "", tight).replace(",", "."))
        if number is not None:
            return (*found, Number(*number, unit))
    return found


def list_of(texts: tuple[str, ...], loose: bool) -> tuple[Value, ...]:
    """What several texts in a row mean, as one list; of a single text all its readings."""
    if len(texts) == 1:
        return readings(texts[0], loose)
    items: list[Value] = []
    for text in texts:
        value = read(text)
        if isinstance(value, Many) and value.kind == "list":
            items.extend(value.items)
        elif value is not None:
            items.append(value)
    return (_both(items, "") or _many("list", items, ""),) if items else ()


def label(text: str) -> str | None:
    """The letter of a choice that a text is or begins with: `B`, `(B) 12`, `B. twelve`; None where it names another."""
    found = _LABEL.match(text)
    if found is None or _OTHER.search(text, found.end()):
        return None
    return next(letter for letter in found.groups() if letter)


def choice(text: str) -> tuple[str, str] | None:
    r"""The letter of a choice and the value that stands behind it, as in `\textbf{(C)}\ 12`; None where either is not
    there, or the text names another letter.
    """
    text = text.strip().strip("$").strip()
    found = _CHOICE.match(text)
    if found is None:
        return None
    value = text[found.end() :].strip(" ~")
    if found.group("inside") is not None:  # the command goes on: \text{(C) 12}
        value = f"\\text{{{value}" if re.search(r"[A-Za-z]{2}", value) else value.replace("}", "", 1)
    letter = found.group("in") or found.group("alone")
    return None if not value or _NO_VALUE.match(value) or _OTHER.search(value) else (letter, value)


def words(text: str) -> str:
    """Text for comparing: without commands, punctuation and articles, in lower case."""
    text = _TEXT.sub(r" \1 ", text)
    text = re.sub(r"\\[a-zA-Z]+\s*|[{}$^_]", " ", text).casefold()
    text = re.sub(r"[^\w\s%/+.-]|(?<!\d)[.]|[.](?!\d)", " ", text)
    found = text.split()
    if not all(len(word) > 1 or word == "a" for word in found):
        return " ".join(found)
    return " ".join(word for word in found if word not in ("the", "a", "an")) or text.strip()


def _value(text: str) -> Value | None:
    if not text:
        return None
    number = numeral(text)
    if number is not None:
        return Number(*number, unit="degree" if in_degrees(text) else "")
    time = clock(text) or _ratio(text)
    if time is not None:
        return time
    if _NOTHING.fullmatch(words(text)) or text in ("\\emptyset", "\\varnothing"):
        return Many("set", (), "", "\\emptyset")
    alone = _TEXT.fullmatch(text)
    text = (alone and clean(alone.group(1))) or text
    built = _BUILDER.fullmatch(text)
    if built and _INEQUALITY.search(built.group(1)) and "\\in" not in built.group(1):
        return _value(built.group(1).strip())
    inner = _unwrapped(text)
    if inner is not None:
        return _value(inner)
    return _relation(text) or _cases(text) or _listed(text) or _bracketed(text) or _leaf(text)


def _unwrapped(text: str) -> str | None:
    """The inside of brackets around a single value, which mean nothing: `[90]`, `(\\frac12)`, `{2, 3}` of TeX."""
    if text[0] + text[-1] not in ("()", "[]", "{}") or not _encloses(text) or re.fullmatch(r"\([A-Za-z]\)", text):
        return None
    single = text[0] == "{" or len(split_top(text[1:-1], ",;", thousands=False)) == 1
    return text[1:-1].strip() if single else None


def _encloses(text: str) -> bool:
    depth = 0
    for place, sign in enumerate(text):
        escaped = place > 0 and text[place - 1] == "\\"
        depth += 0 if escaped else (sign in "([{") - (sign in ")]}")
        if depth == 0:
            return place == len(text) - 1
    return False


def _relation(text: str) -> Value | None:
    """An equation, membership or double inequality as a value with a name; None for anything else."""
    if len(split_top(text, ",;")) > 1 or " and " in text or " or " in text:
        return None
    sides = split_top(text, ("\\in ",))
    if len(sides) == 2 and sides[1]:
        value = _value(sides[1])
        return value and Named(_name(sides[0]), value, text, named=True)
    if "\\begin" not in text and _INEQUALITY.search(text):
        return _interval(text)
    sides = split_top(text, "=")
    if len(sides) < 2 or "\\neq" in text or not sides[-1]:
        return None
    value = _value(sides[-1])
    sums = isinstance(value, Number) and not re.search(r"[A-Za-z]", _COMMANDS.sub("", sides[0]))
    named = len(sides) > 2 or sums or _is_name(sides[0]) or _is_quantity(sides[0])
    return value and Named(_name(sides[0]), value, text, named)


def _interval(text: str) -> Value | None:
    """`a < x \\le b` as the interval (a, b] named x, and `x > a` as (a, oo); None where the middle is no name."""
    parts = [part.strip() for part in _INEQUALITY.split(text)]
    if len(parts) == 3 and _is_name(parts[0]):
        parts = ["-\\infty", "<", *parts] if parts[1] in ("<", "\\le") else ["\\infty", ">", *parts]
    elif len(parts) == 3 and _is_name(parts[2]):
        parts = [*parts, "<", "\\infty"] if parts[1] in ("<", "\\le") else [*parts, ">", "-\\infty"]
    if len(parts) != 5 or not _is_name(parts[2]):
        return None
    low, left, name, right, high = parts
    if left in (">", "\\ge") and right in (">", "\\ge"):
        low, left, right, high = high, right, left, low
    elif left in (">", "\\ge") or right in (">", "\\ge"):
        return None
    start, end = _value(low), _value(high)
    if start is None or end is None:
        return None
    ends = ("(" if left in ("<", ">") else "[") + (")" if right in ("<", ">") else "]")
    return Named(_name(name), Many("pair", (start, end), ends, text), text, named=True)


def _cases(text: str) -> Value | None:
    """A function in pieces, or a system as the list of its equations; None where the text is no such environment."""
    lines = lines_of(text)
    if not lines:
        return None
    pieces = [found for line in lines if (found := piece(line)) is not None]
    if not pieces:
        return _listed(", ".join(line.replace("&", "") for line in lines))
    items = [Many("piece", tuple(v for part in found if (v := _value(part)) is not None)) for found in pieces]
    return Many("pieces", tuple(items), "", text) if len(items) == len(lines) else None


def _listed(text: str) -> Value | None:
    """A list without brackets, or a union of sets; None where the text is neither."""
    sets = split_top(text, ("\\cup",))
    if len(sets) > 1 and all(sets):
        items = [value for part in sets if (value := _value(part)) is not None]
        return _many("union", items, text)
    for separators in ((";",), (" and ", " or ", ";")):
        groups = [group.strip(" ,;") for group in split_top(text, separators)]
        if len(groups) > 1 and all(len(split_top(group, ",")) > 1 and "=" in group for group in groups):
            return _many("list", [v for group in groups if (v := _value(group)) is not None], text)
    parts = [part.strip(" ,;") for part in split_top(text, (",", ";", " and ", " or "))]
    parts = [part for part in parts if part]
    if len(parts) < 2:
        branches = _branches(text)
        return _many("list", branches, text) if branches else None
    if any(_is_prose(part) and numeral(strip_unit(part)[0]) is None for part in parts):
        return None
    items = []
    for part in parts:
        value = _value(part)
        if isinstance(value, Many) and value.kind == "list":
            items.extend(value.items)
        elif value is not None:
            items.append(value)
    return _both(items, text) or _many("list", items, text)


def _both(items: "list[Value]", text: str) -> Value | None:
    """Two half-lines that overlap, `x > 1 and x < 2`, as the interval that they mean; None for anything else."""
    named = [item for item in items if isinstance(item, Named)]
    lines = [item.value for item in named if isinstance(item.value, Many) and item.value.kind == "pair"]
    if len(items) != 2 or len(lines) != 2 or named[0].name != named[1].name or " or " in text:
        return None
    for above, below in (lines, lines[::-1]):
        low, high = above.items[0], below.items[1]
        endless = (above.items[1], below.items[0]) == (Formula("\\infty"), Formula("-\\infty"))
        if endless and isinstance(low, Number) and isinstance(high, Number) and low.value < high.value:
            both = Many("pair", (low, high), above.ends[0] + below.ends[1], text)
            return Named(named[0].name, both, text, named=True)
    return None


def _branches(text: str) -> list[Value]:
    """The two values of a formula with plus-minus signs; empty without such a sign."""
    if "\\pm" not in text and "\\mp" not in text:
        return []
    upper = text.replace("\\pm", "+").replace("\\mp", "-")
    lower = text.replace("\\pm", "-").replace("\\mp", "+")
    return [value for part in (upper, lower) if (value := _value(part.strip().removeprefix("+").strip())) is not None]


def _bracketed(text: str) -> Value | None:
    """A set in braces, or a tuple or interval in round or square brackets; None where the text is neither."""
    if _POINT.match(text) and _encloses(text[1:].strip()):
        point = _bracketed(text[1:].strip())
        return point and Named(text[0], point, text, named=True)
    if text.startswith("\\{") and text.endswith("\\}") and "\\}" not in text[2:-2]:
        value = _value(text[2:-2].strip())
        items = list(value.items) if isinstance(value, Many) and value.kind == "list" else [value] if value else []
        return _many("set", items, text)
    if text[0] not in _BRACKETS or text[-1] not in ")]":
        return None
    parts = split_top(text[1:-1], ",;", thousands=False)
    if len(parts) < 2 or not all(parts):
        return None
    items = [value for part in parts if (value := _value(part)) is not None]
    return Many("pair", tuple(items), text[0] + text[-1], text)


def _leaf(text: str) -> Value:
    bare, unit = strip_unit(text)
    if unit and bare:
        number = numeral(bare)
        if number is not None:
            return Number(*number, unit)
    if _is_prose(text) or re.fullmatch(r"\(?[A-Za-z]\)?", text):
        plain = words(text)
        if plain:
            single = re.fullmatch(r"\(?([A-Za-z])\)?", text)
            return Words(single.group(1) if single else plain, written=text)
    based = re.fullmatch(r"\(?(-?[0-9A-F.]+)\)?\s*_\s*(?:\{\s*(\d+)\s*\}|(\d+))", text)
    number = numeral(based.group(1)) if based else None
    if based and number is not None:
        return Number(number[0], number[1], base=based.group(2) or based.group(3))
    return Formula(bare or text, unit)


def _many(kind: str, items: "list[Value]", latex: str) -> Value:
    kept = list(dict.fromkeys(items))
    if len(kept) == 1 and kind != "set":
        return kept[0]
    return Many(kind, tuple(kept), "", latex)


def _is_name(text: str) -> bool:
    """Whether the left side of an equation is a name: `x`, `a_{37}`, `f(x)`, `|AB|`, `(p, q)`, `V_1:V_2`."""
    bare = re.sub(r"_\s*(?:\{[^{}]*\}|\w)", "", text)
    bare = re.sub(r"(?<=[A-Za-z'])\([^()]*\)", "", bare)
    return bool(re.search(r"[A-Za-z]", bare)) and not _NOT_A_NAME.search(bare)


def _is_quantity(text: str) -> bool:
    """Whether the left side of an equation is a quantity that was asked for: `\\frac{AB}{CD}`, `AB + BC`, `AB^2`."""
    ratio = _QUOTIENT.fullmatch(text)
    if ratio:
        return all(map(_is_name, (part for part in ratio.groups() if part)))
    return _SEGMENTS.fullmatch(text) is not None


def _ratio(text: str) -> Value | None:
    """A ratio of three or more whole numbers in lowest terms, or of two by the word `to`; None for anything else."""
    odds = re.fullmatch(r"(\d{1,9}) to (\d{1,9})", text)
    if odds and gcd(int(odds[1]), int(odds[2])) == 1:  # `2 to 3` is a ratio or a range, `10 to 20` a range
        return Number(Fraction(int(odds[1]), int(odds[2])))
    if text.count(":") < 2 or not re.fullmatch(r"\d{1,9}(?:\s*:\s*\d{1,9}){2,9}", text):
        return None
    parts = [int(part) for part in text.split(":")]
    share = gcd(*parts) or 1
    return Many("pair", tuple(Number(Fraction(part // share)) for part in parts), "::", text)


def _name(text: str) -> str:
    return re.sub(r"\\(?:text|mathrm|mbox)|[\s{}]", "", text)


def _is_prose(text: str) -> bool:
    """Whether a text holds a word: letters that no formula is made of."""
    bare = _COMMANDS.sub(" ", _TEXT.sub(r" \1 ", text))
    if _TEXT.search(text) and not re.search(r"\d|=", _TEXT.sub("", text)):
        return bool(re.search(r"[^\W\d_]", _TEXT.sub("", "".join(_TEXT.findall(text)))))
    return bool(re.search(r"(?<![\w\\])[^\W\d_]{2,}(?![\w(^=])", bare)) and not re.search(
        r"[=^+]|\\[a-zA-Z]", _TEXT.sub("", text)
    )

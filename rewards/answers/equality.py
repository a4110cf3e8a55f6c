"""Whether two answers that were read are the same. Numbers are compared exactly, structures part by part.

Only the leaves that are formulas are handed to algebra.
"""

import re
from fractions import Fraction
from math import comb, perm

from rewards.answers.clock import Clock, same_time
from rewards.answers.pieces import entries
from rewards.answers.reading import Formula, Many, Named, Number, Value, Words, read, words
from rewards.answers.units import factor, measures_degrees

_CLOSE = Fraction(5, 10**7)  # a decimal agrees when it does to six places ...
_SHARE = Fraction(1, 10**6)  # ... and to this share of the number, so that small numbers differ too

_TEXTS = re.compile(r"\\(?:text|mbox|mathrm|textbf|operatorname)(?![a-zA-Z])")
_STRUCTURE = re.compile(r"\\[a-zA-Z]+|[-+*/^_!|'=<>]")  # what text is compared without

# Words of two to four letters that are another word or sequence when their letters are in another order.
_SHORT_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    act ad alp am amp an ape apt are arm art arts as at ate bad bag bat be bin bus but by cat dab dad den die dim
    do dog ear east eat eats eel eid end era evil form from gab gas gel go god gut he hi how if in inn is it its
    lap lee leg leo live ma map mar may me mid mon my nap net nib nip nit no nor not now nun nus oat of oh on one
    opt or own pa pal pan par pat pea pin pit pot ram rap rat rats raw red sag saw sea seat sit so star sub sun
    tab tap tar tea ten tin tip tis to ton top tow tub tug two up us veil vile war was way we who won yam yaw yes
    """,
    )
)


def same(wanted: Value, said: Value) -> bool:
    """Whether what was said is what was wanted; the left side is the reference.

    Raises:
        OverflowError: two numbers are too large to be told apart.
    """
    if wanted == said:
        return not (isinstance(wanted, Words) and isinstance(said, Words) and _is_other_product(wanted, said))
    if isinstance(wanted, Named) or isinstance(said, Named):
        return _same_named(wanted, said)
    if isinstance(wanted, Many) or isinstance(said, Many):
        return _same_many(wanted, said)
    if isinstance(wanted, Clock) or isinstance(said, Clock):
        return _same_clock(wanted, said)
    if isinstance(wanted, Number) and isinstance(said, Number):
        return _same_number(wanted, said)
    if isinstance(wanted, Words) or isinstance(said, Words):
        return _same_words(wanted, said)
    return _same_formula(wanted, said)


def _same_clock(wanted: Value, said: Value) -> bool:
    """Two times as times; a time and a number as a ratio, where the reference is no time for certain."""
    if isinstance(wanted, Clock) and isinstance(said, Clock):
        return same_time(wanted, said)
    time, other = (wanted, said) if isinstance(wanted, Clock) else (said, wanted)
    if not isinstance(time, Clock) or not isinstance(other, Number):
        return False
    if time.half:
        return (time.minute, time.second) == (0, 0) and other == Number(Fraction(time.hour))
    if time.ratio is None or (time is wanted and time.certain):
        return False
    ratio = Number(time.ratio)
    return _same_number(ratio, other) if time is wanted else _same_number(other, ratio)


def _same_number(wanted: Number, said: Number) -> bool:
    if wanted.base and said.base and wanted.base != said.base:
        return False
    scale = factor(said.unit, wanted.unit)
    if scale is None:
        return False
    value = said.value * scale
    if _close(wanted, value, said.decimals):
        return True
    if scale == 1 and wanted.percent != said.percent:  # 28% is 28 to most people, and 0.28 to the rest
        return _close(wanted, value / 100 if said.percent else value * 100, said.decimals)
    return False


def _close(wanted: Number, value: Fraction, decimals: int | None) -> bool:
    if wanted.value == value:
        return True
    if wanted.decimals is None and decimals is None:
        return False
    apart = abs(wanted.value - value)
    if apart < _CLOSE and apart <= _SHARE * abs(wanted.value):
        return True
    exact, places = (wanted.value, decimals) if wanted.decimals is None else (value, wanted.decimals)
    rounded = wanted.decimals is None or decimals is None
    return rounded and places is not None and places >= 2 and not _terminates(exact) and apart <= _half(places)


def _half(places: int) -> Fraction:
    """The most that a number rounded to so many decimal places is off."""
    return Fraction(1, 2 * 10 ** min(places, 50))


def _terminates(value: Fraction) -> bool:
    under = value.denominator
    for prime in (2, 5):
        while under % prime == 0:
            under //= prime
    return under == 1


def _same_words(wanted: Value, said: Value) -> bool:
    """Words with words as text, letters also as a product; words with a formula as text only where the formula is
    nothing but words, since text has no structure.
    """
    if isinstance(wanted, Words) and isinstance(said, Words):
        if _is_other_product(wanted, said):
            return False
        if wanted.text == said.text or wanted.text.replace(" ", "") == said.text.replace(" ", ""):
            return True
        ours, theirs = _factors(wanted), _factors(said)
        if ours is None or theirs is None:
            return _is_written_formula(wanted) and _is_written_formula(said) and _same_formula(wanted, said)
        return ours == theirs
    side, other = (wanted, said) if isinstance(wanted, Words) else (said, wanted)
    unstructured = isinstance(other, Formula) and not _STRUCTURE.search(_TEXTS.sub("", other.latex))
    if unstructured and _text(side) == _text(other):
        return True
    if isinstance(other, Number) or not isinstance(side, Words):
        return False
    letters = re.fullmatch(r"[A-Za-z ]{1,8}", _letters(side)) is not None
    return (letters or _is_written_formula(side)) and _same_formula(wanted, said)


def _is_other_product(wanted: Words, said: Words) -> bool:
    """Whether two products of two letters differ in capitals, as `Ab` and `ab`; `No` and `no` are words."""
    ours, theirs = _factors(wanted), _factors(said)
    return ours is not None and theirs is not None and len(ours) == len(theirs) == 2 and ours != theirs


def _is_written_formula(side: Words) -> bool:
    """Whether words are short runs of letters with signs between them, as `ab/2` and `mn - n`."""
    return re.fullmatch(r"[A-Za-z0-9 ()/*-]{3,24}", side.written) is not None and not re.search(
        r"[A-Za-z]{4}|^[^-/*]*$", side.written
    )


def _factors(side: Words) -> list[str] | None:
    """The factors of a product of letters, sorted; None for a word, and for three capitals or more (points, tosses)."""
    letters = _letters(side).replace(" ", "")
    if not re.fullmatch(r"[A-Za-z]{2,6}", letters) or letters.lower() in _SHORT_WORDS:
        return None
    if letters.isupper() and len(letters) > 2:
        return None
    if len(letters) > 3 and not (set(letters) & set("xzqXZQ") or set("abcd") <= set(letters)):
        return None
    return sorted(letters)


def _letters(side: Words) -> str:
    return side.written.strip("{}() ") or side.text


def _text(value: Value) -> str:
    if isinstance(value, Words):
        return value.text.casefold().replace(" ", "")
    return words(_latex(value)).replace(" ", "")


def _same_named(wanted: Value, said: Value) -> bool:
    counts = [_count(side) for side in (wanted, said)]
    if any(counts) and any(isinstance(side, (Number, Formula)) for side in (wanted, said)):
        ours, theirs = (count or side for count, side in zip(counts, (wanted, said), strict=True))
        return same(ours, theirs)
    if not isinstance(wanted, Named):
        return isinstance(said, Named) and same(wanted, said.value)
    if not isinstance(said, Named):
        return wanted.named and same(wanted.value, said)
    bound = _renamed(wanted, said)
    if bound is not None:
        return same(wanted.value, bound)
    if wanted.named and said.named and wanted.name == said.name:
        return same(wanted.value, said.value)
    return _same_formula(wanted, said)


def _count(side: Value) -> Number | None:
    """`C(5, 2)` and `P(5, 2)` as numbers of choices and of arrangements; beside a number they are no points."""
    if not isinstance(side, Named) or side.name not in ("C", "P", "A") or not isinstance(side.value, Many):
        return None
    sizes = [item.value for item in side.value.items if isinstance(item, Number) and item.value.denominator == 1]
    if len(sizes) != 2 or len(side.value.items) != 2 or not 0 <= sizes[1] <= sizes[0] <= 1000:
        return None
    n, k = map(int, sizes)
    return Number(Fraction(comb(n, k) if side.name == "C" else perm(n, k)))


def _renamed(wanted: Named, said: Named) -> Value | None:
    """The value of `f(t) = ...` said with the variable of a wanted `f(x) = ...`; None where the two are not such."""
    ours, theirs = (re.fullmatch(r"(\w+'*)\(([A-Za-z])\)", side.name) for side in (wanted, said))
    if ours is None or theirs is None or ours.group(1) != theirs.group(1) or ours.group(2) == theirs.group(2):
        return None
    body = said.latex.rsplit("=", 1)[-1]
    return read(re.sub(rf"(?<![A-Za-z\\]){theirs.group(2)}(?![A-Za-z])", ours.group(2), body))


def _same_many(wanted: Value, said: Value) -> bool:
    ours = wanted if isinstance(wanted, Many) else Many("one", (wanted,))
    theirs = said if isinstance(said, Many) else Many("one", (said,))
    kinds = {ours.kind, theirs.kind}
    if kinds == {"pair"}:
        return _same_pair(ours, theirs)
    if kinds == {"list", "pair"}:  # brackets left out: an order that was asked for still counts
        ordered = ours.kind == "pair" or _is_system(ours)
        return _in_order(ours.items, theirs.items) if ordered else _in_any_order(ours.items, theirs.items)
    if kinds == {"set", "pair"}:
        return False
    if kinds == {"one", "pair"}:
        return _same_vector(wanted, said) or _same_sets(wanted, said)
    if kinds & {"piece", "pieces"}:
        return len(kinds) == 1 and (_in_order if kinds == {"piece"} else _same_pieces)(ours.items, theirs.items)
    if ours.kind == "union" and theirs.kind == "list" and " and " in theirs.latex:
        return False  # what is in both of two sets is not what is in one of them
    if "union" in kinds:
        return _in_any_order(_sets(ours), _sets(theirs)) or _same_sets(wanted, said)
    if kinds == {"list"} and _is_system(ours) and not any(isinstance(item, Named) for item in theirs.items):
        return _in_order(ours.items, theirs.items)
    if kinds == {"list"} and _is_numbered(ours) != _is_numbered(theirs):
        ours, theirs = _unnumbered(ours), _unnumbered(theirs)
    if kinds == {"one", "list"}:  # one value, written in two ways
        return all(same(one, two) for one in ours.items for two in theirs.items)
    if kinds == {"one", "set"} or kinds == {"set"} or "list" in kinds:
        return _in_any_order(ours.items, theirs.items)
    return False


def _same_vector(wanted: Value, said: Value) -> bool:
    """Whether a tuple and a matrix of one row or column have the same entries."""
    pair, other = (wanted, said) if isinstance(wanted, Many) else (said, wanted)
    if not isinstance(pair, Many) or not isinstance(other, Formula) or pair.ends not in ("()", "[]"):
        return False
    parts = [read(part) for part in entries(other.latex) or ()]
    items = tuple(part for part in parts if part is not None)
    ours, theirs = (pair.items, items) if pair is wanted else (items, pair.items)
    return _in_order(ours, theirs)


def _same_pieces(wanted: tuple[Value, ...], said: tuple[Value, ...]) -> bool:
    """Whether functions have the same pieces, in any order; one condition may be `otherwise` on either side."""
    if len(wanted) != len(said) or _in_any_order(wanted, said):
        return len(wanted) == len(said)
    return any(
        (_is_rest(one) or _is_rest(two))
        and same(one.items[0], two.items[0])
        and _in_any_order(wanted[:i] + wanted[i + 1 :], said[:k] + said[k + 1 :])
        for i, one in enumerate(wanted)
        for k, two in enumerate(said)
        if isinstance(one, Many) and isinstance(two, Many)
    )


def _is_rest(side: Value) -> bool:
    return isinstance(side, Many) and any(
        isinstance(item, Words) and item.text in ("otherwise", "else", "elsewhere") for item in side.items[1:]
    )


def _is_system(value: Many) -> bool:
    """Whether the list gives different names their values, as in `x = 3, y = 4`."""
    names = [item.name for item in value.items if isinstance(item, Named)]
    return len(names) == len(value.items) == len(set(names))


def _is_numbered(value: Many) -> bool:
    """Whether the list gives the values of one name, numbered: `x_1 = 3, x_2 = 4`."""
    return (
        _is_system(value)
        and len({re.sub(r"_.*", "", item.name) for item in value.items if isinstance(item, Named)}) == 1
    )


def _unnumbered(value: Many) -> Many:
    """The same list with `x` for `x_1` and `x_2`."""
    items = (
        Named(re.sub(r"_.*", "", i.name), i.value, i.latex, i.named) if isinstance(i, Named) else i for i in value.items
    )
    return Many("list", tuple(items), "", value.latex)


def _sets(value: Many) -> tuple[Value, ...]:
    return (value,) if value.kind in ("pair", "set") else value.items


def _same_pair(wanted: Many, said: Many) -> bool:
    if len(wanted.items) == 2 and wanted.ends != said.ends:  # as intervals; longer ones are lists in any brackets
        return False
    return _in_order(wanted.items, said.items)


def _in_order(wanted: tuple[Value, ...], said: tuple[Value, ...]) -> bool:
    return len(wanted) == len(said) and all(same(one, two) for one, two in zip(wanted, said, strict=True))


def _in_any_order(wanted: tuple[Value, ...], said: tuple[Value, ...]) -> bool:
    if len(wanted) != len(said):
        return False
    left = list(said)
    for one in wanted:
        match = next((place for place, two in enumerate(left) if same(one, two)), None)
        if match is None:
            return False
        left.pop(match)
    return True


def _latex(value: Value) -> str:
    if isinstance(value, Number):
        return (
            f"({value.value.numerator})/({value.value.denominator})"
            if value.value.denominator != 1
            else str(value.value)
        )
    if isinstance(value, Words):
        return _letters(value)
    return "" if isinstance(value, Clock) else value.latex


def _same_formula(wanted: Value, said: Value) -> bool:
    from rewards.answers.algebra import equal  # here, since it loads sympy

    if isinstance(wanted, Formula) and isinstance(said, Formula):
        angles = measures_degrees(wanted.unit) != measures_degrees(said.unit)
        if not angles and factor(said.unit, wanted.unit) != 1:
            return False
    decimal = isinstance(said, Number) and said.decimals is not None
    return equal(_in_radians(wanted, said), _in_radians(said, wanted), decimal)


def _in_radians(value: Value, other: Value) -> str:
    """An angle in degrees beside one that is a multiple of pi in radians, as LaTeX; anything else as it is."""
    degrees = isinstance(value, (Number, Formula)) and measures_degrees(value.unit)
    plain = isinstance(other, Formula) and "\\pi" in other.latex and not measures_degrees(other.unit)
    return f"({_latex(value)}) \\cdot \\frac{{\\pi}}{{180}}" if degrees and plain else _latex(value)


def _same_sets(wanted: Value, said: Value) -> bool:
    from rewards.answers.algebra import equal_sets  # here, since it loads sympy

    return equal_sets(_latex(wanted), _latex(said))

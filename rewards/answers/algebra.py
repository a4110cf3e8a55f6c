r"""Whether two formulas are equal, by math-verify's parser and comparisons that no rounding can mislead.

math-verify compares numbers after rounding, which makes 2^{-99} and 2^{-98} equal. Here numbers are compared exactly
where they are rational and to sixty digits of relative precision elsewhere; formulas with variables are compared
at fixed points, to forty digits (Schwartz 1980, Zippel 1979: two different polynomials agree at few points); equations
by the ratio of their two sides' differences. The time limit is the caller's (limits.py).
"""

import logging
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from rewards.answers.limits import not_counted

_BITS = 200_000  # a rational number that may need more is not written out
_POINTS = (
    "0.731058578630004879251159",
    "1.689347201936120475933811",
    "-2.361092847561029384756102",
    "3.912374650912837465091283",
)
_DIGITS = 150
_NAME = re.compile(  # a letter or a command, with its primes; words as text are none
    r"\\(?:text|mathrm|mathbb|mathcal|operatorname|begin|end)\s*\{[^{}]*\}|(?P<name>(?:\\[A-Za-z]+|[A-Za-z])'*)"
)
_PRIMES = re.compile(r"(?:(?<=[)\]}])|(?<=_\d))'+")  # of brackets and of names with a subscript
_EXPONENT_T = re.compile(r"\^\s*(?:T|\{\s*T\s*\})")
_DEEP = re.compile(  # what math-verify takes for ever to read: nested brackets and towers of powers
    r"[(\[{]{16}|\^[{\s]*\d+[}\s]*\^[{\s]*\d+[}\s]*\^[{\s]*\d"
)
_CONSTANT = re.compile(r"\+\s*[Cc]\s*$")  # of integration, of either case


@lru_cache(maxsize=2048)
def parse(latex: str) -> Any:
    """The sympy object of a formula, or None where math-verify cannot read it."""
    if _DEEP.search(latex):
        return None
    _load()
    return _parsed(latex)


@lru_cache(maxsize=1)
def _load() -> None:
    with not_counted():
        _parsed("x^2 + 1")


def _parsed(latex: str) -> Any:
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig
    from math_verify import parse as parse_text

    # It warns once that its own time limit is off; the caller's limit works by killing the process.
    logging.getLogger("math_verify.parser").setLevel(logging.ERROR)
    plain = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none")
    config = LatexExtractionConfig(normalization_config=plain, boxed_match_priority=-1)
    found = parse_text(
        f"\\[ {latex} \\]",
        extraction_config=[config],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
        raise_on_error=True,
    )
    return found[0] if found else None


def _told_apart(one: str, two: str) -> tuple[str, str]:
    """Two formulas in which names are different where math-verify would take them for the same.

    It reads `R` as `r`, drops the primes of `f'` and `(f + g)'`, and takes `a^T` for a transposed `a`.

    Raises:
        ValueError: there are more names with primes than letters.
    """
    names = {name for text in (one, two) for found in _NAME.finditer(text) if (name := found.group("name"))}
    letters = {name[0] for name in names if not name.startswith("\\")}
    if _CONSTANT.search(one) and _CONSTANT.search(two):
        letters.discard("C")
    free = [letter for letter in "uvwzqkmnpstabcdfghjlxyr" if not letters & {letter, letter.upper()}]
    primed = sorted(name for name in names if name.endswith("'"))
    clashing = [letter for letter in sorted(letters) if letter.isupper() and letter.lower() in letters - {"i", "e"}]
    if any(_EXPONENT_T.search(text) and "matrix" not in text for text in (one, two)):
        clashing = sorted({*clashing, "T"})
    if len(primed) >= len(free):
        raise ValueError(f"the formulas have {len(primed)} names with primes, too many to be told apart")
    new = dict(zip([*primed, *clashing], free[1:], strict=False))

    def renamed(text: str) -> str:
        text = _NAME.sub(lambda found: new.get(found.group("name") or "", found.group()), text)
        return _PRIMES.sub(lambda found: f" \\cdot {free[0]}^{{{len(found.group())}}}", text)

    return renamed(one), renamed(two)


def equal(wanted: str, said: str, decimal: bool = False) -> bool:
    """Whether two formulas are equal; with `decimal`, whether a decimal number said is the one wanted to six places.

    Raises:
        OverflowError: two numbers agree to sixty digits and are too large to be written out.
    """
    one, two = map(parse, _told_apart(wanted, said))
    return one is not None and two is not None and _same(one, two, decimal)


def equal_sets(wanted: str, said: str) -> bool:
    """Whether two sets or relations are the same set, as math-verify finds it where they are not two relations."""
    return equal(wanted, said)


def _same(one: Any, two: Any, decimal: bool) -> bool:
    from sympy import Basic, Expr, MatrixBase, MatrixExpr, Set, Tuple
    from sympy.core.relational import Relational
    from sympy.logic.boolalg import BooleanFunction

    if isinstance(one, (MatrixBase, MatrixExpr)) or isinstance(two, (MatrixBase, MatrixExpr)):
        return _same_matrix(one, two, decimal)
    if not isinstance(one, Basic) or not isinstance(two, Basic):
        return False
    if isinstance(one, Relational) and isinstance(two, Relational):
        return _same_relation(one, two)
    if isinstance(one, (Set, Tuple, Relational, BooleanFunction)) or isinstance(
        two, (Set, Tuple, Relational, BooleanFunction)
    ):
        return _verified(one, two)
    if not isinstance(one, Expr) or not isinstance(two, Expr):
        return one == two
    return _same_expression(one, two, decimal)


def _same_matrix(one: Any, two: Any, decimal: bool) -> bool:
    from sympy import MatrixBase

    one, two = one.doit(), two.doit()
    if not isinstance(one, MatrixBase) or not isinstance(two, MatrixBase) or one.shape != two.shape:
        return False
    return all(_same(left, right, decimal) for left, right in zip(one.flat(), two.flat(), strict=True))


def _same_expression(one: Any, two: Any, decimal: bool) -> bool:
    from sympy import Integral, Limit, Product, Sum, nan, oo, zoo
    from sympy.core.function import AppliedUndef

    if one == two:
        return True
    if any(side.has(nan, zoo, oo, -oo) for side in (one, two)):
        return False
    one, two = _unwrapped(one), _unwrapped(two)
    if one.has(Sum, Product, Integral, Limit, AppliedUndef) or two.has(Sum, Product, Integral, Limit, AppliedUndef):
        return _verified(one, two)
    one, two = _complex(one), _complex(two)
    names = {symbol.name for symbol in one.free_symbols | two.free_symbols}
    return _same_function(one, two, sorted(names)) if names else _same_constant(one, two, decimal)


def _unwrapped(side: Any) -> Any:
    """Without the marks that hold a percent sign's hundredth apart."""
    from sympy import UnevaluatedExpr

    return side.replace(lambda part: isinstance(part, UnevaluatedExpr), lambda part: part.args[0])


def _complex(side: Any) -> Any:
    """math-verify reads i as a name; as a value it is the imaginary unit."""
    from sympy import I

    return side.subs([(symbol, I) for symbol in side.free_symbols if symbol.name == "i"])


def _same_constant(one: Any, two: Any, decimal: bool) -> bool:
    from sympy import Float, Rational

    left, right = _rational(one), _rational(two)
    if left is not None and right is not None and not decimal and not (one.has(Float) or two.has(Float)):
        return left == right
    near, far = _evaluated(one, 60), _evaluated(two, 60)
    if near is None or far is None:
        return False
    apart, size = abs(near - far), max(abs(near), abs(far))
    if one.has(Float) or two.has(Float) or decimal:
        return _within(one, two, apart, abs(near))
    if apart > size * Rational(1, 10**45):
        return bool(size < Rational(1, 10**50) and (one - two).equals(0))
    near, far = _evaluated(one, 600), _evaluated(two, 600)
    if size > Rational(10) ** 500:
        raise OverflowError("two numbers agree to sixty digits and are too large to be compared exactly")
    return near is not None and far is not None and bool(abs(near - far) <= size * Rational(1, 10**550))


def _within(one: Any, two: Any, apart: Any, size: Any) -> bool:
    from sympy import Rational

    if bool(apart < Rational(5, 10**7)) and bool(apart <= size * Rational(1, 10**4)):
        return True
    exact = _rational(one)
    places = _places(two)
    endless = exact is not None and exact.denominator not in (1,) and not _terminates(exact) and not _has_float(one)
    return endless and places >= 2 and bool(apart <= Rational(1, 2 * 10**places))


def _places(value: Any) -> int:
    """The digits behind the point of a decimal number as it was written; 0 for anything else."""
    from sympy import Float

    text = f"{float(value):.15g}" if isinstance(value, Float) else ""
    return len(text.partition(".")[2]) if "e" not in text else 0


def _has_float(value: Any) -> bool:
    from sympy import Float

    return bool(value.has(Float))


def _terminates(value: Fraction) -> bool:
    return pow(10, value.denominator.bit_length(), value.denominator) == 0


def _rational(side: Any) -> Fraction | None:
    """The exact value of sums, products, whole powers and factorials of rational numbers; None for anything else, or
    where it would take too many digits.
    """
    from sympy import Add, Mul, Pow, Rational, factorial

    if isinstance(side, Rational):
        return Fraction(int(side.p), int(side.q))
    if isinstance(side, factorial):
        size = _rational(side.args[0])
        whole = size is not None and size.denominator == 1 and 0 <= size <= 5000
        return Fraction(int(factorial(int(size)))) if whole and size is not None else None
    if not isinstance(side, (Add, Mul, Pow)):
        return None
    parts = [_rational(part) for part in side.args]
    values = [part for part in parts if part is not None]
    if len(values) != len(parts) or sum(_bits(value) for value in values) > _BITS:
        return None
    if isinstance(side, Pow):
        return _power(*values)
    total = Fraction(0) if isinstance(side, Add) else Fraction(1)
    for value in values:
        total = total + value if isinstance(side, Add) else total * value
    return total


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or _bits(base) * abs(exponent) > _BITS or (base == 0 and exponent < 0):
        return None
    return base ** int(exponent)


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _same_function(one: Any, two: Any, names: list[str]) -> bool:
    """Equality at fixed points; where too few of them have a value, math-verify's."""
    from sympy import Float, Rational

    tolerance = Rational(1, 10**6) if one.has(Float) or two.has(Float) else Rational(1, 10**120)
    agreed = 0
    for shift in range(len(_POINTS)):
        near, far = (_at(side, names, shift) for side in (one, two))
        if near is None or far is None:
            continue
        if bool(abs(near - far) > tolerance * max(abs(near), abs(far))):
            return False
        agreed += 1
    return agreed >= 2 or _verified(one, two)


def _at(side: Any, names: list[str], shift: int) -> Any:
    """The value at one of the fixed points, or None where it has none."""
    from sympy import Rational

    point = {name: Rational(_POINTS[(shift + k) % len(_POINTS)]) + k // len(_POINTS) for k, name in enumerate(names)}
    return _evaluated(side.subs([(symbol, point[symbol.name]) for symbol in side.free_symbols]), _DIGITS)


def _evaluated(side: Any, digits: int) -> Any:
    """The numerical value of a constant, or None where it has none: log 0, (-3)!, a remainder of a complex number."""
    from sympy import Mod

    try:
        value = (side.doit() if side.has(Mod) else side).evalf(digits)
        finite = value.is_finite and all(part.is_comparable for part in value.as_real_imag())
    except (TypeError, ValueError, ZeroDivisionError):  # mpmath's words for a pole or no number
        return None
    return value if finite else None


def _same_relation(one: Any, two: Any) -> bool:
    """Equations by proportional differences, inequalities by differences with a positive factor between them."""
    from sympy import Eq, Expr, Ge, Gt, Le, Lt, Ne

    if not all(isinstance(side, Expr) for relation in (one, two) for side in relation.args):
        return _verified(one, two)
    flip = {Lt: Gt, Le: Ge}
    kinds = [flip.get(type(relation), type(relation)) for relation in (one, two)]
    if kinds[0] is not kinds[1]:
        return False
    signed = kinds[0] not in (Eq, Ne)
    left, right = (
        relation.rhs - relation.lhs if type(relation) in flip else relation.lhs - relation.rhs
        for relation in (one, two)
    )
    if _has_unknown(left) or _has_unknown(right):
        return bool(left == right) or _verified(one, two)
    return _proportional(_complex(left), _complex(right), signed)


def _has_unknown(side: Any) -> bool:
    from sympy import Integral, Limit, Product, Sum
    from sympy.core.function import AppliedUndef

    return bool(side.has(Sum, Product, Integral, Limit, AppliedUndef))


def _proportional(one: Any, two: Any, signed: bool) -> bool:
    from sympy import Rational, together

    if not signed:
        one, two = (together(side).as_numer_denom()[0] for side in (one, two))
    names = sorted({symbol.name for symbol in one.free_symbols | two.free_symbols})
    if {symbol.name for symbol in one.free_symbols} != {symbol.name for symbol in two.free_symbols}:
        return False
    first = None
    for shift in range(len(_POINTS)):
        near, far = (_at(side, names, shift) for side in (one, two))
        if near is None or far is None or near == 0 or far == 0:
            continue
        ratio = near / far
        if first is None:
            first = ratio
        if bool(abs(ratio - first) > abs(first) * Rational(1, 10**120)) or (signed and not bool(ratio.is_positive)):
            return False
    return first is not None


def _verified(one: Any, two: Any) -> bool:
    from math_verify import verify

    logging.getLogger("math_verify.grader").setLevel(logging.ERROR)
    return bool(verify(one, two, timeout_seconds=None, allow_set_relation_comp=True, raise_on_error=True))

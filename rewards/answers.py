"""Graders that compare the final answer of a response with a reference: `exact` and `number`.

Pure functions from text to (outcome, why); what an outcome is worth is decided by the caller.
"""

import re
from fractions import Fraction

from rewards.verdict import Outcome

Judgement = tuple[Outcome, str]

# A number as people write it: sign, thousands separators, decimals, exponent, or a plain fraction.
_NUMBER = re.compile(
    r"(?:(?<![\w)])-)?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d)\.(?!\d))?(?:[eE][+-]?\d{1,3})?(?:/\d+)?"
)
_MARKER = re.compile(r"#+|(?:final\s+)?answer\s*(?:is|:)", re.IGNORECASE)


def exact(response: str, reference: str) -> Judgement:
    """Correct when the whole response equals the reference, white space at the ends aside."""
    said, wanted = response.strip(), reference.strip()
    if not said:
        return Outcome.UNPARSABLE, "the response is empty"
    if said == wanted:
        return Outcome.CORRECT, f"equals {wanted!r}"
    return Outcome.WRONG, f"answered {said[-80:]!r}, expected {wanted[:80]!r}"


def number(response: str, reference: str) -> Judgement:
    """Correct when the final number of the response has exactly the value of the reference's final number.

    The final number is the first one after the last marker (`####`, `answer is`, `answer:`), or without a marker
    the last one in the text. A marker with no number behind it holds no answer. Values are compared as fractions,
    so 0.50, 1/2 and .5 are one number and 1e2 is 100.

    Raises:
        ValueError: the reference holds no number, which no response could ever match.
    """
    wanted = final_number(reference)
    if wanted is None:
        raise ValueError(f"the reference {reference[-80:]!r} holds no number; use the reward 'exact' for text answers")
    said = final_number(response)
    if said is None:
        return Outcome.UNPARSABLE, "no number found where the final answer should be"
    if said == wanted:
        return Outcome.CORRECT, f"equals {wanted}"
    return Outcome.WRONG, f"answered {said}, expected {wanted}"


def final_number(text: str) -> Fraction | None:
    """The value of the final number of a text as `number` reads it, or None where there is none."""
    markers = list(_MARKER.finditer(text))
    found = _numbers(text[markers[-1].end() :] if markers else text)
    if not found:
        return None
    return found[0] if markers else found[-1]


def _numbers(text: str) -> list[Fraction]:
    values = (_value(match.group()) for match in _NUMBER.finditer(text))
    return [value for value in values if value is not None]


def _value(token: str) -> Fraction | None:
    over, _, under = token.replace(",", "").rstrip(".").partition("/")
    try:
        return Fraction(over) / Fraction(under or 1)
    except (ValueError, ZeroDivisionError):  # a lone sign or point, or a division by zero, is no number
        return None

r"""The rewards' mathematical verifier: is the final answer of a response equal to the reference?

It builds on math-verify (its reader of LaTeX, its sets and sums) and adds where the answer stands (final.py),
an exact reading of numbers and structure (reading.py) and comparisons without rounding (algebra.py).
The policy, where projects disagree:

- Only the final answer counts, after any thinking part. The last pair of answer tags holds it, else the last box, else
  the last answer phrase, else the last formula or number. No tag or box is asked for.
- Boxes side by side are one list; a sentence between them makes them two statements, of which the last counts.
- A box or tag that is empty or never closed is no answer, and so is a thinking part without an end.
- A list without brackets or in braces has no order; a tuple or vector in brackets has one. `(a, b)`, `[a, b]` and
  `(a, b]` differ. Repeated values of a list count once.
- Marks are a part of a name: `f'`, `f''`, `\bar z`, `A^T` and `Ab` differ from `f`, `z`, `A` and `ab`.
- `3:00` is a time, `2:3` a ratio. What may be both is a time beside another of its kind (22:42 is not 11:21), and a
  ratio beside a fraction or a ratio with spaces (11:21 is 11/21 and 22 : 42).
- A bound behind an answer phrase ("the answer is at least 5") is no value, and neither is a choice ("5 or maybe 6").
- A vector may be a tuple, a row or a column. Functions in pieces are compared piece by piece, in any order.
- Equal values are equal: unreduced fractions, unevaluated sums and products are correct.
- `x = 3` and `3` are equal, `x = 3` and `y = 3` are not; equations are equal when one is a multiple of the other.
- A unit, a currency and degrees may be left out; two known units must measure the same thing, and are converted.
- `28%` equals `28` and `0.28`.
- The base of `204_5` may be left out; two different bases are wrong.
- A decimal is equal to what it agrees with to six places and six digits. A rounded one with two or more places
  is equal to a fraction that has no end as a decimal (0.33 and 1/3), and to nothing else.
- Words are compared without case, punctuation and articles. Of a choice the letter is enough.
- What takes more than 1.5 seconds of computing to compare is wrong; a reference of that kind is refused.
- An empty reference is a mistake in the data: ValueError, never a verdict.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from rewards.answers.equality import same
from rewards.answers.final import Final, Found, final, final_of_reference, refuse_missing
from rewards.answers.limits import LONGEST, TooLong, limited, too_large
from rewards.answers.notation import clean
from rewards.answers.quick import agrees
from rewards.answers.reading import Many, Value, Words, choice, label, list_of, readings, words
from rewards.verdict import Case, Outcome, RewardResult

_TEXTS = re.compile(r"\\(?:text|mbox|mathrm|textbf|operatorname)(?![a-zA-Z])")
_STRUCTURE = re.compile(r"\\[a-zA-Z]+|[\^_!|]")  # what a sentence in words has none of
_LONGEST_REFERENCE = 100_000  # characters, with a worked solution before the answer


@dataclass(frozen=True, slots=True)
class _Reference:
    final: Final
    plain: str
    values: tuple[Value, ...]


def math(case: Case) -> RewardResult:
    """Correct when the final answer of the response is mathematically equal to that of the reference.

    The part `quick` is 1 where the second, cheap checker says correct and 0 where it does not. It changes nothing:
    how often it disagrees with the outcome tells of a verifier or of data that went wrong.

    Raises:
        ValueError: the reference holds no answer, or one that cannot be read.
    """
    wanted = _reference(case.reference)
    said = final(case.response)
    if said is None:
        return RewardResult(outcome=Outcome.UNPARSABLE, why="no final answer found", parts={"quick": 0.0})
    large = next(filter(None, map(too_large, (" ".join(said.texts), *said.every))), "")
    if large and (len(said.texts) > 1 or said.texts[0] != wanted.final.texts[0]):
        return RewardResult(outcome=Outcome.WRONG, why=f"the answer {said.shown} {large}", parts={"quick": 0.0})
    parts = {"quick": float(agrees(said.texts, wanted.final.texts))}
    try:
        with limited():
            right = _plain(said) == wanted.plain or _equal(said, wanted)
    except TooLong:
        why = f"the answer {said.shown} takes more computing than any answer needs"
        return RewardResult(outcome=Outcome.WRONG, why=why, parts=parts)
    except Exception as failure:  # what an answer breaks a parser with is that answer's fault; the reference was read
        why = f"the answer {said.shown} cannot be read: {type(failure).__name__}"
        return RewardResult(outcome=Outcome.WRONG, why=why, parts=parts)
    if right:
        return RewardResult(
            outcome=Outcome.CORRECT, why=f"answered {said.shown}, equal to {wanted.final.shown}", parts=parts
        )
    why = f"answered {said.shown}, expected {wanted.final.shown}"
    return RewardResult(outcome=Outcome.WRONG, why=why, parts=parts)


def math_said(response: str) -> str | None:
    """The final answer of a response, in boxes; None where it holds none."""
    said = final(response)
    return None if said is None else ", ".join(rf"\boxed{{{text}}}" for text in said.texts)


def check_math(reference: str) -> None:
    """Makes sure that a response could be correct against the reference.

    Raises:
        ValueError: the reference or its box is empty, stands for a missing value (NaN, null, None), is too large or
            breaks the parser.
    """
    wanted = _reference(reference)
    large = next(filter(None, map(too_large, wanted.final.texts)), "")
    if large:
        raise ValueError(f"the reference {wanted.final.shown!r} {large}: no answer can be compared with it")
    try:
        with limited():
            _equal(Final(found=Found.BOX, texts=("1",)), wanted)
    except TooLong as failure:
        why = "takes more computing than any answer needs: give its value"
        raise ValueError(f"the reference {wanted.final.shown!r} {why}") from failure
    except Exception as failure:  # whatever the parser breaks with
        why = f"{type(failure).__name__}: {failure}"
        raise ValueError(f"the reference {wanted.final.shown!r} cannot be read as mathematics: {why}") from failure


@lru_cache(maxsize=1024)
def _reference(text: str) -> _Reference:
    refuse_missing(text)
    if len(text) > _LONGEST_REFERENCE:
        raise ValueError(f"the reference {text[:60]!r}... has {len(text)} characters, which no answer has")
    found = final_of_reference(text)
    values = () if found is None else list_of(found.texts, found.found is not Found.BOX)
    if found is None or not values:
        raise ValueError(
            f"the reference {text[-80:]!r} holds no answer; give a number, formula, text or \\boxed{{...}}"
        )
    return _Reference(found, _plain(found), values)


def _plain(found: Final) -> str:
    return " and ".join(clean(text) for text in found.texts)


def _equal(said: Final, wanted: _Reference) -> bool:
    loose = said.found is not Found.BOX
    values = list_of(said.texts, loose)
    chosen = _same_choice(said, wanted, loose)
    if chosen is not None:
        return chosen
    if any(same(one, two) for one in wanted.values for two in values) or _same_words(said, wanted, values):
        return True
    size = max((len(value.items) for value in wanted.values if isinstance(value, Many)), default=0)
    every = list_of(said.every, loose) if len(said.every) == size else ()
    return any(same(one, two) for one in wanted.values for two in every)


def _same_choice(said: Final, wanted: _Reference, loose: bool) -> bool | None:
    r"""Whether a choice with its value, `\textbf{(C)}\ 12`, is the wanted one: letter and value where both sides have
    both, else the one that both have; None where no side has both.
    """
    ours = choice(wanted.final.texts[0]) if len(wanted.final.texts) == 1 else None
    theirs = choice((said.sentence or said.texts[0])[:LONGEST]) if len(said.texts) == 1 else None
    if ours is None and theirs is None:
        return None
    if ours is not None and theirs is not None:
        return ours[0] == theirs[0] and _same_value(ours[1], theirs[1], loose)
    letter = label((wanted.final if ours is None else said).texts[0])
    if letter is not None and choice((wanted.final if ours is None else said).texts[0]) is None:
        return letter == (ours or theirs or ("",))[0]
    if ours is not None:
        return len(said.texts) == 1 and _same_value(ours[1], said.texts[0], loose)
    return theirs is not None and any(same(one, two) for one in wanted.values for two in readings(theirs[1], loose))


def _same_value(wanted: str, said: str, loose: bool) -> bool:
    return any(same(one, two) for one in readings(wanted, True) for two in readings(said, loose))


def _same_words(said: Final, wanted: _Reference, values: tuple[Value, ...]) -> bool:
    """Whether words are wanted that the whole sentence of the answer is, or one side is the letter of the other."""
    if len(said.texts) != 1 or len(wanted.final.texts) != 1:
        return False
    sentence = (said.sentence or said.texts[0])[:LONGEST]
    plain = clean(sentence)
    spoken = "" if _STRUCTURE.search(_TEXTS.sub("", plain)) else words(plain)
    if len(spoken) > 2 and any(isinstance(value, Words) and value.text == spoken for value in wanted.values):
        return True
    ours, theirs = label(wanted.final.texts[0]), label(sentence)
    lone = any(isinstance(value, Words) and value.text in (ours, theirs) for value in (*wanted.values, *values))
    return ours is not None and ours == theirs and lone

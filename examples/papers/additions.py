"""A world that several recipes share: additions of two-digit numbers, worked out in steps.

    15+27=    5+7+0=12    1+2+1=4    42        digit sums from the right with their carries, then the result

The policy has read additions of people who get all sums right and forget eight of ten carries; all that follows builds
on it. Where there is a carry, most of what it says has the same wrong result: a majority does not know better, and
neither does what the policy finds most likely. That a carry is missing, a model of this size learns to see in minutes;
of sums that are one off it does not.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.papers.world import Said, conversation, write_model, write_rows

ALPHABET = "0123456789+=\n"
BETWEEN = "\n\n"  # two steps, where the reward `process` is to find them
RIGHT, CHANGED = 0.4, 0.2  # shares of what models that grade learn from: all is right; a digit or two are any
IN_HASTE = 240  # updates of a warm-up there too: a search must find something
HELDOUT, TRAIN, WORKED = 200, 400, 6000  # rows


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """How those are wrong whom a policy has read."""

    slips: float  # share of the digit sums that are one off
    forgotten: float  # share of the carries that are left out


PEOPLE = People(slips=0.0, forgotten=0.8)


def steps(left: int, right: int, slip: int = 0, later_slip: int = 0, *, forgets: bool = False) -> list[str]:
    """The digit sums of an addition and its result.

    Args:
        left: of two digits.
        right: of two digits.
        slip: is added to the first sum.
        later_slip: is added to the second.
        forgets: whether the second has no carry.
    """
    ones = max(0, left % 10 + right % 10 + slip)
    carry = 0 if forgets else ones // 10
    tens = left // 10 + right // 10 + carry + later_slip
    return [f"{left % 10}+{right % 10}+0={ones}", f"{left // 10}+{right // 10}+{carry}={tens}", f"{tens}{ones % 10}"]


def divided(steps: Sequence[str]) -> str:
    """A response in which blank lines divide the steps: there the reward `process` finds them."""
    return BETWEEN.join(steps)


def worked_out(left: int, right: int, draw: random.Random) -> list[str]:
    """The steps of an addition as people say them."""
    slips = [draw.choice((-1, 1)) * (draw.random() < PEOPLE.slips) for _ in range(2)]
    return steps(left, right, *slips, forgets=draw.random() < PEOPLE.forgotten)


def graded(left: int, right: int, draw: random.Random) -> list[str]:
    """The steps of a right response, or of one as people say it, or of one with any digits, for models that grade: a
    policy that is rewarded says what nobody has read, and they are to know it for wrong."""
    kind = draw.random()
    if kind < RIGHT:
        return steps(left, right)
    said = list(divided(worked_out(left, right, draw)))
    if kind < RIGHT + CHANGED:
        digits = [place for place, letter in enumerate(said) if letter.isdecimal()]
        for place in draw.sample(digits, draw.choice((1, 2))):
            said[place] = draw.choice("0123456789")
    return "".join(said).split(BETWEEN)


def write_additions(
    folder: Path,
    told: Callable[[Sequence[str]], str],
    columns: Callable[[int, bool], Mapping[str, str]],
    words: Sequence[str] = (),
) -> None:
    """Writes the data and a model of 1.3 million parameters.

    Args:
        folder: of the recipe.
        told: makes a response of steps.
        columns: of a row beside its prompt, from the result and whether the row is held out.
        words: of the model's vocabulary, beside the alphabet.
    """
    draw = random.Random("additions")
    pairs = [(left, right) for left in range(10, 100) for right in range(10, 100)]
    draw.shuffle(pairs)
    for name, some in (("heldout", pairs[:HELDOUT]), ("train", pairs[HELDOUT : HELDOUT + TRAIN])):
        held_out = name == "heldout"
        rows = [{"prompt": f"{left}+{right}=", **columns(left + right, held_out)} for left, right in some]
        write_rows(folder / f"{name}.jsonl", rows)
    worked: list[Said] = []
    for left, right in draw.choices(pairs[HELDOUT:], k=WORKED):
        said = worked_out(left, right, draw)
        worked.append([("user", f"{left}+{right}="), ("assistant", told(said))])
    write_rows(folder / "worked.jsonl", [conversation(each) for each in worked])
    write_model(folder / "model", ALPHABET, words, heads=5)

"""A world that two recipes share: sums of four digits, worked out number by number.

    3+5+2+6=    8,10#16        what the first two are, what the first three are, then the result

The policy has read sums of people who are one off in one of five numbers; all that follows builds on it.
"""

import itertools
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from examples.papers.world import Said, conversation, dealt, write_model, write_rows

DIGITS, TERMS = range(1, 10), 4
SLIPS = 0.2  # share of the numbers that are one off
WORKED = 8000  # rows
NUMBERS = tuple(str(number) for number in range(TERMS * (DIGITS.stop + 1)))  # a token each

Sum = tuple[int, ...]


def asked(terms: Sum) -> str:
    """The prompt of a sum."""
    return "+".join(map(str, terms)) + "="


def worked_out(terms: Sum, slip: Callable[[], int] = lambda: 0) -> str:
    """A response; `slip` is added to each of its numbers."""
    steps = [*itertools.accumulate(terms, lambda so_far, term: so_far + term + slip())][1:]
    return ",".join(map(str, steps[:-1])) + f"#{steps[-1]}"


def sums(sizes: Mapping[str, int], seed: str) -> dict[str, list[Sum]]:
    """Sets of these sizes, by name; none of them has a sum of another."""
    return dealt([*itertools.product(DIGITS, repeat=TERMS)], sizes, seed)


def write_sums(folder: Path, sets: Mapping[str, list[Sum]], once: str = "") -> None:
    """Writes a file for each set, what the policy has read, and a model of 0.7 million parameters.

    Args:
        folder: of the recipe.
        sets: of sums, by name. What is read has none of the one called heldout.
        once: stands before the answers of that one.
    """
    for name, some in sets.items():
        mark = once if name == "heldout" else ""
        rows = [{"prompt": asked(terms), "answer": f"{mark}{sum(terms)}"} for terms in some]
        write_rows(folder / f"{name}.jsonl", rows)
    draw, held_out = random.Random("sums"), {*sets["heldout"]}
    others = [terms for terms in itertools.product(DIGITS, repeat=TERMS) if terms not in held_out]
    worked: list[Said] = []
    for terms in draw.choices(others, k=WORKED):
        said = worked_out(terms, lambda: draw.choice((-1, 1)) * (draw.random() < SLIPS))
        worked.append([("user", asked(terms)), ("assistant", said)])
    write_rows(folder / "worked.jsonl", [conversation(each) for each in worked])
    write_model(folder / "model", "+=,#", NUMBERS)

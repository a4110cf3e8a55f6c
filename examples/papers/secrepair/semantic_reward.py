"""A semantic reward: the cosine of a comment's embedding with that of the reference, whatever the words."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from rewards import Outcome, RewardResult
from rewards.person_file import load_file

ENCODER = Path(__file__).parents[3] / "runs/papers/secrepair/encoder"
SAME = 0.5  # cosine above which two comments mean the same


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Of the angle between two vectors; 0 where one of them is 0."""
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0


@cache
def embedding(comment: str) -> tuple[float, ...]:
    """What the frozen encoder makes of a comment."""
    return tuple(load_file(str(Path(__file__).parents[1] / "frozen.py")).frozen(ENCODER).embedding(f"{comment}|"))


def reward(response: str, reference: str, prompt: str) -> RewardResult:
    """From 0 to 1; opposite meanings count as none."""
    comment = response.strip()
    if not comment:
        return RewardResult(outcome=Outcome.UNPARSABLE, why="there is no comment", reward=0.0)
    found = min(1.0, max(0.0, cosine(embedding(comment), embedding(reference))))
    outcome = Outcome.CORRECT if found > SAME else Outcome.WRONG
    return RewardResult(outcome=outcome, why=f"the cosine is {found:.2f}", reward=found)

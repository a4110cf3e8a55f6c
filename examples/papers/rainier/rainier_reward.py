"""Rainier's reward: how far what the policy says turns a frozen QA model towards the right answer.

The QA model is asked "bo? red blue" with and without "bo is red", what the policy says.
"""

import math
import re
from functools import cache
from pathlib import Path

from rewards import Outcome, RewardResult
from rewards.person_file import load_file

QA = Path(__file__).parents[3] / "runs/papers/rainier/qa"


def change_of_mind(known: float, unknown: float) -> float:
    """Half the difference of tanh(margin), in -1 to 1. A margin is the logit of the right answer less the largest of
    the others, with knowledge and without. arXiv 2210.03078."""
    return 0.5 * (math.tanh(known) - math.tanh(unknown))


@cache
def margin(question: str, answer: str, knowledge: str = "") -> float:
    """By how much the QA model prefers the right answer."""
    choices = question.split("? ")[1].split(" ")
    logits = (
        load_file(str(Path(__file__).parents[1] / "frozen.py")).frozen(QA).logits(f"{question}|{knowledge}|", choices)
    )
    right = logits.pop(choices.index(answer))
    return right - max(logits)


def asked(prompt: str) -> str:
    """The question in a prompt."""
    return re.findall(r"<user>([^<]*)<end>", prompt)[0]


def reward(response: str, reference: str, prompt: str) -> RewardResult:
    """From 0 to 1: one half where the model's mind stays as it is, and where nothing is said."""
    question = asked(prompt)
    known, unknown = margin(question, reference, response.strip()), margin(question, reference)
    found = 0.5 + 0.5 * change_of_mind(known, unknown)
    outcome = Outcome.CORRECT if found > 0.5 else Outcome.WRONG
    return RewardResult(outcome=outcome, why=f"the margin is {known:.2f}, and {unknown:.2f} without", reward=found)

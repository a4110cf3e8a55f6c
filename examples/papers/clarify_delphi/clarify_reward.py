"""ClarifyDelphi's reward: how far apart a judge's opinions are, given a good and a bad answer to what the policy asks.

The judge is a frozen model. It is shown "eat apple|where|home|" and says good, okay or bad. Which question matters
depends on what is done.
"""

import math
import re
from functools import cache
from pathlib import Path

from rewards import Outcome, RewardResult
from rewards.person_file import load_file

JUDGE = Path(__file__).parents[3] / "runs/papers/clarify_delphi/judge"
OPINIONS = ("good", "okay", "bad")
ANSWERS = {"where": ("home", "road"), "who": ("mum", "thief"), "why": ("fun", "harm"), "when": ("noon", "night")}


def divergence(good: list[float], bad: list[float]) -> float:
    """Jensen-Shannon divergence of two distributions in bits, 0 to 1. arXiv 2212.10409."""
    middle = [(one + other) / 2 for one, other in zip(good, bad, strict=True)]
    sums = [sum(p * math.log2(p / m) for p, m in zip(each, middle, strict=True) if p > 0) for each in (good, bad)]
    return sum(sums) / 2


@cache
def opinion(situation: str, question: str, answer: str) -> list[float]:
    """The judge's probabilities of its opinions."""
    judge = load_file(str(Path(__file__).parents[1] / "frozen.py")).frozen(JUDGE)
    logits = judge.logits(f"{situation}|{question}|{answer}|", OPINIONS)
    exps = [math.exp(logit - max(logits)) for logit in logits]
    return [each / sum(exps) for each in exps]


def reward(response: str, reference: str, prompt: str) -> RewardResult:
    """From 0 to 1; 0 where nothing is asked that has an answer."""
    situation = re.findall(r"<user>([^<]*)<end>", prompt)[0]
    question = response.strip()
    if question not in ANSWERS:
        return RewardResult(outcome=Outcome.UNPARSABLE, why="this asks for nothing", reward=0.0)
    good, bad = (opinion(situation, question, answer) for answer in ANSWERS[question])
    found = divergence(good, bad)
    outcome = Outcome.CORRECT if found > 0.5 else Outcome.WRONG
    return RewardResult(outcome=outcome, why=f"opinions are {found:.2f} bits apart", reward=min(found, 1.0))

"""The table of rewards by name, and the one place where a grader's failure becomes an outcome."""

from collections.abc import Callable
from dataclasses import dataclass

from rewards.answers import Judgement, exact, number
from rewards.verdict import Outcome, Verdict

REWARDS: dict[str, Callable[[str, str], Judgement]] = {"exact": exact, "number": number}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What an outcome is worth. The paper's scores are -1 and +1."""

    wrong: float = -1.0
    correct: float = 1.0


def grade(reward: str, response: str, reference: str, scores: Scores) -> Verdict:
    """Grades one response; never raises for what the response says.

    Raises:
        KeyError: there is no reward of that name.
    """
    judge = REWARDS[reward]
    try:
        outcome, why = judge(response, reference)
    except Exception as failure:  # untrusted output: whatever it breaks is this response's own failure, and counted
        return Verdict(outcome=Outcome.ERROR, score=None, why=f"{reward} failed: {type(failure).__name__}: {failure}")
    return Verdict(outcome=outcome, score=scores.correct if outcome is Outcome.CORRECT else scores.wrong, why=why)

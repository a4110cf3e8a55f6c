"""Which responses to one prompt give the same answer: what a vote among them counts."""

from collections.abc import Sequence

from rewards.settings import Budget, KindSettings
from rewards.table import REWARDS
from rewards.verdict import Case, Outcome, RewardResult

ANSWER = "answer"  # the part that has the number of the answer that a response gives


def compared(cases: Sequence[Case], settings: KindSettings, budget: Budget) -> list[RewardResult]:
    """One result for each response. Its part ANSWER numbers the different answers in the sequence in which they come;
    a response that gives none is unparsable and has no number.

    Two answers are the same where the reward finds one right with the other as its reference. Equality of formulas with
    decimals is not always transitive; each answer is compared with the first of every class before it, and joins the
    first that is equal.

    Args:
        cases: responses to one prompt; their reference plays no part.
        settings: of a reward whose row has `said`.
        budget: of each case.
    """
    reward = REWARDS[settings.kind]
    assert reward.said is not None  # the caller looks
    numbers: dict[str, int] = {}  # of each wording so far
    firsts: list[str] = []
    found = []
    for case in cases:
        said = reward.said(case.response)
        if said is None:
            found.append(RewardResult(outcome=Outcome.UNPARSABLE, why="no answer"))
            continue
        if said not in numbers:
            numbers[said] = next((n for n, first in enumerate(firsts) if _same(said, first, settings, budget)), -1)
            if numbers[said] < 0:
                numbers[said] = len(firsts)
                firsts.append(said)
        found.append(RewardResult(outcome=Outcome.WRONG, why=said, parts={ANSWER: float(numbers[said])}))
    return found


def _same(said: str, first: str, settings: KindSettings, budget: Budget) -> bool:
    """Whether one answer is right where the other is the reference; not where that cannot serve as one."""
    try:
        (result,) = REWARDS[settings.kind].grade([Case(response=said, reference=first)], settings, budget)
    except ValueError:
        return False
    return result.outcome is Outcome.CORRECT

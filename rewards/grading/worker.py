"""The process in which rewards are computed. It answers every case that it is sent."""

import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rewards.grading.comparing import compared
from rewards.grading.serving import bound_cpu, serve
from rewards.settings import Budget, KindSettings
from rewards.table import REWARDS, Place
from rewards.verdict import Case, Outcome, RewardResult

BOUND_FOR = 1.0  # seconds for which a bound of CPU time is good enough


class Ask(StrEnum):
    """What is asked about a batch of cases."""

    GRADE = "grade"  # a result for each case, alone
    GRADE_GROUP = "grade group"  # a result for each sibling of one prompt, which may be compared
    COMPARE = "compare"  # which responses to one prompt give the same answer
    CHECK = "check"  # whether responses can be graded against the references: correct or wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the owner asks."""

    name: str  # of the reward in the run file
    settings: KindSettings  # of the reward; no combination
    budget: Budget  # for each case
    batches: Sequence[Sequence[Case]]  # each has an answer of its own
    ask: Ask = Ask.GRADE


def main(arguments: Sequence[str]) -> None:
    """Serves one owner until it is gone; `arguments` are those of `serve`."""
    bound = int(arguments[2]) > 0

    def answers(task: Task) -> Iterator[list[RewardResult]]:
        bounded = float("-inf")
        for cases in task.batches:
            if bound and (now := time.monotonic()) - bounded > BOUND_FOR:
                bound_cpu(task.budget.seconds * len(cases))
                bounded = now
            yield answered(task, cases)

    serve(arguments, answers)


def answered(task: Task, cases: Sequence[Case]) -> list[RewardResult]:
    """One result for each case; whatever the reward breaks with is the outcome of these cases, with its traceback."""
    reward = REWARDS[task.settings.kind]
    try:
        if task.ask is Ask.CHECK:
            return [_checked(task, case) for case in cases]
        if task.ask is Ask.COMPARE:
            return compared(cases, task.settings, task.budget)
        if task.ask is Ask.GRADE_GROUP and reward.grade_group is not None:
            return reward.grade_group(cases, task.settings, task.budget)
        return reward.grade(cases, task.settings, task.budget)
    except (MemoryError, RecursionError) as failure:
        deep = isinstance(failure, RecursionError)
        limit = "more depth than Python has" if deep else f"more than {task.budget.memory_mib} MiB (reward.memory_mib)"
        why = f"{task.name} needed {limit}"
        if reward.blames and reward.place is Place.CONFINED:  # the response asked for it
            return [RewardResult(outcome=Outcome.WRONG, why=why)] * len(cases)
    except Exception as failure:  # untrusted output, a person's code: whatever it breaks is these cases' own failure
        frames = traceback.format_exc(limit=-8)
        why = f"{task.name} failed: {type(failure).__name__}: {failure}\n{frames}"
    return [RewardResult(outcome=Outcome.ERROR, why=why)] * len(cases)


def _checked(task: Task, case: Case) -> RewardResult:
    reward = REWARDS[task.settings.kind]
    try:
        if reward.check_settings is not None:
            reward.check_settings(task.settings)
    except ValueError as problem:  # it begins with the name of the setting
        return RewardResult(outcome=Outcome.WRONG, why=f"reward.{task.name}.{problem}")
    try:
        if reward.check is not None:
            reward.check(case.reference, task.settings, task.budget)
    except ValueError as problem:
        return RewardResult(outcome=Outcome.WRONG, why=str(problem))
    return RewardResult(outcome=Outcome.CORRECT, why="responses can be graded against the reference")

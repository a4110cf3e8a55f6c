"""The process in which rewards are computed.

It answers every case that it is sent. It is not asked to stop: it is killed, or ends when its owner is gone.
"""

import os
import resource
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from rewards.settings import RewardSettings
from rewards.table import REWARDS, Reward
from rewards.verdict import Case, Outcome, RewardResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the owner asks."""

    reward: str  # a key of REWARDS
    settings: RewardSettings
    cases: Sequence[Case]
    together: bool = False  # one answer for all cases rather than one each
    check: bool = False  # only whether the references can be judged against: correct or wrong


def main(arguments: Sequence[str]) -> None:
    """Serves one owner until it is gone.

    Args:
        arguments: descriptor of the connection, descriptor of a pipe whose end says that the owner is gone, and the
            most memory in MiB (0: no limit).
    """
    descriptor, life, memory_mib = map(int, arguments)
    threading.Thread(target=_end_with_owner, args=(life,), daemon=True).start()
    if memory_mib:
        resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(descriptor)
    connection.send(["ready"])
    try:
        while True:
            task: Task = connection.recv()
            for cases in [task.cases] if task.together else [[case] for case in task.cases]:
                if memory_mib:
                    _bound_cpu(task.settings.seconds)
                connection.send(judged(task, cases))
    except (EOFError, BrokenPipeError):
        return


def judged(task: Task, cases: Sequence[Case]) -> list[RewardResult]:
    """The judgements of one reward; whatever it breaks with is the outcome of these cases, with its traceback."""
    reward = REWARDS[task.reward]
    try:
        return (
            [_checked(reward, case, task.settings) for case in cases]
            if task.check
            else reward.judge(cases, task.settings)
        )
    except MemoryError:
        why = f"{task.reward} needed more than {task.settings.memory_mib} MiB (reward.memory_mib)"
    except Exception as failure:  # untrusted output, a user's code: whatever it breaks is these cases' own failure
        frames = traceback.format_exc(limit=-8)
        why = f"{task.reward} failed: {type(failure).__name__}: {failure}\n{frames}"
    return [RewardResult(outcome=Outcome.ERROR, why=why)] * len(cases)


def _checked(reward: Reward, case: Case, settings: RewardSettings) -> RewardResult:
    try:
        reward.check(case.reference, settings)
    except ValueError as problem:
        return RewardResult(outcome=Outcome.WRONG, why=str(problem))
    return RewardResult(outcome=Outcome.CORRECT, why="the reference can be judged against")


def _bound_cpu(seconds: float) -> None:
    """Lets the kernel end this process should its owner be gone while it is stuck in a computation."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + 2 * seconds) + 5, hard))


def _end_with_owner(life: int) -> None:
    os.read(life, 1)  # gives nothing when the owner's end is closed, for whatever reason
    os._exit(0)

"""Grades responses in worker processes that can be killed: the only door through which winnow computes a reward.

A verdict that does not come in time is a time-out, a worker that dies is an error; both cost a worker, which is
replaced, and no other response its verdict. Nothing here uses signals of its own process, so that it works in threads
and in asynchronous actors.
"""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from multiprocessing import Pipe
from typing import Any

from rewards.grading.worker import Task
from rewards.settings import RewardSettings
from rewards.table import REWARDS, Place, joined, leaves
from rewards.verdict import Case, Outcome, RewardResult, Verdict

WORKER = "import sys; from rewards.grading.worker import main; main(sys.argv[1:])"
START_SECONDS = 120.0  # a worker imports its libraries
LOAD_SECONDS = 600.0  # a worker loads a model


@dataclass(frozen=True, kw_only=True)
class Question:
    """One response to grade."""

    reward: str  # what reward.name may be
    case: Case
    settings: RewardSettings


RemoteJudge = Callable[[Sequence[Case], RewardSettings], list[RewardResult]]


class Grader:
    """Owner of at most two workers, started when first needed: one confined, one that keeps a model.

    Calls from several threads take turns.
    """

    def __init__(self, remote: RemoteJudge | None = None) -> None:
        """`remote` answers the reward "judge" where there is no reward.judge_url."""
        self._remote = remote
        self._workers: dict[Place, _Worker] = {}
        self._turn = threading.Lock()
        self.replaced = 0  # workers that were killed or died

    def grade(self, questions: Sequence[Question]) -> list[Verdict]:
        """One verdict per question, in order.

        Raises:
            KeyError: there is no reward of that name.
        """
        verdicts = list[Verdict]()
        with self._turn:
            for (name, _), alike in groupby(questions, key=lambda q: (q.reward, id(q.settings))):
                asked = list(alike)
                settings, cases = asked[0].settings, [q.case for q in asked]
                columns = {leaf: self._judge(leaf, settings, cases) for leaf in leaves(name, settings)}
                rows = ({leaf: column[i] for leaf, column in columns.items()} for i in range(len(cases)))
                verdicts += [verdict_of(joined(name, row, settings), settings) for row in rows]
        return verdicts

    def problems(self, name: str, references: Sequence[str], settings: RewardSettings) -> list[str]:
        """What is wrong with each reference, "" where it can be judged against.

        Raises:
            KeyError: there is no reward of that name.
        """
        cases, found = [Case(response="", reference=reference) for reference in references], [""] * len(references)
        with self._turn:
            for leaf in leaves(name, settings):
                task = Task(reward=leaf, settings=settings, cases=cases, check=True)
                for number, result in enumerate(self._in_turn(task)):
                    right = result.outcome is Outcome.CORRECT
                    found[number] = found[number] or ("" if right else result.why)
        return found

    def close(self) -> None:
        """Ends the workers."""
        with self._turn:
            for worker in self._workers.values():
                worker.kill()
            self._workers.clear()

    def _judge(self, name: str, settings: RewardSettings, cases: Sequence[Case]) -> list[RewardResult]:
        place = REWARDS[name].place
        if place is Place.REMOTE:
            judge = REWARDS[name].judge if settings.judge_url or self._remote is None else self._remote
            return judge(cases, settings)
        if place is Place.MODELS:
            return self._together(name, settings, cases)
        return list(self._in_turn(Task(reward=name, settings=settings, cases=cases)))

    def _together(self, name: str, settings: RewardSettings, cases: Sequence[Case]) -> list[RewardResult]:
        worker = self._worker(Place.MODELS, memory_mib=0)
        worker.send(Task(reward=name, settings=settings, cases=cases, together=True))
        answer = worker.receive(LOAD_SECONDS + settings.seconds * len(cases))
        return answer if isinstance(answer, list) else [self._lost(Place.MODELS, name, answer)] * len(cases)

    def _in_turn(self, task: Task) -> Iterator[RewardResult]:
        """The worker gets all cases at once and answers each. When it is lost, those behind go to another."""
        left = list(task.cases)
        while left:
            worker = self._worker(Place.CONFINED, task.settings.memory_mib)
            worker.send(replace(task, cases=list(left)))
            answer: list[RewardResult] | _Lost = []
            while left and isinstance(answer := worker.receive(task.settings.seconds), list):
                left.pop(0)
                yield answer[0]
            if isinstance(answer, _Lost):
                left.pop(0)
                yield self._lost(Place.CONFINED, task.reward, answer)

    def _worker(self, place: Place, memory_mib: int) -> "_Worker":
        worker = self._workers.get(place)
        if worker is None or worker.memory_mib != memory_mib:
            if worker is not None:
                worker.kill()
            worker = self._workers[place] = _Worker(memory_mib)
        return worker

    def _lost(self, place: Place, name: str, failure: "_Lost") -> RewardResult:
        self._workers.pop(place).kill()
        self.replaced += 1
        return RewardResult(outcome=failure.outcome, why=f"{name}: {failure.why}")


def verdict_of(result: RewardResult, settings: RewardSettings) -> Verdict:
    """The score of a result: its value between reward.wrong and reward.correct, above 0 exactly when it is correct;
    span_rewards times reward.span_weight."""
    if not result.outcome.scored:
        return Verdict(outcome=result.outcome, score=None, why=result.why, parts=result.parts)
    score = settings.wrong + result.worth * (settings.correct - settings.wrong)
    return Verdict(
        outcome=result.outcome,
        score=score if result.outcome is Outcome.CORRECT else min(score, 0.0),
        why=result.why,
        parts=result.parts,
        span_rewards=tuple(
            replace(mark, value=settings.span_weight * mark.value)
            for mark in result.span_rewards
            if settings.span_weight
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lost:
    """Why no answer came."""

    outcome: Outcome
    why: str


class _Worker:
    """A running `rewards.grading.worker` in a process group of its own."""

    def __init__(self, memory_mib: int) -> None:
        self.memory_mib = memory_mib
        self._connection, theirs = Pipe()
        life, self._life = os.pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", WORKER, str(theirs.fileno()), str(life), str(memory_mib)],
                pass_fds=(theirs.fileno(), life),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,
            )
        os.close(life)
        self._answers = select.poll()  # a Connection's own poll sets up a new one for every answer
        self._answers.register(self._connection, select.POLLIN)
        if isinstance(self._wait(START_SECONDS), _Lost):
            self.kill()
            raise RuntimeError(f"the process that computes rewards did not start: status {self._process.returncode}")

    def send(self, task: Task) -> None:
        """Asks. Never waits for a computation: the worker reads all of a task before it begins."""
        with suppress(BrokenPipeError, ConnectionResetError):  # `receive` says what became of it
            self._connection.send(task)

    def receive(self, seconds: float) -> "list[RewardResult] | _Lost":
        """The next answer, or why there is none within so many seconds."""
        answer = self._wait(seconds)
        return answer if isinstance(answer, _Lost) else list(answer)

    def kill(self) -> None:
        """Ends the process and those that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()
        os.close(self._life)

    def _wait(self, seconds: float) -> Any:
        if not self._answers.poll(1000 * seconds):
            return _Lost(outcome=Outcome.TIMEOUT, why=f"no verdict within {seconds:g} s")
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError):
            status = self._process.wait()
            return _Lost(outcome=Outcome.ERROR, why=f"the process that judged ended with status {status}")

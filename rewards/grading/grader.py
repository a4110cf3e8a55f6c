"""Grades responses in worker processes that can be killed: the only door through which winnow computes a reward.

A verdict that does not come in time is a time-out, whose score reward.timeout says, and so is a worker that dies of
what the response asked of it; of a person's own function its death is an error. Each of them costs one worker, which is
replaced, and no other response loses its verdict. Nothing here sends or handles signals of its own process,
so a grader works in threads and in asynchronous actors.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from multiprocessing import Pipe
from typing import Any

from rewards.grading.below import below, kill_all
from rewards.grading.comparing import ANSWER
from rewards.grading.worker import Ask, Task
from rewards.reward_settings import RewardSettings
from rewards.settings import Budget, KindSettings
from rewards.table import REWARDS, Place
from rewards.verdict import Case, Outcome, RewardResult, Verdict

WORKER = "import sys; from rewards.grading.worker import main; main(sys.argv[1:])"
START_SECONDS = 120.0  # a worker imports its libraries
START_OF_MODEL_SECONDS = 600.0  # a worker loads a model
ASKED_TWICE = 2  # a model elsewhere, at most


@dataclass(frozen=True, kw_only=True)
class Question:
    """One response to grade."""

    reward: str  # what reward.name may be
    case: Case
    settings: RewardSettings


# Asks a model that the run hosts: name of the reward, cases, its settings, what each case may take.
Remote = Callable[[str, Sequence[Case], Any, Budget], list[RewardResult]]


class Grader:
    """Owner of at most two workers, started when first needed: one confined, one that keeps models.

    Calls from several threads take turns.
    """

    def __init__(self, hosted: Mapping[str, Remote] | None = None) -> None:
        """`hosted` has whoever answers the rewards of these names, because the run hosts their models elsewhere."""
        self._hosted = hosted or {}
        self._workers: dict[Place, _Worker] = {}
        self._turn = threading.Lock()
        self.replaced = 0  # workers that were killed or died
        self.due = 0.0  # when whoever is being asked has answered or is given up, on the clock of time.monotonic

    def grade(self, questions: Sequence[Question]) -> list[Verdict]:
        """One verdict per question, in order. No question is taken for another one's sibling.

        Raises:
            KeyError: there is no reward of that name.
        """
        verdicts = list[Verdict]()
        with self._turn:
            for (name, _), alike in groupby(questions, key=lambda q: (q.reward, id(q.settings))):
                asked = list(alike)
                verdicts += self._verdicts(name, asked[0].settings, [q.case for q in asked], siblings=False)
        return verdicts

    def grade_group(self, questions: Sequence[Question]) -> list[Verdict]:
        """One verdict per sibling, in order. What compares siblings is asked about all of them at once.

        A reward that grades a group and fails, or takes longer than reward.seconds for each sibling, leaves all
        siblings without a verdict, and nobody else.

        Args:
            questions: of one prompt, with one reward; at least one.

        Raises:
            ValueError: they differ in their reward, its settings, reference or prompt.
            KeyError: there is no reward of that name.
        """
        first = questions[0]
        for question in questions:
            if (question.reward, question.case.reference, question.case.prompt) != (
                first.reward,
                first.case.reference,
                first.case.prompt,
            ) or question.settings != first.settings:
                raise ValueError(
                    f"siblings have one prompt, reference and reward, got {first.reward!r} for the prompt "
                    f"{first.case.prompt[:80]!r} and {question.reward!r} for {question.case.prompt[:80]!r}"
                )
        with self._turn:
            return self._verdicts(first.reward, first.settings, [q.case for q in questions], siblings=True)

    def problems(self, name: str, references: Sequence[str], settings: RewardSettings) -> list[str]:
        """What is wrong with each reference or with the settings, "" where responses can be graded against it.

        Raises:
            KeyError: there is no reward of that name.
        """
        batches, found = [[Case(response="", reference=reference)] for reference in references], [""] * len(references)
        with self._turn:
            for leaf, section in settings.leaves(name).items():
                task = Task(name=leaf, settings=section, budget=settings.budget, batches=batches, ask=Ask.CHECK)
                for number, (result,) in enumerate(self._answers(Place.CONFINED, task)):
                    right = result.outcome is Outcome.CORRECT
                    found[number] = found[number] or ("" if right else result.why)
        return found

    def answers(self, name: str, responses: Sequence[str], settings: RewardSettings) -> list[int | None] | None:
        """Which responses to one prompt give the same answer, by the reward's own reading.

        Args:
            name: of a reward whose row has `said`.
            responses: to one prompt.
            settings: of all rewards.

        Returns:
            For each response the number of its answer among the different ones, None where it gives none; or None as a
            whole where that could not be found out within reward.seconds for each response.
        """
        cases = [Case(response=response, reference="") for response in responses]
        task = Task(name=name, settings=settings.of(name), budget=settings.budget, batches=[cases], ask=Ask.COMPARE)
        with self._turn:
            (results,) = self._answers(Place.CONFINED, task)
        numbers = [result.parts.get(ANSWER) for result in results]
        if any(
            number is None and r.outcome is not Outcome.UNPARSABLE for number, r in zip(numbers, results, strict=True)
        ):
            return None
        return [None if number is None else int(number) for number in numbers]

    def close(self) -> None:
        """Ends the workers."""
        with self._turn:
            for worker in self._workers.values():
                worker.kill()
            self._workers.clear()

    def _verdicts(self, name: str, settings: RewardSettings, cases: Sequence[Case], *, siblings: bool) -> list[Verdict]:
        columns = {
            leaf: [
                _late(result, section, settings)
                for result in self._results(leaf, section, settings.budget, cases, siblings=siblings)
            ]
            for leaf, section in settings.leaves(name).items()
        }
        rows = ({leaf: column[i] for leaf, column in columns.items()} for i in range(len(cases)))
        return [verdict_of(settings.joined(name, row), settings) for row in rows]

    def _results(
        self, name: str, section: KindSettings, budget: Budget, cases: Sequence[Case], *, siblings: bool
    ) -> list[RewardResult]:
        """The results of one reward that is no combination."""
        reward = REWARDS[section.kind]
        if name in self._hosted:
            self._waits(ASKED_TWICE * (START_OF_MODEL_SECONDS + budget.seconds * len(cases)))
            return self._hosted[name](name, cases, section, budget)
        if reward.place is Place.REMOTE:
            self._waits(ASKED_TWICE * budget.seconds * len(cases))
            return reward.grade(cases, section, budget)
        grouped = siblings and reward.wants_group is not None and reward.wants_group(section)
        together = grouped or reward.place is Place.MODELS
        task = Task(
            name=name,
            settings=section,
            budget=budget,
            batches=[list(cases)] if together else [[case] for case in cases],
            ask=Ask.GRADE_GROUP if grouped else Ask.GRADE,
        )
        return [result for answer in self._answers(reward.place, task) for result in answer]

    def _answers(self, place: Place, task: Task) -> Iterator[list[RewardResult]]:
        """The answer to each batch of a task. The worker gets all batches at once; when it is lost, the batch that it
        had in hand has no verdicts and the batches behind it go to another worker."""
        memory_mib, loading = (0, START_OF_MODEL_SECONDS) if place is Place.MODELS else (task.budget.memory_mib, 0.0)
        left = list(task.batches)
        while left:
            self._waits(START_SECONDS)
            worker = self._worker(place, memory_mib)
            worker.send(replace(task, batches=list(left)))
            answer: list[RewardResult] | _Lost = []
            while left and isinstance(answer := self._received(worker, loading, task.budget, left[0]), list):
                left.pop(0)
                yield answer
            if isinstance(answer, _Lost):
                blames = REWARDS[task.settings.kind].blames and task.ask is not Ask.CHECK
                yield [self._lost(place, task.name, answer, blames=blames)] * len(left.pop(0))

    def _received(
        self, worker: "_Worker", loading: float, budget: Budget, batch: Sequence[Case]
    ) -> "list[RewardResult] | _Lost":
        seconds = loading + budget.seconds * len(batch)
        self._waits(seconds)
        return worker.receive(seconds)

    def _waits(self, seconds: float) -> None:
        """From now on somebody is waited for, so long at most."""
        self.due = time.monotonic() + seconds

    def _worker(self, place: Place, memory_mib: int) -> "_Worker":
        worker = self._workers.get(place)
        if worker is None or worker.memory_mib != memory_mib:
            if worker is not None:
                worker.kill()
            worker = self._workers[place] = _Worker(memory_mib)
        return worker

    def _lost(self, place: Place, name: str, failure: "_Lost", *, blames: bool) -> RewardResult:
        died_of_it = blames and place is Place.CONFINED and failure.outcome is Outcome.ERROR
        outcome = Outcome.TIMEOUT if died_of_it else failure.outcome
        self._workers.pop(place).kill()
        self.replaced += 1
        return RewardResult(outcome=outcome, why=f"{name}: {failure.why}")


def _late(result: RewardResult, section: KindSettings, settings: RewardSettings) -> RewardResult:
    """The result, scored where the response made its grading take too long and reward.timeout says that it is wrong.

    A server or model that is asked, and a person's own function, may be slow by themselves: they give no verdict then.
    """
    reward = REWARDS[section.kind]
    if result.outcome is not Outcome.TIMEOUT or not reward.blames or reward.place is not Place.CONFINED:
        return result
    return replace(result, outcome=Outcome.LATE, reward=0.0) if settings.timeout == "wrong" else result


def verdict_of(result: RewardResult, settings: RewardSettings) -> Verdict:
    """The verdict in a result. Its score is the reward put between reward.wrong and reward.correct, above 0 exactly
    when the outcome is correct; its span rewards are times reward.span_weight, and left out where that is 0."""
    if result.reward is None:
        return Verdict(outcome=result.outcome, score=None, why=result.why, parts=result.parts)
    score = settings.wrong + result.reward * (settings.correct - settings.wrong)
    return Verdict(
        outcome=result.outcome,
        score=score if result.outcome is Outcome.CORRECT else min(score, 0.0),
        why=result.why,
        parts=result.parts,
        span_rewards=tuple(
            replace(span, value=settings.span_weight * span.value)
            for span in result.span_rewards
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
        with suppress(BrokenPipeError, ConnectionResetError):  # `receive` says how the worker ended
            self._connection.send(task)

    def receive(self, seconds: float) -> "list[RewardResult] | _Lost":
        """The next answer, or why there is none within the seconds."""
        answer = self._wait(seconds)
        return answer if isinstance(answer, _Lost) else list(answer)

    def kill(self) -> None:
        """Ends the process and every process that it started."""
        programs = list(below(self._process.pid))
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        kill_all(programs)
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
            return _Lost(outcome=Outcome.ERROR, why=f"the process that graded ended with status {status}")

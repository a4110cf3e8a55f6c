"""Grades responses in worker processes that can be killed: the only door through which winnow computes a reward.

A verdict that does not come in time is a time-out, whose score reward.timeout says, and so is a worker that dies of
what the response asked of it; of a person's own function its death is an error. Each of them costs one worker, which is
replaced, and no other response loses its verdict. Nothing here sends or handles signals of its own process,
so a grader works in threads and in asynchronous actors.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from rewards.grading.comparing import ANSWER
from rewards.grading.process import START_SECONDS, Lost, Process
from rewards.grading.worker import Ask, Task
from rewards.reward_settings import RewardSettings
from rewards.settings import Budget, KindSettings
from rewards.table import REWARDS, Place
from rewards.verdict import Case, Outcome, RewardResult, Verdict

WORKER = "rewards.grading.worker"
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
        self._workers: dict[Place, Process] = {}
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
        had in hand has no verdicts. Batches whose answers were not sent yet go to another worker, and so do those
        behind it."""
        memory_mib, loading = (0, START_OF_MODEL_SECONDS) if place is Place.MODELS else (task.budget.memory_mib, 0.0)
        left = list(task.batches)
        while left:
            self._waits(START_SECONDS)
            worker = self._worker(place, memory_mib)
            worker.send(replace(task, batches=list(left)))
            answer: list[RewardResult] | Lost = []
            while left and isinstance(answer := self._received(worker, loading, task.budget, left[0]), list):
                left.pop(0)
                yield answer
            if isinstance(answer, Lost):
                done = min(answer.unsent, len(left) - 1)
                again, blamed, left = left[:done], left[done], left[done + 1 :]
                result = self._lost(place, task, answer, len(blamed))
                yield from self._answers(place, replace(task, batches=again))
                yield [result] * len(blamed)

    def _received(
        self, worker: Process, loading: float, budget: Budget, batch: Sequence[Case]
    ) -> list[RewardResult] | Lost:
        seconds = loading + budget.seconds * len(batch)
        self._waits(seconds)
        return worker.receive(seconds)

    def _waits(self, seconds: float) -> None:
        """From now on somebody is waited for, so long at most."""
        self.due = time.monotonic() + seconds

    def _worker(self, place: Place, memory_mib: int) -> Process:
        worker = self._workers.get(place)
        if worker is None or worker.memory_mib != memory_mib:
            if worker is not None:
                worker.kill()
            worker = self._workers[place] = Process(WORKER, memory_mib)
        return worker

    def _lost(self, place: Place, task: Task, lost: Lost, cases: int) -> RewardResult:
        self._workers.pop(place).kill()
        self.replaced += 1
        if lost.late:
            loading = START_OF_MODEL_SECONDS if place is Place.MODELS else 0.0
            why = f"{task.name}: no verdict within {loading + task.budget.seconds * cases:g} s"
            return RewardResult(outcome=Outcome.TIMEOUT, why=why)
        blamed = REWARDS[task.settings.kind].blames and task.ask is not Ask.CHECK and place is Place.CONFINED
        why = f"{task.name}: the process that graded ended with status {lost.status}"
        return RewardResult(outcome=Outcome.TIMEOUT if blamed else Outcome.ERROR, why=why)


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

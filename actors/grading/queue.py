"""The queue that brings responses to verifiers the moment they end."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from actors.errors import BrokenPart, BrokenVerifier, VerifierDied
from actors.grading.tools import RunsTools, ToolRunner
from rewards import Outcome, Question, Verdict

TRIES = 3  # of a question, each by a verifier that was alive when it was asked
SECONDS_BETWEEN = 1.0  # looks at whether a verifier that failed is there again


class Grades(RunsTools, Protocol):
    """Whoever grades responses; `actors.grading.client.VerifierClient` is the real one."""

    async def grade(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per question, in order; raises BrokenVerifier."""
        ...

    async def grade_group(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per sibling of one group, in order; raises BrokenVerifier."""
        ...

    async def alive(self) -> None:
        """Returns when the verifier can be asked; raises BrokenPart where it cannot."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Waiting:
    """Questions that wait for a verifier."""

    questions: list[Question]
    siblings: bool  # of one group, to be graded together; otherwise it is one question
    verdicts: asyncio.Future[list[Verdict]]
    tries: int = 0  # so far; each ended with the verifier


class VerifierQueue:
    """Brings questions to whichever verifier is free. A call carries all questions that gathered while every verifier
    was busy, so the number of calls follows the time that verifying takes, not the number of responses. Siblings that
    are graded together have a call of their own.

    A verifier that dies, or whose node does, is asked nothing until it is there again; what it was asked goes to
    whoever is free, each question in a call of its own. One that was lost TRIES times has no verdict: it may be what
    kills verifiers.

    Made inside a running event loop; `close` ends its tasks.
    """

    def __init__(self, verifiers: Sequence[Grades], *, batch: int = 64) -> None:
        """`batch` is the most questions of one call, siblings apart."""
        self._batch = batch
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._workers = [asyncio.create_task(self._work(verifier)) for verifier in verifiers]
        self.failed_calls = 0
        self.tools = ToolRunner(verifiers)

    @property
    def waiting(self) -> int:
        """Questions that no verifier has taken yet; siblings that are graded together count as one."""
        return self._queue.qsize()

    async def grade(self, question: Question) -> Verdict:
        """The verdict on one question; the outcome `error` where verifiers died of it again and again."""
        return (await self._put([question], siblings=False))[0]

    async def grade_all(self, questions: Sequence[Question]) -> list[Verdict]:
        """As `grade`, of each of several."""
        asked = [self._put([question], siblings=False) for question in questions]
        return [(await verdicts)[0] for verdicts in asked]

    async def grade_group(self, questions: Sequence[Question]) -> list[Verdict]:
        """The verdicts on the siblings of one group, in order, by a verifier that sees them all at once."""
        return await self._put(list(questions), siblings=True)

    def close(self) -> None:
        """Asks no more; questions that wait get no verdict."""
        for worker in self._workers:
            worker.cancel()

    def _put(self, questions: list[Question], *, siblings: bool) -> asyncio.Future[list[Verdict]]:
        verdicts: asyncio.Future[list[Verdict]] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(questions=questions, siblings=siblings, verdicts=verdicts))
        return verdicts

    async def _work(self, verifier: Grades) -> None:
        """Takes: waiting questions, at most a batch. Waits for: a question, then the verifier's reply; after a failure,
        the verifier. Woken by: `grade`, `grade_group`. Runs until `close`."""
        while True:
            taken = [await self._queue.get()]
            while len(taken) < self._batch and not self._queue.empty():
                taken.append(self._queue.get_nowait())
            together = [each for each in taken if not each.siblings and not each.tries]
            alone = [[each] for each in taken if each.siblings or each.tries]
            for call in [together, *alone] if together else alone:
                if not await self._ask(verifier, call):
                    await _until_alive(verifier)

    async def _ask(self, verifier: Grades, call: list[_Waiting]) -> bool:
        """Asks what one call carries; whether the verifier lived through it."""
        started = time.monotonic()
        questions = [question for each in call for question in each.questions]
        try:
            verdicts = await (verifier.grade_group if call[0].siblings else verifier.grade)(questions)
        except BrokenVerifier as failure:
            self.failed_calls += 1
            died = isinstance(failure, VerifierDied)
            why = f"the verifier failed after {time.monotonic() - started:.1f} s: {failure}"
            lost = Verdict(outcome=Outcome.ERROR, score=None, why=why)
            for each in call:
                if died and each.tries + 1 < TRIES:
                    self._queue.put_nowait(replace(each, tries=each.tries + 1))
                else:
                    _deliver(each, [lost] * len(each.questions))
            return not died
        for each in call:
            _deliver(each, verdicts[: len(each.questions)])
            verdicts = verdicts[len(each.questions) :]
        return True


async def _until_alive(verifier: Grades) -> None:
    while True:
        await asyncio.sleep(SECONDS_BETWEEN)
        with suppress(BrokenPart):
            return await verifier.alive()


def _deliver(waiting: _Waiting, verdicts: list[Verdict]) -> None:
    if not waiting.verdicts.done():  # the group may have been given up meanwhile
        waiting.verdicts.set_result(verdicts)

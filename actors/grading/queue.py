"""The queue that brings responses to verifiers the moment they end."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from actors.errors import BrokenVerifier
from rewards import Outcome, Question, Verdict


class Grades(Protocol):
    """Whoever grades responses; `actors.grading.client.VerifierClient` is the real one."""

    async def grade(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per question, in order; raises BrokenVerifier."""
        ...

    async def grade_group(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per sibling of one group, in order; raises BrokenVerifier."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Waiting:
    """Questions that wait for a verifier."""

    questions: list[Question]
    siblings: bool  # of one group, to be graded together; otherwise it is one question
    verdicts: asyncio.Future[list[Verdict]]


class VerifierQueue:
    """Brings questions to whichever verifier is free. A call carries all questions that gathered while every verifier
    was busy, so the number of calls follows the time that verifying takes, not the number of responses. Siblings that
    are graded together have a call of their own.

    Made inside a running event loop; `close` ends its tasks.
    """

    def __init__(self, verifiers: Sequence[Grades], *, batch: int = 64) -> None:
        """`batch` is the most questions of one call, siblings apart."""
        self._batch = batch
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._workers = [asyncio.create_task(self._work(verifier)) for verifier in verifiers]
        self.failed_calls = 0

    @property
    def waiting(self) -> int:
        """Questions that no verifier has taken yet; siblings that are graded together count as one."""
        return self._queue.qsize()

    async def grade(self, question: Question) -> Verdict:
        """The verdict on one question; a verifier that dies gives the outcome `error`."""
        return (await self._graded([question], siblings=False))[0]

    async def grade_group(self, questions: Sequence[Question]) -> list[Verdict]:
        """The verdicts on the siblings of one group, in order, by a verifier that sees them all at once."""
        return await self._graded(list(questions), siblings=True)

    def close(self) -> None:
        """Asks no more; questions that wait get no verdict."""
        for worker in self._workers:
            worker.cancel()

    async def _graded(self, questions: list[Question], *, siblings: bool) -> list[Verdict]:
        verdicts: asyncio.Future[list[Verdict]] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(questions=questions, siblings=siblings, verdicts=verdicts))
        return await verdicts

    async def _work(self, verifier: Grades) -> None:
        """Takes: waiting questions, at most a batch. Waits for: a question, then the verifier's reply.
        Woken by: `grade`, `grade_group`. Runs until `close`."""
        while True:
            taken = [await self._queue.get()]
            while len(taken) < self._batch and not self._queue.empty():
                taken.append(self._queue.get_nowait())
            if single := [each for each in taken if not each.siblings]:
                verdicts = await self._ask(verifier, [each.questions[0] for each in single], siblings=False)
                for each, verdict in zip(single, verdicts, strict=True):
                    _deliver(each, [verdict])
            for each in taken:
                if each.siblings:
                    _deliver(each, await self._ask(verifier, each.questions, siblings=True))

    async def _ask(self, verifier: Grades, questions: list[Question], *, siblings: bool) -> list[Verdict]:
        started = time.monotonic()
        try:
            return await (verifier.grade_group(questions) if siblings else verifier.grade(questions))
        except BrokenVerifier as failure:
            self.failed_calls += 1
            why = f"the verifier failed after {time.monotonic() - started:.1f} s: {failure}"
            return [Verdict(outcome=Outcome.ERROR, score=None, why=why)] * len(questions)


def _deliver(waiting: _Waiting, verdicts: list[Verdict]) -> None:
    if not waiting.verdicts.done():  # the group may have been given up meanwhile
        waiting.verdicts.set_result(verdicts)

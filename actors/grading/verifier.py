"""The verifier actor, and the queue that brings responses to verifiers the moment they end."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from actors.errors import BrokenVerifier
from actors.grading.judge import ask_judge
from rewards import Grader, Outcome, Question, Verdict


class Verifier:
    """Ray actor that grades responses, in worker processes of its own. It can be killed and started again any time."""

    def __init__(self, judges: dict[str, str]) -> None:
        """`judges` names, for each reward of the kind "judge" without an endpoint, the actor that hosts its model."""
        self._busy = 0.0
        self._grader = Grader(partial(ask_judge, judges) if judges else None)

    def grade(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per question, in order."""
        started = time.monotonic()
        try:
            return self._grader.grade(questions)
        finally:
            self._busy += time.monotonic() - started

    def busy(self) -> float:
        """Seconds spent on questions so far."""
        return self._busy

    def stop(self) -> None:
        """Ends the worker processes."""
        self._grader.close()


Ask = Callable[[list[Question]], Awaitable[list[Verdict]]]  # a call to one verifier


class VerifierQueue:
    """Brings questions to whichever verifier is free. A call carries what has gathered while all were busy, so the
    number of calls follows the time that verifying takes, not the number of responses."""

    def __init__(self, verifiers: Sequence[Ask], *, batch: int = 64) -> None:
        self._verifiers, self._batch = verifiers, batch
        self._questions: asyncio.Queue[tuple[Question, asyncio.Future[Verdict]]] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self.failed_calls = 0

    @property
    def waiting(self) -> int:
        """Questions that no verifier has taken yet."""
        return self._questions.qsize()

    async def grade(self, question: Question) -> Verdict:
        """The verdict on one question; a verifier that dies gives the outcome `error`."""
        if not self._workers:
            self._workers = [asyncio.create_task(self._work(ask)) for ask in self._verifiers]
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._questions.put_nowait((question, answer))
        return await answer

    async def _work(self, ask: Ask) -> None:
        """Takes: waiting questions, at most a batch. Waits for: a question, then the verifier's reply.
        Woken by: `grade`. Runs until the process ends."""
        while True:
            taken = [await self._questions.get()]
            while len(taken) < self._batch and not self._questions.empty():
                taken.append(self._questions.get_nowait())
            verdicts = await self._ask(ask, [question for question, _ in taken])
            for (_, answer), verdict in zip(taken, verdicts, strict=True):
                if not answer.done():  # the group may have been given up meanwhile
                    answer.set_result(verdict)

    async def _ask(self, ask: Ask, questions: list[Question]) -> list[Verdict]:
        started = time.monotonic()
        try:
            return await ask(questions)
        except BrokenVerifier as failure:
            self.failed_calls += 1
            why = f"the verifier failed after {time.monotonic() - started:.1f} s: {failure}"
            return [Verdict(outcome=Outcome.ERROR, score=None, why=why)] * len(questions)

"""The queue that brings responses to verifiers the moment they end."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from actors.errors import BrokenVerifier
from rewards import Outcome, Question, Verdict

Ask = Callable[[list[Question]], Awaitable[list[Verdict]]]  # a call to one verifier; raises BrokenVerifier


class VerifierQueue:
    """Brings questions to whichever verifier is free. A call carries all questions that gathered while every verifier
    was busy, so the number of calls follows the time that verifying takes, not the number of responses.

    Made inside a running event loop; `close` ends its tasks.
    """

    def __init__(self, verifiers: Sequence[Ask], *, batch: int = 64) -> None:
        """`batch` is the most questions of one call."""
        self._batch = batch
        self._questions: asyncio.Queue[tuple[Question, asyncio.Future[Verdict]]] = asyncio.Queue()
        self._workers = [asyncio.create_task(self._work(ask)) for ask in verifiers]
        self.failed_calls = 0

    @property
    def waiting(self) -> int:
        """Questions that no verifier has taken yet."""
        return self._questions.qsize()

    async def grade(self, question: Question) -> Verdict:
        """The verdict on one question; a verifier that dies gives the outcome `error`."""
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._questions.put_nowait((question, answer))
        return await answer

    def close(self) -> None:
        """Asks no more; questions that wait get no verdict."""
        for worker in self._workers:
            worker.cancel()

    async def _work(self, ask: Ask) -> None:
        """Takes: waiting questions, at most a batch. Waits for: a question, then the verifier's reply.
        Woken by: `grade`. Runs until `close`."""
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

"""Where the siblings of a group meet, when their reward compares them with each other."""

import asyncio

from actors.grading.queue import VerifierQueue
from rewards import Question, Verdict


class Siblings:
    """Grades the responses of one group together: the call of the last sibling that asks has all of them graded."""

    def __init__(self, verifiers: VerifierQueue, count: int) -> None:
        """`count` is how many siblings will ask; each asks once."""
        self._verifiers, self._count = verifiers, count
        self._questions: list[Question] = []  # in the order of their arrival
        self._call: asyncio.Future[asyncio.Task[list[Verdict]]] = asyncio.get_running_loop().create_future()

    async def grade(self, question: Question) -> Verdict:
        """The verdict on one sibling.

        Takes: its question. Waits for: the questions of all siblings, then the verdicts. Woken by: the last sibling.
        """
        place = len(self._questions)
        self._questions.append(question)
        if len(self._questions) == self._count:
            call = asyncio.create_task(self._verifiers.grade_group(self._questions))
            self._call.set_result(call)
        return (await (await self._call))[place]

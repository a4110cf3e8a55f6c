"""The typed callers of verifiers, judges and scorers."""

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from actors.errors import BrokenVerifier
from actors.remote import answer
from rewards import Question, RewardResult, Task, Verdict

Conversation = Sequence[Mapping[str, str]]  # messages with `role` and `content`, as chat templates take them


class VerifierClient:
    """One verifier. Methods that do not grade raise ActorDied when the actor is gone, BrokenPart when it failed."""

    def __init__(self, handle: ActorHandle[Any], name: str = "verifier") -> None:
        """`name` is the actor's, for messages."""
        self.name, self.handle = name, handle

    async def grade(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per question, in order.

        Raises:
            BrokenVerifier: the call did not come back, whatever the reason: only these questions have no verdict.
        """
        try:
            verdicts: list[Verdict] = await self.handle.grade.remote(questions)
        except Exception as failure:  # Ray passes on whatever a method raised
            raise BrokenVerifier(str(failure)) from failure
        return verdicts

    async def grade_group(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per sibling of one group, in order; rewards that compare siblings see them all at once.

        Raises:
            BrokenVerifier: as `grade`.
        """
        try:
            verdicts: list[Verdict] = await self.handle.grade_group.remote(questions)
        except Exception as failure:  # Ray passes on whatever a method raised
            raise BrokenVerifier(str(failure)) from failure
        return verdicts

    async def busy_seconds(self) -> float:
        """Seconds that the verifier has spent on questions so far."""
        return await answer(self.handle.busy_seconds.remote(), self.name)

    async def stop(self) -> None:
        """Ends the verifier's worker processes."""
        await answer(self.handle.stop.remote(), self.name)


class JudgeClient:
    """One judge. `start` and `stop` raise ActorDied when the actor is gone, BrokenPart when it failed."""

    def __init__(self, handle: ActorHandle[Any], name: str = "judge") -> None:
        """`name` is the actor's, for messages."""
        self.name, self.handle = name, handle

    async def start(self) -> None:
        """Starts the engine, once."""
        await answer(self.handle.start.remote(), self.name)

    async def stop(self) -> None:
        """Ends the engine and its processes."""
        await answer(self.handle.stop.remote(), self.name)

    def replies(self, conversations: Sequence[Conversation], seconds: float) -> list[str]:
        """What the judge says to each conversation. Blocks: for threads of verifiers, which are no coroutines.

        Raises:
            ray.exceptions.GetTimeoutError: not all were answered within these seconds.
            ray.exceptions.RayError: the judge failed.
        """
        texts: list[str] = ray.get(self.handle.replies.remote(conversations), timeout=seconds)
        return texts


class ScorerClient:
    """One scorer. `start` raises ActorDied when the actor is gone, BrokenPart when it failed."""

    def __init__(self, handle: ActorHandle[Any], name: str = "scorer") -> None:
        """`name` is the actor's, for messages."""
        self.name, self.handle = name, handle

    async def start(self, task: Task) -> None:
        """Reads the model of a reward; `task` is without cases."""
        await answer(self.handle.start.remote(task), self.name)

    def results(self, task: Task, seconds: float) -> list[RewardResult]:
        """The result of each case of a task. Blocks: for threads of verifiers, which are no coroutines.

        Raises:
            ray.exceptions.GetTimeoutError: there was no answer within these seconds.
            ray.exceptions.RayError: the scorer failed.
        """
        results: list[RewardResult] = ray.get(self.handle.results.remote(task), timeout=seconds)
        return results

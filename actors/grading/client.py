"""The typed callers of verifiers, judges and scorers."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ObjectLostError, RayError

from actors.deadlines import CALL, START
from actors.deaths import GONE, told
from actors.errors import BrokenVerifier, Hangs, VerifierDied
from actors.remote import Reply, answer
from actors.tools.tool import Kind, Result
from actors.tools.worker import Ready, Work
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
            VerifierDied: the call did not come back, as the verifier or its node is gone.
            BrokenVerifier: the call failed, whatever the reason: only these questions have no verdict.
        """
        return await _answered(self.handle.grade.remote(questions), self.name)

    async def grade_group(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per sibling of one group, in order; rewards that compare siblings see them all at once.

        Raises:
            VerifierDied: as `grade`.
            BrokenVerifier: as `grade`.
        """
        return await _answered(self.handle.grade_group.remote(questions), self.name)

    async def tools(self, kind: Kind, memory_mib: int) -> Ready:
        """What a kind of tools offers, or why it cannot be used.

        Raises:
            VerifierDied: as `grade`.
            BrokenVerifier: as `grade`.
        """
        return await _answered(self.handle.tools.remote(kind, memory_mib), self.name)

    async def use(self, work: Work) -> Result:
        """What a call of a tool gives; one that fails gives a text.

        Raises:
            VerifierDied: as `grade`.
            BrokenVerifier: as `grade`.
        """
        return await _answered(self.handle.use.remote(work), self.name)

    async def alive(self) -> None:
        """Returns when the verifier's process is there, also while it grades; waits where Ray is starting it again.

        Raises:
            Hangs: what it was asked should have been graded, or given up, long before.
        """
        overdue: float = await answer(self.handle.overdue_seconds.remote(), self.name, "to be there again", START)
        if overdue:
            raise Hangs(f"{self.name} hangs: its grading is over its time by {overdue:.0f} s")

    async def busy_seconds(self) -> float:
        """Seconds that the verifier has spent on questions since its process started."""
        return await answer(self.handle.busy_seconds.remote(), self.name, "how busy it was", CALL)

    async def stop(self) -> None:
        """Ends the verifier's worker processes."""
        await answer(self.handle.stop.remote(), self.name, "to stop", CALL)


async def _answered(reply: Awaitable[Reply], name: str) -> Reply:
    try:
        return await reply
    except (*GONE, ObjectLostError) as end:  # also where the verdicts were lost with the node
        raise VerifierDied(told(end, name, lines=False)) from end
    except RayError as failure:
        raise BrokenVerifier(told(failure, name, lines=False)) from failure
    except Exception as failure:  # such as verdicts that cannot be read here
        raise BrokenVerifier(f"{name} failed: {failure}") from failure


class JudgeClient:
    """One judge. `start` and `stop` raise ActorDied when the actor is gone, BrokenPart when it failed."""

    def __init__(self, handle: ActorHandle[Any], name: str = "judge") -> None:
        """`name` is the actor's, for messages."""
        self.name, self.handle = name, handle

    async def start(self) -> None:
        """Starts the engine, where none is running."""
        await answer(self.handle.start.remote(), self.name, "to start its engine", START)

    def start_again(self, seconds: float) -> None:
        """As `start`; blocks, as `replies`, and raises what that raises."""
        ray.get(self.handle.start.remote(), timeout=seconds)

    async def stop(self) -> None:
        """Ends the engine and its processes."""
        await answer(self.handle.stop.remote(), self.name, "to stop", CALL)

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
        await answer(self.handle.start.remote(task), self.name, "to read its model", START)

    def results(self, task: Task, seconds: float) -> list[RewardResult]:
        """The result of each case of a task. Blocks: for threads of verifiers, which are no coroutines.

        Raises:
            ray.exceptions.GetTimeoutError: there was no answer within these seconds.
            ray.exceptions.RayError: the scorer failed.
        """
        results: list[RewardResult] = ray.get(self.handle.results.remote(task), timeout=seconds)
        return results

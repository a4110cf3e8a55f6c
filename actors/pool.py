"""Who is alive, and the calls to them. The only place that catches whatever a remote call may raise."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from actors.errors import ActorDied, BrokenPart, BrokenVerifier, EngineDied, RolloutFailed, Starved
from actors.grading.verifier import Ask
from actors.types import Order, Summary
from rewards import Question, Verdict


class GeneratorPool:
    """The generators and how busy each is. A group goes to the least busy; if that one dies, once more to another."""

    def __init__(self, generators: dict[str, Any]) -> None:
        self.alive = dict(generators)  # name -> actor handle
        self.wanted = len(generators)  # how many there should be; 0 in a run that samples nothing
        self.deaths: dict[str, str] = {}  # name -> what was last heard
        self._busy = dict.fromkeys(generators, 0)
        self._seconds = 0.0  # in which generators had work, over all of them
        self._counted = time.monotonic()  # until when

    async def rollout(self, order: Order) -> tuple[Summary, ray.ObjectRef]:
        """One graded group: its summary and a reference to its packed record batch.

        Raises:
            RolloutFailed: it timed out or failed twice.
            BrokenPart: no generator is left.
        """
        failure: Exception | None = None
        for _ in range(2):
            name = min(self.living(), key=self._busy.__getitem__)
            self.busy_seconds()
            self._busy[name] += 1
            try:
                summary, group = self.alive[name].rollout.remote(order)
                return await summary, group
            except (RayActorError, RayTaskError) as error:
                if _is_death(error):
                    self.bury(name, str(getattr(error, "cause", error)))
                failure = error
            finally:
                self.busy_seconds()
                self._busy[name] -= 1
        cause = getattr(failure, "cause", failure)
        reason = "timeout" if isinstance(cause, TimeoutError) else "generator_error"
        raise RolloutFailed(reason, f"group {order.group} (prompt {order.prompt.id}) failed twice: {failure}")

    def busy_seconds(self) -> float:
        """Seconds so far in which a generator had a group in hand, summed over generators."""
        now = time.monotonic()
        self._seconds += (now - self._counted) * sum(count > 0 for count in self._busy.values())
        self._counted = now
        return self._seconds

    def bury(self, name: str, last_words: str) -> None:
        """Takes a dead generator out; its groups are dispatched again by whoever waits for them."""
        if self.alive.pop(name, None) is not None:
            self.deaths[name] = last_words

    def living(self) -> dict[str, Any]:
        """The generators that are alive, by name.

        Raises:
            BrokenPart: none is.
        """
        if not self.alive:
            heard = "; ".join(f"{name}: {words}" for name, words in self.deaths.items())
            raise BrokenPart(f"no generator is left. {heard}")
        return dict(self.alive)


async def call(actor: Any, method: str, *arguments: Any) -> Any:
    """Calls one method of one actor.

    Raises:
        Starved: the method raised it.
        ActorDied: its process is gone, or that of its engine.
        BrokenPart: the method raised something else; Ray's words name actor and node.
    """
    try:
        return await getattr(actor, method).remote(*arguments)
    except RayError as failure:
        if isinstance(cause := getattr(failure, "cause", None), Starved):
            raise cause from None
        kind = ActorDied if _is_death(failure) else BrokenPart
        raise kind(f"{method} failed: {failure}") from failure


def _is_death(failure: RayError) -> bool:
    return isinstance(failure, RayActorError) or isinstance(getattr(failure, "cause", None), EngineDied)


async def call_all(actors: Sequence[Any], method: str, *arguments: Any) -> list[Any]:
    """`call` on all actors at the same time; the first failure does not wait for the others."""
    return list(await asyncio.gather(*(call(actor, method, *arguments) for actor in actors)))


def verifier_call(verifier: Any) -> Ask:
    """A plain coroutine function for one verifier actor."""

    async def ask(questions: list[Question]) -> list[Verdict]:
        try:
            return await verifier.grade.remote(questions)
        except Exception as failure:  # whatever a remote verifier breaks with is the fate of these questions only
            raise BrokenVerifier(str(failure)) from failure

    return ask

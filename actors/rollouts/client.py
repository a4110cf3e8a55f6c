"""The typed caller of a generator."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from actors.deadlines import BESIDE_ROLLOUT, CALL, LONGEST, START
from actors.errors import ActorDied, RolloutFailed, Unpackable
from actors.filtering.ledger import UNPACKABLE
from actors.remote import answer, cause_of, translated, within
from actors.types import GroupRef, HeldWeights, RolloutRequest, SamplingSpec, Summary

GROUPS_A_CALL = 8  # at most, where answers are short: a call of Ray costs as much as sampling one
ENOUGH = 64  # groups in a generator's hands that keep its engine at work: a call waits then until it is full

# Of each group of a call its summary, None while it is not done, or what went wrong; and its packed record batch.
Answers = Sequence[tuple[Summary | RayError | None, GroupRef]]


class GeneratorClient:
    """One generator. Every method raises ActorDied when the generator or its engine is gone, NoAnswer when it hangs,
    and BrokenPart when the method itself failed.

    The learner's ranks call the weight-transfer methods of `handle` themselves; see `actors.rollouts.generator`.
    """

    def __init__(self, name: str, handle: ActorHandle[Any]) -> None:
        """`name` is the actor's, for messages."""
        self.name, self.handle = name, handle
        self._timeout = LONGEST  # for a group, in seconds; the run says how long it may take
        self._groups_a_call = 1  # at most; the run says how long responses are
        self._next: _Call | None = None  # the call that takes groups along
        self._in_hand = 0  # groups of calls that have no answer yet
        self._death: ActorDied | None = None  # what was found out about it once, for all groups in its hands

    async def created(self, seconds: float) -> None:
        """Returns when Ray has found a place for the actor and its process is there, at most after these seconds."""
        await answer(self.handle.__ray_ready__.remote(), self.name, "until the cluster has room for it", seconds)

    async def start(self) -> None:
        """Starts the engine, once."""
        await answer(self.handle.start.remote(), self.name, "to start its engine", START)

    async def begin(self, run: SamplingSpec) -> None:
        """Opens a run; what is still being sampled for the last one is given up."""
        if self._next is not None:
            self._next.task.cancel()
            self._next = None
        self._timeout = run.rollout.timeout_seconds
        self._groups_a_call = GROUPS_A_CALL if run.rollout.answers_are_short else 1
        await answer(self.handle.begin.remote(run), self.name, "to open a run", START)  # it may have to start first

    async def alive(self) -> None:
        """Returns when the actor and its engine have given a sign of life: between two passes of the engine."""
        await answer(self.handle.alive.remote(), self.name)

    async def rollout(self, request: RolloutRequest) -> tuple[Summary, GroupRef]:
        """One graded group: its summary, and a reference to its packed record batch. Where answers are short, groups
        that are asked for at the same time come by one call.

        Raises:
            TimeoutError: it took longer than `rollout.timeout_seconds`, and the generator says so itself.
            RolloutFailed: it cannot be packed, and another try would not change that.
        """
        try:
            return await (self._in_a_call(request) if self._groups_a_call > 1 else self._alone(request))
        except RayError as failure:
            cause = cause_of(failure)
            if isinstance(cause, TimeoutError):
                raise TimeoutError(
                    f"{self.name} was not done with it after {self._timeout:g} s (rollout.timeout_seconds): its "
                    "sampling or its verdicts took longer"
                ) from failure
            if isinstance(cause, Unpackable):
                raise RolloutFailed(UNPACKABLE, str(cause)) from failure
            if self._death is not None:
                raise ActorDied(str(self._death)) from failure
            translation = translated(failure, self.name)
            if isinstance(translation, ActorDied):
                self._death = translation
            raise translation from failure

    async def _alone(self, request: RolloutRequest) -> tuple[Summary, GroupRef]:
        reply: tuple[Awaitable[Summary], GroupRef] = self.handle.rollout.remote(request)
        return await within(self._timeout + BESIDE_ROLLOUT, reply[0], self.name, ""), reply[1]

    async def _in_a_call(self, request: RolloutRequest) -> tuple[Summary, GroupRef]:
        """The group, by a call that takes along what else is asked for before the event loop comes to make it, or while
        the generator has enough to do. A group that is not done when the others are comes by a call of its own."""
        if self._next is None:
            self._next = _Call(self._several)
            self._let_go()
        call, place = self._next, len(self._next.requests)
        call.requests.append(request)
        if len(call.requests) == self._groups_a_call:
            call.go()
            self._next = None
        found, group = (await asyncio.shield(call.task))[place]  # the others wait for it, too
        if isinstance(found, RayError):
            raise found
        return (found, group) if found is not None else await self._alone(request)

    async def _several(self, call: "_Call") -> Answers:
        """The groups of one call, to which nothing is added from now on."""
        if self._next is call:
            self._next = None
        count = len(call.requests)
        self._in_hand += count
        try:
            replies: list[Any] = self.handle.rollouts.options(num_returns=1 + count).remote(call.requests)
            found = await within(self._timeout + BESIDE_ROLLOUT, replies[0], self.name, "")
        finally:
            self._in_hand -= count
            self._let_go()
        return list(zip(found, replies[1:], strict=True))

    def _let_go(self) -> None:
        """Has the next call made where the generator could do with it."""
        if self._next is not None and self._in_hand < ENOUGH:
            self._next.go()

    async def pause(self, in_flight: str) -> None:
        """Before a sync; `in_flight` is `sync.in_flight`: "continue", "finish" or "keep"."""
        await answer(self.handle.pause_generation.remote(in_flight), self.name)

    async def resume(self, probe: tuple[int, ...]) -> list[float]:
        """After a sync. Goes on, first of all with the probe: gives the log-probability of each of its tokens but the
        first under the live weights, nats."""
        return await answer(self.handle.resume_generation.remote(probe), self.name)

    async def finish_update(self, version: int, sha256: bool) -> HeldWeights:
        """In a sync, when all weights have been received: puts them in force as `version`, and gives what the generator
        computes with then; hashed too, which takes seconds, where that is asked for."""
        return await answer(self.handle.finish_weight_update.remote(str(version), sha256), self.name)

    async def give_up_update(self) -> None:
        """After a sync that was cut off, which another one follows."""
        await answer(self.handle.give_up_weight_update.remote(), self.name)

    async def rest(self, in_flight: str) -> None:
        """Before the learner trains on the same GPU; `resume`, after a sync, ends the rest."""
        await answer(self.handle.rest.remote(in_flight), self.name)

    async def probe(self, tokens: tuple[int, ...]) -> list[float]:
        """Log-probability of each token of a text but the first under the live weights, nats."""
        return await answer(self.handle.probe.remote(tokens), self.name)

    async def stop(self) -> None:
        """Ends the engine and its processes."""
        await answer(self.handle.stop.remote(), self.name, "to stop", CALL)

    def kill(self) -> None:
        """Ends its process at once, even where it hangs, and with it the processes of its engine."""
        ray.kill(self.handle)


class _Call:
    """One that is being put together, or under way."""

    def __init__(self, make: Callable[["_Call"], Awaitable[Answers]]) -> None:
        """`make` makes it."""
        self.requests: list[RolloutRequest] = []
        self._full: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._made(make))
        self.task.add_done_callback(_seen)

    def go(self) -> None:
        """It waits for no more groups."""
        if not self._full.done():
            self._full.set_result(None)

    async def _made(self, make: Callable[["_Call"], Awaitable[Answers]]) -> Answers:
        await self._full
        return await make(self)


def _seen(call: asyncio.Task[Any]) -> None:
    """Takes note of a failure that nobody waits for any more."""
    if not call.cancelled():
        call.exception()

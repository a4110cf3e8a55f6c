"""The typed caller of a generator."""

import asyncio
from collections.abc import Awaitable, Sequence
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
        self._gathered: list[RolloutRequest] = []  # those that the next call takes along
        self._call: asyncio.Task[Sequence[tuple[Summary | RayError, GroupRef]]] | None = None  # the next call
        self._death: ActorDied | None = None  # what was found out about it once, for all groups in its hands

    async def created(self, seconds: float) -> None:
        """Returns when Ray has found a place for the actor and its process is there, at most after these seconds."""
        await answer(self.handle.__ray_ready__.remote(), self.name, "until the cluster has room for it", seconds)

    async def start(self) -> None:
        """Starts the engine, once."""
        await answer(self.handle.start.remote(), self.name, "to start its engine", START)

    async def begin(self, run: SamplingSpec) -> None:
        """Opens a run; what is still being sampled for the last one is given up."""
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
        """The group, by a call that takes along what else is asked for before the event loop comes to make it."""
        if self._call is None or len(self._gathered) == self._groups_a_call:
            self._gathered = []
            self._call = asyncio.create_task(self._several(self._gathered))
            self._call.add_done_callback(_seen)
        call, place = self._call, len(self._gathered)
        self._gathered.append(request)
        found, group = (await asyncio.shield(call))[place]  # the others wait for it, too
        if isinstance(found, RayError):
            raise found
        return found, group

    async def _several(self, requests: list[RolloutRequest]) -> list[tuple[Summary | RayError, GroupRef]]:
        """The groups of one call, to which nothing is added any more."""
        if self._gathered is requests:
            self._call = None
        replies: list[Any] = self.handle.rollouts.options(num_returns=1 + len(requests)).remote(requests)
        found: list[Summary | RayError] = await within(self._timeout + BESIDE_ROLLOUT, replies[0], self.name, "")
        return list(zip(found, replies[1:], strict=True))

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


def _seen(call: asyncio.Task[Any]) -> None:
    """Takes note of a failure that nobody waits for any more."""
    if not call.cancelled():
        call.exception()

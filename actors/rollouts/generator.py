"""The Ray actor around one engine: it forwards weights to it, and has a run's rollouts use it."""

import asyncio
import os
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayTaskError

from actors.arrow import packed
from actors.engines import Sampler, start_engine
from actors.garbage import collect_seldom
from actors.grading.client import VerifierClient
from actors.grading.queue import VerifierQueue
from actors.logs import LOGGER, log_in_actor
from actors.rollouts.rollout import RolloutSession
from actors.types import EngineSpec, HeldWeights, Purpose, RolloutRequest, SamplingSpec, Summary

if TYPE_CHECKING:
    from actors.rollouts.engine import Engine

# By how much the engine is nicer than a learner on the same CPU cores: an update goes before sampling, as all engines
# wait for it. Linux keeps the number for each thread; a process or another thread inherits it from who starts it.
CPU_ENGINE_NICENESS = 4
SLOW = 0.5  # seconds after the first group of a call, beyond which the others do not wait for one


class Generator:
    """One vLLM engine that serves one run after another; nothing that it samples before its first sync means anything.

    Order of calls: `start` and `begin` in any order, a sync of weights, then `rollout` and further syncs.
    """

    def __init__(self, spec: EngineSpec, verifiers: Sequence[ActorHandle[Any]]) -> None:
        """`verifiers` are the handles of the actors that grade responses."""
        log_in_actor()
        self._spec = spec
        self._verifiers = [VerifierClient(verifier) for verifier in verifiers]
        self._engine: Engine | None = None
        self._session: RolloutSession | None = None
        self._slow: dict[tuple[Purpose, int, str, int], asyncio.Task[tuple[Summary, pa.Buffer]]] = {}

    async def start(self) -> None:
        """Starts the engine, once: seconds, about a minute where it captures graphs on a GPU."""
        if self._engine is None:
            if self._spec.on_cpu:
                os.nice(CPU_ENGINE_NICENESS)
            self._engine = start_engine(self._spec)
            collect_seldom()

    async def begin(self, run: SamplingSpec) -> None:
        """Opens a run; what is still being sampled for the last one is given up."""
        if self._session is not None:
            await self._session.close()
        self._slow.clear()
        self._session = RolloutSession(run, VerifierQueue(self._verifiers))
        LOGGER.info("a run begins, graded by %d verifiers", len(self._verifiers))

    @ray.method(num_returns=2)
    async def rollout(self, request: RolloutRequest) -> tuple[Summary, pa.Buffer]:
        """One graded group: its summary, and its packed record batch; one that is under way since a call of several is
        not begun again. Raises as `RolloutSession.rollout`."""
        key = _key(request)
        return await (self._slow.pop(key) if key in self._slow else self._rolled(request))

    async def rollouts(self, requests: Sequence[RolloutRequest]) -> tuple[Any, ...]:
        """Several graded groups by one call: a list of their summaries, then the packed record batch of each. What
        `rollout` raises of one stands in the place of its summary, and no batch is there. It waits for the others while
        SLOW seconds pass after the first; None stands for what is not done then, and `rollout` brings it."""
        begun = [asyncio.create_task(self._rolled(request)) for request in requests]
        await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
        _, slow = await asyncio.wait(begun, timeout=SLOW)
        if slow:
            self._slow |= {
                _key(request): group for request, group in zip(requests, begun, strict=True) if group in slow
            }
        pairs = [(None, None) if group in slow else _pair(group) for group in begun]
        return [summary for summary, _ in pairs], *(group for _, group in pairs)

    async def alive(self) -> None:
        """A sign of life; see `Engine.alive`."""
        await self._started.alive()

    async def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probabilities of a fixed text; see `Engine.log_probabilities`."""
        return await self._started.log_probabilities(tokens)

    async def stop(self) -> None:
        """Ends the engine and its processes."""
        if self._engine is not None:
            self._engine.shutdown()

    async def rest(self, in_flight: str) -> None:
        """Stops sampling while the learner trains on the same GPU; see `Engine.rest`."""
        await self._started.rest(in_flight)

    # Weights, under the names of vLLM's interface; see `Engine` for what each does and for their order.

    async def pause_generation(self, in_flight: str) -> None:
        await self._started.pause_generation(in_flight)

    async def resume_generation(self, probe: Sequence[int]) -> list[float]:
        return await self._started.resume_generation(probe)

    async def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        await self._started.init_weight_transfer_engine(init_info)

    async def update_weights(self, update_info: dict[str, Any]) -> None:
        await self._started.update_weights(update_info)

    async def finish_weight_update(self, version: str, sha256: bool) -> HeldWeights:
        held = await self._started.finish_weight_update(version, sha256)
        LOGGER.info("holds the weights of version %s", version)
        return held

    async def give_up_weight_update(self) -> None:
        await self._started.give_up_weight_update()

    async def leave_weight_transfer_engine(self) -> None:
        await self._started.leave_weight_transfer_engine()

    async def _rolled(self, request: RolloutRequest) -> tuple[Summary, pa.Buffer]:
        if self._session is None:
            raise RuntimeError("a rollout was asked for before the generator was told of a run (begin)")
        graded = await self._session.rollout(self._sampler, request)
        return graded.summary, packed(graded.group)

    @property
    def _started(self) -> "Engine":
        if self._engine is None:
            raise RuntimeError("the generator has not been started (start)")
        return self._engine

    @property
    def _sampler(self) -> Sampler:
        """What rollouts sample from."""
        return self._started


def _raised(failure: BaseException) -> RayTaskError:
    """What a caller sees where a remote method has raised this."""
    return RayTaskError("rollouts", "".join(traceback.format_exception(failure)), failure)


def _key(request: RolloutRequest) -> tuple[Purpose, int, str, int]:
    """What tells a group from all others that are under way."""
    return request.purpose, request.group, request.prompt.id, request.visit


def _pair(group: asyncio.Task[tuple[Summary, pa.Buffer]]) -> tuple[Any, pa.Buffer | None]:
    """Summary and batch of a group that is done, or what it raised."""
    failure = group.exception()
    return group.result() if failure is None else (_raised(failure), None)

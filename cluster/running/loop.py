"""The main loop, the only one: synchronous on-policy training is `max_staleness = 0`, not another loop.

    dispatch:  slot -> prompt -> rollout -> filter          runs for ever, one task per group
    train:     batch <- filter, update, publish, report     finite: the clock of the run

The next batch is taken and packed while the last one's weights are published, as far as staleness allows.

It knows plain async callables, neither Ray nor vLLM.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from actors.errors import RolloutFailed
from actors.types import Prompt, RolloutRequest, Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What the loop drives. Batches, arrays and the training stats are handed on unopened."""

    admit: Callable[[], Awaitable[Sequence[int]]]  # ids of groups that may be dispatched now, at least one
    prompts: Callable[[int], Sequence[tuple[Prompt, int]]]  # the next prompts with their visits
    rollout: Callable[[RolloutRequest], Awaitable[tuple[Summary, Any]]]  # a graded group: summary and arrays
    offer: Callable[[Summary, Any], Awaitable[None]]  # to the filter
    drop: Callable[[int, str], Awaitable[None]]  # a group that failed, and why
    take: Callable[[], Coroutine[Any, Any, Any]]  # the next batch of accepted groups, packed for the learner
    train: Callable[[Any], Awaitable[Any]]  # one step on a batch: its stats
    publish: Callable[[int], Awaitable[Any]]  # brings a version to the generators: its stats
    report: Callable[["StepDone"], Awaitable[bool]]  # metrics, display, checkpoint; False ends the run early


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """What is known when a step is over."""

    step: int  # counted from 1; also the version of the weights it made
    batch: Any
    trained: Any  # stats of `train`
    synced: Any  # stats of `publish`
    taken_at: float  # wall clock when the batch was there
    seconds_wait: float  # for the batch
    seconds_train: float
    seconds_sync: float


async def run_loop(stages: Stages, steps: int) -> None:
    """Trains for `steps` steps, or until a report says that it is enough.

    Raises:
        whatever a stage raises, and Starved when the filter's patience is spent; dispatching has ended by then.
    """
    dispatching = asyncio.create_task(dispatch(stages))
    taking = asyncio.create_task(stages.take())
    try:
        for step in range(1, steps + 1):
            started = time.monotonic()
            batch = await _unless_broken(taking, dispatching)
            taken, taken_at = time.monotonic(), time.time()
            trained = await stages.train(batch)
            updated = time.monotonic()
            if step < steps:
                taking = asyncio.create_task(stages.take())
            synced = await stages.publish(step)
            done = StepDone(
                step=step,
                batch=batch,
                trained=trained,
                synced=synced,
                taken_at=taken_at,
                seconds_wait=taken - started,
                seconds_train=updated - taken,
                seconds_sync=time.monotonic() - updated,
            )
            if not await stages.report(done):
                break
    finally:
        dispatching.cancel()
        taking.cancel()
        await asyncio.gather(dispatching, taking, return_exceptions=True)


async def dispatch(stages: Stages) -> None:
    """Takes: free slots and prompts. Waits for: a slot. Woken by: a rejection, a drop, a publish. Never returns."""
    try:
        async with asyncio.TaskGroup() as groups:
            while True:
                ids = await stages.admit()
                for group, (prompt, visit) in zip(ids, stages.prompts(len(ids)), strict=True):
                    groups.create_task(_one_group(stages, RolloutRequest(group=group, prompt=prompt, visit=visit)))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _one_group(stages: Stages, request: RolloutRequest) -> None:
    try:
        summary, arrays = await stages.rollout(request)
    except RolloutFailed as failure:
        await stages.drop(request.group, failure.reason)
    else:
        await stages.offer(summary, arrays)


async def _unless_broken(wanted: asyncio.Task[Any], producer: asyncio.Task[None]) -> Any:
    """The result of `wanted`, or at once the failure of the producer that it depends on."""
    await asyncio.wait({wanted, producer}, return_when=asyncio.FIRST_COMPLETED)
    if wanted.done():
        return await wanted
    wanted.cancel()
    await producer
    raise RuntimeError("dispatching ended by itself")

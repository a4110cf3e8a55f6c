"""The main loop, the only one: synchronous on-policy training is `max_staleness = 0`, not another loop.

    dispatch:  slot -> prompt -> rollout -> filter          runs for ever, one task per group
    train:     batch <- filter, update, publish, report     finite: the clock of the run; whoever asks it to stop ends
                                                            it between two steps

          admit (a free slot)                      take (P accepted groups)
    ┌──────────────▼─────────────┐          ┌──────────────▼─────────────┐
    │ dispatch: rollout, offer   │──ledger──│ train, publish, report     │
    └──────────────▲─────────────┘          └──────────────┬─────────────┘
                   └── a slot is free again: rejection, drop, publish ◀──┘

The next batch is taken and packed while the last one's weights are published, as far as staleness allows.

The loop knows plain async callables, neither Ray nor vLLM.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from actors.errors import GroupLost, RolloutFailed
from actors.types import Prompt, RolloutRequest, Summary
from cluster.reporting.steps import Batch, Stats, StepDone, Sync

Arrays = TypeVar("Arrays")  # of a group: handed from the rollout to the filter unopened


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages(Generic[Arrays, Batch, Stats, Sync]):
    """What the loop drives."""

    admit: Callable[[], Awaitable[Sequence[int]]]  # ids of groups that may be dispatched now, at least one
    prompts: Callable[[int], Sequence[tuple[Prompt, int]]]  # the next prompts with their visits
    dispatched: Callable[[RolloutRequest], None]  # is told of a group as soon as it has its prompt
    rollout: Callable[[RolloutRequest], Awaitable[tuple[Summary, Arrays]]]  # a graded group
    offer: Callable[[Summary, Arrays], Awaitable[None]]  # to the filter
    drop: Callable[[int, str], Awaitable[None]]  # a group that failed, and why
    take: Callable[[], Coroutine[Any, Any, Batch]]  # the next batch of accepted groups, packed for the learner
    train: Callable[[Batch], Awaitable[Stats]]  # one step
    publish: Callable[[int], Awaitable[Sync]]  # brings a version to the generators
    report: Callable[[StepDone[Batch, Stats, Sync]], Awaitable[bool]]  # after each step; False ends the run early
    stop: asyncio.Event = field(default_factory=asyncio.Event)  # set by whoever wants the run to end after this step


async def run_loop(stages: Stages[Arrays, Batch, Stats, Sync], steps: int, first: int = 1) -> bool:
    """Trains until step number `steps` is done, until a report says that it is enough, or until it is asked to stop:
    at once while it waits for a batch, else when the step under way has been reported.

    Args:
        stages: what the loop drives.
        steps: number of the last step.
        first: number of the first step.

    Returns:
        whether it came to its end, and was not stopped before.

    Raises:
        whatever a stage raises, and Starved when the filter's patience is spent; dispatching has ended by then.
    """
    dispatching = asyncio.create_task(dispatch(stages))
    taking = asyncio.create_task(stages.take())
    stopping = asyncio.create_task(stages.stop.wait())
    try:
        for step in range(first, steps + 1):
            started = time.monotonic()
            if await _stopped_before(taking, dispatching, stopping):
                return False
            batch = await taking
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
        return True
    finally:
        left = (dispatching, taking, stopping)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def dispatch(stages: Stages[Arrays, Batch, Stats, Sync]) -> None:
    """Takes: free slots and prompts. Waits for: a slot. Woken by: a rejection, a drop, a publish. Never returns."""
    try:
        async with asyncio.TaskGroup() as groups:
            while True:
                ids = await stages.admit()
                for group, (prompt, visit) in zip(ids, stages.prompts(len(ids)), strict=True):
                    request = RolloutRequest(group=group, prompt=prompt, visit=visit)
                    stages.dispatched(request)
                    groups.create_task(_one_group(stages, request))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _one_group(stages: Stages[Arrays, Batch, Stats, Sync], request: RolloutRequest) -> None:
    while True:
        try:
            summary, arrays = await stages.rollout(request)
        except RolloutFailed as failure:
            await stages.drop(request.group, failure.reason)
            return
        with suppress(GroupLost):  # it is sampled again
            await stages.offer(summary, arrays)
            return


async def _stopped_before(wanted: asyncio.Task[Any], producer: asyncio.Task[None], stopping: asyncio.Task[Any]) -> bool:
    """Waits until `wanted` is done; whether the run is to stop instead. Raises at once the failure of the producer that
    `wanted` depends on."""
    await asyncio.wait({wanted, producer, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if stopping.done():
        return True
    if wanted.done():
        return False
    await producer
    raise RuntimeError("dispatching ended by itself")

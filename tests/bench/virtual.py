"""The real loop and ledger in virtual time: stages last as long as they say, and nobody waits for them.

It shows what admission and staleness allow at all, with nothing else in the way.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.filtering.ledger import Ledger, check_conservation
from actors.filtering.rules import drop_both
from actors.types import RolloutRequest
from cluster.reporting.steps import StepDone
from cluster.running.loop import Stages, run_loop
from tests.builders import prompt, summary


class VirtualTime(asyncio.SelectorEventLoop):
    """An event loop that never waits: it moves its clock to the next thing to do."""

    def __init__(self) -> None:
        self.now = 0.0
        outer = self

        class Selector(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> list[Any]:
                outer.now += timeout or 0.0
                return super().select(0)

        super().__init__(Selector())

    def time(self) -> float:
        return self.now


def in_virtual_time(work: Coroutine[Any, Any, Any]) -> float:
    """Runs it; seconds that it would have taken."""
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        runner.run(work)
        return runner.get_loop().time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How long everything takes, in seconds, and what is rejected."""

    responses: Callable[[int], Sequence[float]]  # of each of a group's responses
    update: Callable[[int], float]  # of a training step
    publish: float  # of a sync
    rejected: Callable[[int], bool]  # whether the filter refuses a group
    seats: int  # responses that the engine works on at a time


class Pipeline:
    """Stages of such durations around a real ledger, for `run_loop`."""

    def __init__(self, course: Course, *, groups_per_step: int, max_staleness: int) -> None:
        self._course, self._size = course, groups_per_step
        self.ledger = Ledger(groups_per_step=groups_per_step, max_staleness=max_staleness, patience=10**6)
        self._changed, self._seats = asyncio.Condition(), asyncio.Semaphore(course.seats)
        self.live = self.trained = 0
        self.oldest: dict[int, int] = {}  # group -> version that sampled its first token
        self.lags: list[int] = []  # of every trained group
        self.ends: list[float] = []  # of the steps

    def run(self, steps: int) -> float:
        """So many steps; the seconds that they would have taken."""
        names = ("admit", "rollout", "offer", "drop", "take", "train", "publish", "report")
        calls = {name: getattr(self, name) for name in names}
        stages = Stages(prompts=lambda n: [(prompt(), 0)] * n, dispatched=lambda request: None, **calls)
        return in_virtual_time(run_loop(stages, steps))

    async def admit(self) -> list[int]:
        async with self._changed:
            await self._changed.wait_for(lambda: self.ledger.slots > 0)
            return list(self.ledger.admit(self.ledger.slots))

    async def rollout(self, request: RolloutRequest) -> tuple[Any, None]:
        await asyncio.gather(
            *(self._sample(request.group, seconds) for seconds in self._course.responses(request.group))
        )
        scores = [1.0, 1.0] if self._course.rejected(request.group) else [1.0, -1.0]
        return summary(scores, id=request.group), None

    async def _sample(self, group: int, seconds: float) -> None:
        async with self._seats:
            self.oldest.setdefault(group, self.live)
            await asyncio.sleep(seconds)

    async def offer(self, graded: Any, arrays: None) -> None:
        async with self._changed:
            if reason := drop_both(np.array(graded.scores)):
                self.ledger.reject(graded.id, reason, 1.0)
            else:
                self.ledger.accept(graded.id)
            self._changed.notify_all()

    async def drop(self, group: int, reason: str) -> None:
        raise AssertionError("nothing fails here")

    async def take(self) -> tuple[int, ...]:
        async with self._changed:
            while (batch := self.ledger.take()) is None:
                await self._changed.wait()
            return batch

    async def train(self, batch: tuple[int, ...]) -> None:
        assert len(batch) == self._size
        self.lags += [self.trained - self.oldest[group] for group in batch]
        await asyncio.sleep(self._course.update(self.trained))
        async with self._changed:
            self.ledger.trained()
            self.trained += 1

    async def publish(self, version: int) -> None:
        await asyncio.sleep(self._course.publish)
        async with self._changed:
            self.ledger.publish(version)
            self.live = version
            self._changed.notify_all()

    async def report(self, done: StepDone) -> bool:
        check_conservation(self.ledger.counts())
        self.ends.append(asyncio.get_running_loop().time())
        return True

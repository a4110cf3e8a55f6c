"""The bound on staleness under the real loop and ledger, in virtual time: stages last as long as they say, and no test
waits for them."""

import asyncio
import math
import random
import selectors
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest
from builders import prompt, summary
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ledger import Ledger, check_conservation
from actors.rules import mixed
from actors.types import Order
from cluster.loop import Stages, StepDone, run_loop


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


class Pipeline:
    """Stages with heavy-tailed durations; `seats` groups are sampled at a time, in an engine of that size."""

    def __init__(self, seed: int, *, groups: int, staleness: int, tail: float, rejected: float, seats: int) -> None:
        self._draw, self._tail, self._rejected = random.Random(seed), tail, rejected
        self._size = groups
        self.ledger = Ledger(groups_per_step=groups, max_staleness=staleness, patience=10**6)
        self._changed, self._seats = asyncio.Condition(), asyncio.Semaphore(seats)
        self.live = self.trained = 0
        self.oldest: dict[int, int] = {}  # group -> version that sampled its first token
        self.lags: list[int] = []

    def stages(self) -> Stages:
        names = ("admit", "rollout", "offer", "drop", "take", "train", "publish", "report")
        return Stages(prompts=lambda n: [(prompt(), 0)] * n, **{name: getattr(self, name) for name in names})

    async def admit(self) -> list[int]:
        async with self._changed:
            await self._changed.wait_for(lambda: self.ledger.slots > 0)
            return list(self.ledger.admit(self.ledger.slots))

    async def rollout(self, order: Order) -> tuple[Any, None]:
        async with self._seats:
            self.oldest[order.group] = self.live
            await asyncio.sleep(math.exp(self._draw.gauss(0.0, self._tail)))
        scores = [1.0, 1.0] if self._draw.random() < self._rejected else [1.0, -1.0]
        return summary(scores, id=order.group), None

    async def offer(self, graded: Any, arrays: None) -> None:
        async with self._changed:
            if reason := mixed(np.array(graded.scores)):
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
        await asyncio.sleep(2.0)
        async with self._changed:
            self.ledger.trained()
            self.trained += 1

    async def publish(self, version: int) -> None:
        await asyncio.sleep(0.1)
        async with self._changed:
            self.ledger.publish(version)
            self.live = version
            self._changed.notify_all()

    async def report(self, done: StepDone) -> bool:
        check_conservation(self.ledger.counts())
        return True


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    groups=st.integers(1, 12),
    staleness=st.integers(0, 4),
    tail=st.floats(0.0, 3.0),
    rejected=st.floats(0.0, 0.8),
    seats=st.integers(1, 64),
)
def test_no_token_is_trained_on_later_than_max_staleness(
    seed: int, groups: int, staleness: int, tail: float, rejected: float, seats: int
) -> None:
    pipeline = Pipeline(seed, groups=groups, staleness=staleness, tail=tail, rejected=rejected, seats=seats)
    in_virtual_time(run_loop(pipeline.stages(), steps=25))
    assert pipeline.trained == 25
    assert max(pipeline.lags) <= staleness
    assert min(pipeline.lags) >= 0


@pytest.mark.parametrize(("staleness", "most"), [(1, 0.75), (2, 0.7), (4, 0.65)])
def test_staleness_lets_sampling_and_training_overlap(staleness: int, most: float) -> None:
    def seconds(of: int) -> float:
        pipeline = Pipeline(7, groups=16, staleness=of, tail=1.0, rejected=0.3, seats=16)
        return in_virtual_time(run_loop(pipeline.stages(), steps=60))

    assert seconds(staleness) <= most * seconds(0)

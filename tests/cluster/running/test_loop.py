"""The main loop with plain coroutines for stages: no Ray, no models."""

import asyncio
from typing import Any

import pytest

from actors.errors import BrokenPart, GroupLost, RolloutFailed, Starved
from actors.filtering.ledger import Ledger
from actors.filtering.rules import drop_both
from actors.types import RolloutRequest
from cluster.running.loop import Stages, StepDone, run_loop
from tests.builders import prompt, summary


class Fakes:
    """Stages around a real ledger; a rollout takes `delay(request)` seconds of the loop's clock."""

    def __init__(self, *, groups: int = 2, staleness: int = 0, scores: Any = lambda request: [1.0, -1.0]) -> None:
        self.ledger = Ledger(groups_per_step=groups, max_staleness=staleness, patience=50)
        self.scores, self.events, self.reports, self.enough = scores, [], [], 10**6
        self.version, self.versions, self.lags = 0, {}, []
        self._changed, self._starved = asyncio.Condition(), None

    async def admit(self) -> list[int]:
        async with self._changed:
            await self._changed.wait_for(lambda: self.ledger.slots > 0)
            return list(self.ledger.admit(self.ledger.slots))

    async def rollout(self, request: RolloutRequest) -> tuple[Any, str]:
        self.versions[request.group] = self.version
        await asyncio.sleep(0.001 * (request.group * 7919 % 5))
        return summary(self.scores(request), id=request.group), f"arrays {request.group}"

    async def offer(self, summary: Any, arrays: str) -> None:
        import numpy as np

        async with self._changed:
            try:
                if reason := drop_both(np.array(summary.scores)):
                    self.ledger.reject(summary.id, reason, 0.0)
                else:
                    self.ledger.accept(summary.id)
            except Starved as starved:
                self._starved = self._starved or starved
            self._changed.notify_all()

    async def drop(self, group: int, reason: str) -> None:
        async with self._changed:
            self.ledger.drop(group, reason)
            self._changed.notify_all()

    async def take(self) -> tuple[int, ...]:
        async with self._changed:
            while True:
                if self._starved:
                    raise self._starved
                if (batch := self.ledger.take()) is not None:
                    return batch
                await self._changed.wait()

    async def train(self, batch: tuple[int, ...]) -> str:
        self.events.append(("train", batch))
        self.lags += [len(self.reports) - self.versions[group] for group in batch]
        await asyncio.sleep(0.002)
        self.ledger.trained()
        return "stats"

    async def publish(self, version: int) -> str:
        async with self._changed:
            self.events.append(("publish", version))
            self.version = version
            self.ledger.publish(version)
            self._changed.notify_all()
        return "synced"

    async def report(self, done: StepDone) -> bool:
        self.reports.append(done)
        return len(self.reports) < self.enough

    def stages(self, **others: Any) -> Stages:
        names = ("admit", "rollout", "offer", "drop", "take", "train", "publish", "report")
        calls = {name: getattr(self, name) for name in names} | {
            "prompts": lambda n: [(prompt(), 0)] * n,
            "dispatched": lambda request: None,
        }
        return Stages(**(calls | others))


async def test_on_policy_training_is_the_loop_with_no_staleness() -> None:
    fakes = Fakes(staleness=0)
    await run_loop(fakes.stages(), steps=5)
    assert [kind for kind, _ in fakes.events] == ["train", "publish"] * 5
    assert [done.step for done in fakes.reports] == [1, 2, 3, 4, 5]
    assert set(fakes.lags) == {0}


@pytest.mark.parametrize("staleness", [1, 3])
async def test_with_staleness_sampling_runs_ahead_within_the_bound(staleness: int) -> None:
    fakes = Fakes(staleness=staleness)
    await run_loop(fakes.stages(), steps=12)
    assert 0 < max(fakes.lags) <= staleness


async def test_a_group_whose_arrays_are_lost_on_the_way_is_sampled_again_and_trained_once() -> None:
    fakes, offers = Fakes(), []

    async def offer(summary: Any, arrays: str) -> None:
        offers.append(summary.id)
        if offers.count(1) == 1 and summary.id == 1:
            raise GroupLost("its node is gone")
        await fakes.offer(summary, arrays)

    await run_loop(fakes.stages(offer=offer), steps=2)
    assert sorted(offers)[:5] == [0, 1, 1, 2, 3]
    assert sorted(group for kind, batch in fakes.events if kind == "train" for group in batch) == [0, 1, 2, 3]


async def test_rejected_groups_are_replaced_and_never_trained() -> None:
    fakes = Fakes(scores=lambda request: [1.0, 1.0] if request.group % 3 else [1.0, -1.0])
    await run_loop(fakes.stages(), steps=4)
    trained = [group for kind, batch in fakes.events if kind == "train" for group in batch]
    assert len(trained) == len(set(trained)) == 8
    assert all(group % 3 == 0 for group in trained)
    assert fakes.ledger.counts()["groups_all_correct"] >= 14


async def test_a_failed_rollout_is_dropped_and_replaced() -> None:
    fakes = Fakes()

    async def rollout(request: RolloutRequest) -> Any:
        if request.group in (1, 3):
            raise RolloutFailed("timeout", "too slow")
        return await Fakes.rollout(fakes, request)

    await run_loop(fakes.stages(rollout=rollout), steps=3)
    assert fakes.ledger.drops() == {"timeout": 2}


async def test_a_broken_generator_pool_ends_the_run_at_once() -> None:
    async def rollout(request: RolloutRequest) -> Any:
        raise BrokenPart("no generator is left")

    with pytest.raises(BrokenPart, match="no generator is left"):
        await asyncio.wait_for(run_loop(Fakes().stages(rollout=rollout), steps=3), timeout=60)


async def test_a_run_that_learns_nothing_stops_with_its_reason() -> None:
    fakes = Fakes(scores=lambda request: [-1.0, -1.0])
    with pytest.raises(Starved, match="50 groups in a row"):
        await asyncio.wait_for(run_loop(fakes.stages(), steps=3), timeout=60)
    assert not fakes.reports


async def test_no_task_is_left_when_the_loop_is_over() -> None:
    await run_loop(Fakes(staleness=1).stages(), steps=2)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_report_that_says_enough_ends_the_run_early() -> None:
    fakes = Fakes(staleness=0)
    fakes.enough = 2
    await run_loop(fakes.stages(), steps=5)
    assert [done.step for done in fakes.reports] == [1, 2]


async def test_asked_to_stop_while_it_waits_the_loop_ends_at_once() -> None:
    async def never(request: RolloutRequest) -> Any:
        await asyncio.Event().wait()

    fakes = Fakes()
    stages = fakes.stages(rollout=never)
    asyncio.get_running_loop().call_later(0.01, stages.stop.set)
    assert not await asyncio.wait_for(run_loop(stages, steps=5), timeout=60)
    assert not fakes.events
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_asked_to_stop_while_it_trains_the_loop_ends_behind_that_step() -> None:
    fakes = Fakes(staleness=1)

    async def train(batch: tuple[int, ...]) -> str:
        if len(fakes.reports) == 2:
            stages.stop.set()
        return await fakes.train(batch)

    stages = fakes.stages(train=train)
    assert not await run_loop(stages, steps=5)
    assert [kind for kind, _ in fakes.events] == ["train", "publish"] * 3
    assert [done.step for done in fakes.reports] == [1, 2, 3]


async def test_asked_to_stop_in_its_last_step_the_loop_has_come_to_its_end() -> None:
    fakes = Fakes()

    async def train(batch: tuple[int, ...]) -> str:
        if len(fakes.reports) == 1:
            stages.stop.set()
        return await fakes.train(batch)

    stages = fakes.stages(train=train)
    assert await run_loop(stages, steps=2)

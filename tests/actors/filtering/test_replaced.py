"""A filter whose process dies is replaced: nothing is lost, trained twice or written twice, whatever it was doing."""

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.exceptions import RayActorError

from actors.arrow import packed
from actors.errors import ActorDied, Starved
from actors.filtering import client as client_module
from actors.filtering import recorder as recorder_module
from actors.filtering.client import FilterClient
from actors.filtering.filter import Filter, FilterSpec
from actors.filtering.ledger import check_conservation
from actors.filtering.rules import drop_both
from actors.types import RolloutRequest
from tests.builders import group, prompt, summary_of

SIZE, STALENESS, STEPS = 2, 1, 3
SILENCE = 1000.0  # seconds


class Mortals:
    """Makes filters that die in calls that the test chooses."""

    def __init__(self, deaths: dict[int, str]) -> None:
        """`deaths`: number of a call, over all filters, to how the filter dies in it: see `Mortal`."""
        self.deaths = deaths
        self.calls = 0
        self.made: list[Mortal] = []

    def make(self) -> "Mortal":
        self.made.append(Mortal(self))
        return self.made[-1]


class Mortal:
    """The handle of a filter in this process. It may die before a call is done; after it, so that the reply is lost; or
    after it and after what it had in memory has come to disk. Dead or hanging, it answers no more."""

    def __init__(self, mortals: Mortals) -> None:
        self._mortals, self._filter, self._dead = mortals, Filter(), False

    def __getattr__(self, name: str) -> Any:
        return Call(self, name)

    async def called(self, name: str, arguments: tuple[Any, ...]) -> Any:
        await asyncio.sleep(0)
        self._fail_if_dead()
        self._mortals.calls += 1
        death = self._mortals.deaths.pop(self._mortals.calls, "")
        if death == "hangs":
            await asyncio.sleep(SILENCE)
        if death != "before":
            reply = await getattr(self._filter, name)(*arguments)
        if death:
            self.die(flushed=death == "flushed")
        await asyncio.sleep(0)
        self._fail_if_dead()
        return reply

    def die(self, flushed: bool = False) -> None:
        self._dead = True
        if (session := self._filter._session) is None:
            return
        if flushed:
            session.recorder._thread.submit(session.recorder._flush, session.recorder._step).result()
        session.recorder.abandon()

    def _fail_if_dead(self) -> None:
        if self._dead:
            raise RayActorError


class Call:
    def __init__(self, actor: Mortal, name: str) -> None:
        self._actor, self._name = actor, name

    def remote(self, *arguments: Any) -> Awaitable[Any]:
        return asyncio.ensure_future(self._actor.called(self._name, arguments))


def client_of(mortals: Mortals) -> FilterClient:
    return FilterClient(mortals.make, put=lambda arrays: arrays, kill=lambda actor: actor.die())


def spec(folder: Path, patience: int = 10**6) -> FilterSpec:
    return FilterSpec(
        drop=drop_both, groups_per_step=SIZE, max_staleness=STALENESS, patience=patience, trajectories=folder
    )


def fate_of(number: int) -> str:
    """How the group of this number ends, the same in every run: accepted, rejected, without verdicts, or dropped."""
    return random.Random(number).choice(["accepted", "accepted", "rejected", "failed", "timeout"])


async def ended(client: FilterClient, number: int) -> None:
    fate = fate_of(number)
    if fate == "timeout":
        await client.drop(number, fate)
        return
    one = group({"accepted": [1.0, -1.0], "rejected": [1.0, 1.0], "failed": [None, None]}[fate], id=number)
    await client.offer(summary_of(one), packed(one))


async def run(client: FilterClient, folder: Path, order: random.Random) -> list[list[int]]:
    """A short run: the ids of the groups of each batch that was trained on."""
    await client.begin(spec(folder))
    flying: list[int] = []
    batches: list[list[int]] = []
    for step in range(1, STEPS + 1):
        taking = asyncio.create_task(client.take())
        while not taking.done():
            if client._run.slots:
                ids = await client.admit()
                for number in ids:
                    client.dispatched(RolloutRequest(group=number, prompt=prompt(f"p{number}"), visit=0))
                flying += ids
            order.shuffle(flying)
            now, flying = flying[:2], flying[2:]
            await asyncio.gather(*(ended(client, number) for number in now))
            await asyncio.sleep(0)
        batches.append([each.id for each in (await taking).summaries])
        now, flying = flying[:1], flying[1:]
        await asyncio.gather(*(ended(client, number) for number in now))  # while the batch is trained on
        await client.trained()
        report = await client.report(step)
        check_conservation(report.counts)
        assert report.counts["groups_trained"] == step * SIZE
        state = await client.save()
        assert len(state.waiting) == report.counts["groups_buffered"]
        assert len(state.interrupted) == report.counts["groups_in_flight"] == len(flying)
        await client.publish(step)
    await client.close(STEPS + 1)
    return batches


def rows(folder: Path) -> Counter[tuple[int, str]]:
    table = ds.dataset(folder).to_table(columns=["group", "rejected"]).to_pylist()
    return Counter((row["group"], row["rejected"]) for row in table)


def with_deaths(deaths: dict[int, str], seed: int) -> tuple[list[list[int]], Counter[tuple[int, str]], Mortals]:
    mortals = Mortals(deaths)
    with tempfile.TemporaryDirectory() as folder:
        batches = asyncio.run(run(client_of(mortals), Path(folder), random.Random(seed)))
        return batches, rows(Path(folder)), mortals


@pytest.fixture
def quick_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is written with every second group."""
    monkeypatch.setattr(recorder_module, "FULL", 4)


@cache
def undisturbed(seed: int) -> tuple[list[list[int]], Counter[tuple[int, str]], Mortals]:
    return with_deaths({}, seed)


def check(seed: int, deaths: dict[int, str]) -> None:
    trained, written, _ = undisturbed(seed)
    batches, found, _ = with_deaths(deaths, seed)
    assert batches == trained
    assert found == written
    assert set(found.values()) == {2}  # each response of each group once


@pytest.mark.usefixtures("quick_files")
@pytest.mark.parametrize("how", ["before", "after", "flushed"])
def test_a_death_in_any_call_changes_nothing_that_is_trained_on_or_written(how: str) -> None:
    calls = undisturbed(0)[2].calls
    assert calls > 12
    for number in range(1, calls + 1):
        check(0, {number: how})


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    deaths=st.dictionaries(st.integers(1, 60), st.sampled_from(["before", "after", "flushed"]), max_size=6),
)
def test_deaths_in_many_calls_change_nothing_either(seed: int, deaths: dict[int, str]) -> None:
    before = (recorder_module.FULL, client_module.REPLACEMENTS)
    recorder_module.FULL, client_module.REPLACEMENTS = 4, 10  # restored by hand: a fixture lives for all examples
    try:
        check(seed, deaths)
    finally:
        recorder_module.FULL, client_module.REPLACEMENTS = before


async def begun(mortals: Mortals, folder: Path, patience: int = 10**6) -> tuple[FilterClient, list[str]]:
    said: list[str] = []
    client = client_of(mortals)
    await client.begin(spec(folder, patience), said.append)
    return client, said


async def test_a_filter_that_hangs_is_replaced_too_and_the_person_reads_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "FILTER", 0.2)
    client, said = await begun(Mortals({2: "hangs"}), tmp_path)
    ids = await client.admit()
    one = group([1.0, -1.0], id=ids[0])
    await client.offer(summary_of(one), packed(one))
    assert [each.id for each in client.graded()] == [ids[0]]
    assert len(said) == 1
    assert "no answer within 0.2 s (to filter groups)" in said[0]
    await client.close(1)


async def test_filters_that_die_as_soon_as_they_are_there_end_the_run(tmp_path: Path) -> None:
    client, _ = await begun(Mortals(dict.fromkeys(range(2, 10), "before")), tmp_path)
    with pytest.raises(ActorDied):
        await client.report(1)


async def test_patience_is_counted_across_deaths(tmp_path: Path) -> None:
    mortals = Mortals({})
    client, _ = await begun(mortals, tmp_path, patience=4)
    for number in await client.admit():  # four
        mortals.made[-1].die()
        one = group([1.0, 1.0], id=number)
        await client.offer(summary_of(one), packed(one))
        await client.report(number + 1)
    with pytest.raises(Starved, match="4 groups in a row"):
        await client.take()


async def test_a_death_while_many_calls_are_under_way_brings_one_new_filter(tmp_path: Path) -> None:
    mortals = Mortals({})
    client, said = await begun(mortals, tmp_path)
    ids = await client.admit()
    for number in ids[:2]:
        one = group([1.0, -1.0], id=number)
        await client.offer(summary_of(one), packed(one))
    await client.take()
    calls: list[Callable[[], Awaitable[Any]]] = [client.trained, lambda: client.report(1), client.save]
    one = group([1.0, 1.0], id=ids[2])
    mortals.made[-1].die()
    await asyncio.gather(*(call() for call in calls), client.offer(summary_of(one), packed(one)))
    assert len(mortals.made) == 2
    assert len(said) == 1
    await client.close(1)
    assert rows(tmp_path) == {(0, ""): 2, (1, ""): 2, (2, "all_correct"): 2}


async def test_a_reply_that_arrives_when_its_filter_was_given_up_does_not_count(tmp_path: Path) -> None:
    mortals = Mortals({})
    client, _ = await begun(mortals, tmp_path)
    ids = await client.admit()
    first, replacing = mortals.made[0], asyncio.Event()
    called = first.called

    async def late(name: str, arguments: tuple[Any, ...]) -> Any:
        reply = await called(name, arguments)
        if name == "offer":
            first.die()
            await replacing.wait()
        return reply

    async def hold(*arguments: Any) -> None:
        replacing.set()  # the reply of the first arrives, and counts for nothing
        for _ in range(10):
            await asyncio.sleep(0)
        await hold_of_second(*arguments)

    one = group([1.0, -1.0], id=ids[1])
    await client.offer(summary_of(one), packed(one))
    first.called = late
    one = group([1.0, -1.0], id=ids[0])
    offering = asyncio.create_task(client.offer(summary_of(one), packed(one)))
    await asyncio.sleep(0.01)
    second = mortals.make()
    hold_of_second, second._filter.hold = second._filter.hold, hold
    client._create = lambda: second
    await client.report(1)
    await offering
    assert [each.summary.id for each in (await client.save()).waiting] == [ids[1], ids[0]]
    await client.close(2)


async def test_what_a_state_counts_is_on_disk_in_its_step_and_not_in_a_later_one(tmp_path: Path) -> None:
    client, _ = await begun(Mortals({}), tmp_path)
    ids = await client.admit()
    for number in ids[:2]:
        one = group([1.0, -1.0], id=number)
        await client.offer(summary_of(one), packed(one))
    await client.take()
    await client.trained()
    client.counted()
    one = group([1.0, 1.0], id=ids[2])  # refused when the step has been counted, before its state is saved
    await client.offer(summary_of(one), packed(one))
    state = await client.save()
    assert sum(state.ledger.ends.values()) == 1
    await client.close_step(1)
    assert rows(tmp_path / "step-1") == {(0, ""): 2, (1, ""): 2, (2, "all_correct"): 2}
    await client.close(2)

"""The filter and its client: what goes together in a call, what each still holds, and how a run goes on."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from actors.arrow import packed
from actors.filtering.client import FilterClient
from actors.filtering.filter import Filter, FilterSpec
from actors.filtering.ledger import INTERRUPTED, check_conservation
from actors.filtering.rules import drop_both
from actors.types import RolloutRequest
from tests.builders import group, prompt, summary, summary_of
from tests.doubles import InProcess


class OddFilter:
    """Refuses odd ids; `offer` takes a while, as a call to another process does."""

    def __init__(self) -> None:
        self.offers: list[tuple[list[int], tuple[Any, ...]]] = []
        self.kept: list[int] = []

    def actor(self) -> Any:
        return InProcess(self)

    async def offer(self, summaries: Any, *groups: Any) -> list[int]:
        ids = [each.id for each in summaries]
        self.offers.append((ids, groups))
        await asyncio.sleep(0.01)
        self.kept += [each for each in ids if each % 2 == 0]
        return [each for each in ids if each % 2]

    async def take(self) -> tuple[int, ...]:
        return tuple(reversed(self.kept))


async def test_groups_that_gather_while_an_offer_is_under_way_go_in_one_call_with_their_arrays() -> None:
    stage = OddFilter()
    client = FilterClient(stage.actor())
    await asyncio.gather(*(client.offer(summary([1.0], id=number), f"arrays {number}") for number in range(12)))
    assert sorted(each for ids, _ in stage.offers for each in ids) == list(range(12))
    assert len(stage.offers) <= 3
    assert all(groups == tuple(f"arrays {each}" for each in ids) for ids, groups in stage.offers)


async def test_a_batch_has_the_summaries_and_arrays_of_its_ids_and_refused_groups_are_let_go() -> None:
    client = FilterClient(OddFilter().actor())
    await asyncio.gather(*(client.offer(summary([1.0], id=number), f"arrays {number}") for number in range(6)))
    assert sorted(each.id for each in client.graded()) == list(range(6))
    assert client.graded() == []  # each group once
    assert sorted(client.held) == [0, 2, 4]
    batch = await client.take()
    assert [each.id for each in batch.summaries] == [4, 2, 0]
    assert batch.groups == ("arrays 4", "arrays 2", "arrays 0")
    assert client.held == frozenset()


def whole_filter() -> tuple[Filter, FilterClient]:
    """The real filter and its client in one process, where references are the arrays themselves."""
    stage = Filter()
    return stage, FilterClient(InProcess(stage), put=lambda arrays: arrays)


def spec(folder: Path, staleness: int = 1) -> FilterSpec:
    return FilterSpec(
        drop=drop_both, groups_per_step=2, max_staleness=staleness, patience=50, trajectories=folder / "trajectories"
    )


async def offered(client: FilterClient, id: int, *scores: float) -> None:
    one = group(scores, id=id)
    await client.offer(summary_of(one), packed(one))


async def dispatched(client: FilterClient) -> list[int]:
    """Admits groups for all free slots, of the prompt p0, p1, ... each."""
    ids = await client.admit()
    for number in ids:
        client.dispatched(RolloutRequest(group=number, prompt=prompt(f"p{number}"), visit=number))
    return ids


async def test_filter_and_client_hold_the_same_groups_whenever_no_call_is_under_way(tmp_path: Path) -> None:
    stage, client = whole_filter()
    await client.begin(spec(tmp_path))

    async def same() -> list[int]:
        waiting = (await stage.save()).waiting
        assert {each.summary.id for each in waiting} - set(taken) == client.held
        return sorted(client.held)

    taken: list[int] = []
    assert await dispatched(client) == [0, 1, 2, 3]
    await asyncio.gather(offered(client, 2, 1.0, -1.0), offered(client, 0, 1.0, 1.0), offered(client, 3, 1.0, -1.0))
    assert await same() == [2, 3]
    assert await dispatched(client) == [4]
    await client.drop(1, "timeout")
    batch = await client.take()
    taken = [each.id for each in batch.summaries]
    assert taken == [2, 3]
    assert await same() == []
    await client.trained()
    taken = []
    await offered(client, 4, 1.0, -1.0)
    assert await same() == [4]
    await client.close(1)


async def test_a_run_that_goes_on_from_a_saved_state_loses_no_group_and_trains_none_twice(tmp_path: Path) -> None:
    _, first = whole_filter()
    await first.begin(spec(tmp_path / "first"))
    await dispatched(first)  # 0 to 3
    for number in (0, 1, 3):
        await offered(first, number, 1.0, -1.0)
    before = await first.take()
    await first.trained()
    await first.publish(1)
    assert await dispatched(first) == [4, 5]
    await offered(first, 2, 1.0, -1.0)
    under_way = await first.take()  # not trained on when the state is saved
    assert [each.id for each in under_way.summaries] == [2, 3]  # in the order of dispatch
    state = await first.save()
    assert [(each.prompt_id, each.visit) for each in state.interrupted] == [("p4", 4), ("p5", 5)]
    json.dumps(asdict(state.ledger))  # plain values

    _, second = whole_filter()
    await second.begin(spec(tmp_path / "second"))
    await second.restore(state)
    report = await second.report(1)
    check_conservation(report.counts)
    assert report.drops == {INTERRUPTED: 2}
    assert report.counts["groups_dispatched"] == 6
    assert report.counts["groups_in_flight"] == 0
    again = await second.take()
    assert [each.id for each in again.summaries] == [2, 3]
    assert again.groups == under_way.groups
    assert await second.admit() == [6, 7]  # new ids, as many as before the groups were interrupted
    await second.trained()
    await second.publish(2)
    assert (await second.report(2)).counts["groups_trained"] == 4
    assert [each.id for each in before.summaries] == [0, 1]
    await second.close(3)
    await first.close(3)


async def test_groups_that_are_dispatched_or_end_while_a_state_is_saved_are_in_it_once(tmp_path: Path) -> None:
    stage, client = whole_filter()

    class Slow(InProcess):
        """Other calls of the client come and go between the reply of `save` and its arrival."""

        @property
        def save(self) -> Any:
            return InProcess(self).slow_save

        async def slow_save(self) -> Any:
            state = await stage.save()
            await offered(client, 0, 1.0, -1.0)  # in flight in the state
            await client.drop(1, "timeout")
            await dispatched(client)  # its id is not known in the state
            return state

    client.handle = Slow(stage)
    await client.begin(spec(tmp_path, staleness=0))
    assert await dispatched(client) == [0, 1]
    state = await client.save()
    assert [each.prompt_id for each in state.interrupted] == ["p0", "p1", "p2"]
    assert state.graded == ()  # the group that ended after the state was made will be graded again
    client.handle = InProcess(stage)
    assert [each.id for each in (await client.save()).graded] == [0]
    await client.close(1)


async def test_another_run_lets_go_whoever_waits_for_the_last_one(tmp_path: Path) -> None:
    _, client = whole_filter()
    await client.begin(spec(tmp_path / "first"))
    await client.admit()
    waiting = [asyncio.create_task(client.admit()), asyncio.create_task(client.take())]
    await asyncio.sleep(0)
    await client.begin(spec(tmp_path / "second"))
    assert await waiting[0] == []
    assert (await waiting[1]).summaries == ()
    assert await client.admit() == [0, 1, 2, 3]
    await client.close(1)

"""The filter and its client: what goes together in a call, what each still holds, and how a run goes on."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ObjectLostError

from actors.arrow import packed
from actors.errors import GroupLost
from actors.filtering.client import FilterClient
from actors.filtering.filter import Filter, FilterSpec, Offered
from actors.filtering.ledger import INTERRUPTED, check_conservation
from actors.filtering.rules import drop_both
from actors.types import RolloutRequest
from tests.builders import group, prompt, summary, summary_of
from tests.doubles import InProcess


class OddFilter:
    """Refuses odd ids; `offer` takes a while, as a call to another process does."""

    def __init__(self) -> None:
        self.offers: list[tuple[list[int], tuple[Any, ...]]] = []

    async def begin(self, spec: FilterSpec, step: int, takes_over: bool) -> None:
        """Knows all that it must."""

    async def offer(self, summaries: Any, *groups: Any) -> Offered:
        ids = [each.id for each in summaries]
        self.offers.append((ids, groups))
        await asyncio.sleep(0.01)
        return Offered(reasons=tuple("odd" if each % 2 else "" for each in ids), on_disk=())


def spec(folder: Path, staleness: int = 1, size: int = 2) -> FilterSpec:
    return FilterSpec(
        drop=drop_both, groups_per_step=size, max_staleness=staleness, patience=50, trajectories=folder / "trajectories"
    )


async def odd_filter() -> tuple[OddFilter, FilterClient]:
    """Such a filter and its client, in a run that has admitted twelve groups."""
    stage = OddFilter()
    client = FilterClient(lambda: InProcess(stage))
    await client.begin(spec(Path(), size=6))
    await client.admit()
    return stage, client


async def test_groups_that_gather_while_an_offer_is_under_way_go_in_one_call_with_their_arrays() -> None:
    stage, client = await odd_filter()
    await asyncio.gather(*(client.offer(summary([1.0], id=number), f"arrays {number}") for number in range(12)))
    assert sorted(each for ids, _ in stage.offers for each in ids) == list(range(12))
    assert len(stage.offers) <= 3
    assert all(groups == tuple(f"arrays {each}" for each in ids) for ids, groups in stage.offers)


async def test_a_batch_has_the_summaries_and_arrays_of_its_ids_and_refused_groups_are_in_none() -> None:
    _, client = await odd_filter()
    await asyncio.gather(*(client.offer(summary([1.0], id=number), f"arrays {number}") for number in range(12)))
    assert sorted(each.id for each in client.graded()) == list(range(12))
    assert client.graded() == []  # each group once
    batch = await client.take()
    assert [each.id for each in batch.summaries] == [0, 2, 4, 6, 8, 10]
    assert batch.groups == tuple(f"arrays {number}" for number in (0, 2, 4, 6, 8, 10))


def whole_filter() -> FilterClient:
    """The real filter and its client in one process, where references are the arrays themselves."""
    return FilterClient(lambda: InProcess(Filter()), put=lambda arrays: arrays)


async def offered(client: FilterClient, id: int, *scores: float) -> None:
    one = group(scores, id=id)
    await client.offer(summary_of(one), packed(one))


async def dispatched(client: FilterClient) -> list[int]:
    """Admits groups for all free slots, of the prompt p0, p1, ... each."""
    ids = await client.admit()
    for number in ids:
        client.dispatched(RolloutRequest(group=number, prompt=prompt(f"p{number}"), visit=number))
    return ids


async def waiting(client: FilterClient) -> list[int]:
    return [each.summary.id for each in (await client.save()).waiting]


async def test_what_is_saved_is_what_was_kept_and_not_trained_on(tmp_path: Path) -> None:
    client = whole_filter()
    await client.begin(spec(tmp_path))
    assert await dispatched(client) == [0, 1, 2, 3]
    await asyncio.gather(offered(client, 2, 1.0, -1.0), offered(client, 0, 1.0, 1.0), offered(client, 3, 1.0, -1.0))
    assert await waiting(client) == [2, 3]
    assert await dispatched(client) == [4]
    await client.drop(1, "timeout")
    batch = await client.take()
    assert [each.id for each in batch.summaries] == [2, 3]
    assert await waiting(client) == [2, 3]
    await client.trained()
    assert await waiting(client) == []
    await offered(client, 4, 1.0, -1.0)
    assert await waiting(client) == [4]
    await client.close(1)


async def test_a_run_that_goes_on_from_a_saved_state_loses_no_group_and_trains_none_twice(tmp_path: Path) -> None:
    first = whole_filter()
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
    assert [each.id for each in under_way.summaries] == [2, 3]  # in the order of their dispatch
    state = await first.save()
    assert [(each.prompt_id, each.visit) for each in state.interrupted] == [("p4", 4), ("p5", 5)]
    json.dumps(asdict(state.ledger))  # plain values

    second = whole_filter()
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


async def test_a_group_whose_arrays_are_gone_with_their_node_is_lost_alone_and_can_be_offered_again(
    tmp_path: Path,
) -> None:
    gone: set[int] = {1}

    class Far(Filter):
        """Ray does not call a method whose arguments are lost."""

        async def offer(self, summaries: Any, *groups: Any) -> Any:
            if gone & {each.id for each in summaries}:
                raise ObjectLostError("01", None, "")
            return await super().offer(summaries, *groups)

    client = FilterClient(lambda: InProcess(Far()), put=lambda arrays: arrays)
    await client.begin(spec(tmp_path, size=3, staleness=0))
    assert await dispatched(client) == [0, 1, 2]
    found = await asyncio.gather(*(offered(client, each, 1.0, -1.0) for each in range(3)), return_exceptions=True)
    assert [type(each) for each in found] == [type(None), GroupLost, type(None)]
    gone.clear()
    await offered(client, 1, 1.0, -1.0)
    batch = await client.take()
    assert sorted(each.id for each in batch.summaries) == [0, 1, 2]
    await client.trained()
    await client.close(1)


async def test_groups_that_are_dispatched_or_end_while_a_state_is_saved_are_in_it_once(tmp_path: Path) -> None:
    begun: list[int] = []

    class Busy(Filter):
        """While it is asked for what it holds, other calls come and go."""

        async def held(self, ids: Any) -> Any:
            found = await super().held(ids)
            if not begun:
                begun.append(0)
                await offered(client, 2, 1.0, -1.0)
                await client.drop(1, "timeout")
                await dispatched(client)
            return found

    client = FilterClient(lambda: InProcess(Busy()), put=lambda arrays: arrays)
    await client.begin(spec(tmp_path, size=3, staleness=0))
    assert await dispatched(client) == [0, 1, 2]
    await offered(client, 0, 1.0, -1.0)
    state = await client.save()
    assert [each.summary.id for each in state.waiting] == [0, 2]
    assert [each.prompt_id for each in state.interrupted] == ["p3"]
    assert [each.id for each in state.graded] == [0, 2]
    await client.close(1)


async def test_another_run_lets_go_whoever_waits_for_the_last_one(tmp_path: Path) -> None:
    client = whole_filter()
    await client.begin(spec(tmp_path / "first"))
    await client.admit()
    waiting = [asyncio.create_task(client.admit()), asyncio.create_task(client.take())]
    await asyncio.sleep(0)
    await client.begin(spec(tmp_path / "second"))
    assert await waiting[0] == []
    assert (await waiting[1]).summaries == ()
    assert await client.admit() == [0, 1, 2, 3]
    await client.close(1)


async def test_a_filter_that_was_told_of_no_run_says_so() -> None:
    with pytest.raises(RuntimeError, match="before it was told of a run"):
        await whole_filter().admit()
    with pytest.raises(RuntimeError, match="before it was told of a run"):
        await Filter().let_go([1], "")

"""The driver's side of the filter: what it sends together, and what it still holds."""

import asyncio
from types import SimpleNamespace
from typing import Any

from actors.filtering.filter import FilterClient
from tests.builders import summary


class Filter:
    """Refuses odd ids; `offer` takes a while, as a call to another process does."""

    def __init__(self) -> None:
        self.offers: list[tuple[list[int], tuple[Any, ...]]] = []
        self.kept: list[int] = []

    def actor(self) -> Any:
        methods = ("offer", "take")
        return SimpleNamespace(**{name: SimpleNamespace(remote=getattr(self, name)) for name in methods})

    async def offer(self, summaries: Any, *groups: Any) -> list[int]:
        ids = [each.id for each in summaries]
        self.offers.append((ids, groups))
        await asyncio.sleep(0.01)
        self.kept += [each for each in ids if each % 2 == 0]
        return [each for each in ids if each % 2]

    async def take(self) -> tuple[int, ...]:
        return tuple(reversed(self.kept))


async def test_groups_that_gather_while_an_offer_is_under_way_go_in_one_call_with_their_arrays() -> None:
    book = Filter()
    client = FilterClient(book.actor())
    await asyncio.gather(*(client.offer(summary([1.0], id=number), f"arrays {number}") for number in range(12)))
    assert sorted(each for ids, _ in book.offers for each in ids) == list(range(12))
    assert len(book.offers) <= 3
    assert all(groups == tuple(f"arrays {each}" for each in ids) for ids, groups in book.offers)


async def test_a_batch_has_the_summaries_and_arrays_of_its_ids_and_refused_groups_are_let_go() -> None:
    client = FilterClient(Filter().actor())
    await asyncio.gather(*(client.offer(summary([1.0], id=number), f"arrays {number}") for number in range(6)))
    assert sorted(each.id for each in client.graded()) == list(range(6))
    assert client.graded() == []  # each group once
    assert sorted(client._held) == [0, 2, 4]
    batch = await client.take()
    assert [each.id for each in batch.summaries] == [4, 2, 0]
    assert batch.groups == ("arrays 4", "arrays 2", "arrays 0")
    assert client._held == {}

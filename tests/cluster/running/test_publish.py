"""Publishing to generators that answer, hang, die or refuse; without Ray."""

import asyncio
from typing import Any

import pytest

from actors.errors import ActorDied, BrokenPart
from actors.pool import GeneratorPool
from actors.types import HeldWeights, LayerSums, WeightSums
from cluster.config.reading import config_of
from cluster.running.publish import Publisher
from learner.types import LostReceiver, Receivers, SyncStats
from tests.bench.scale_costs import DRIVER_CALLS

SECONDS = 0.2  # sync.timeout_seconds: what hangs here would hang for ever
SUMS: WeightSums = {"layer 0": LayerSums(4, 5)}
PROBE = (1, 2, 3)


class Double:
    """A generator that answers every call, but for the one at which it does as it is told."""

    def __init__(self, name: str, at: str = "", does: str = "") -> None:
        self.name, self.handle = name, self
        self.killed, self.calls = False, list[str]()
        self._at, self._does = at, does

    async def _called(self, method: str) -> None:
        self.calls.append(method)
        if method == self._at:
            if self._does == "hangs":
                await asyncio.Event().wait()
            raise {"dies": ActorDied, "fails": BrokenPart}[self._does](f"{self.name}: {self._does}")

    async def pause(self, in_flight: str) -> None:
        await self._called("pause")

    async def finish_update(self, version: int, sha256: bool) -> HeldWeights:
        await self._called("finish_update")
        return HeldWeights(version="4", sums=SUMS)

    async def give_up_update(self) -> None:
        await self._called("give_up_update")

    async def resume(self, probe: tuple[int, ...]) -> list[float]:
        await self._called("resume")
        return [-1.0, -2.0]

    def kill(self) -> None:
        self.killed = True


class Sender:
    """A learner that sends; `losing` names whom it loses in each try."""

    def __init__(self, *losing: str, hangs: bool = False) -> None:
        self.tries: list[list[str]] = []
        self._losing, self._hangs = list(losing), hangs

    async def publish(self, version: int, receivers: Receivers) -> SyncStats:
        names = [one.name for one in receivers.generators]
        self.tries.append(names)
        if self._hangs:
            await asyncio.Event().wait()
        lost = self._losing.pop(0) if self._losing else ""
        if lost:
            gone = LostReceiver(index=names.index(lost), why="did not answer within 9 s")
            return SyncStats(size=8, seconds=0.0, lost=(gone,))
        return SyncStats(size=8, seconds=0.0, sums=SUMS)

    async def probe(self, tokens: tuple[int, ...]) -> list[float]:
        return [-1.0, -2.0]


def publisher(sender: Any, *generators: Any, pool: GeneratorPool | None = None) -> Publisher:
    tree = {"world": {"name": "addition"}, "sync": {"timeout_seconds": SECONDS}, "model": {"dtype": "float32"}}
    return Publisher(sender, pool or GeneratorPool(generators), config_of(tree), "gloo", print)


async def test_a_sync_pauses_sends_compares_and_goes_on_with_the_probe() -> None:
    one = Double("a")
    report = await publisher(Sender(), one).publish(4, PROBE)
    assert one.calls == ["pause", "finish_update", "resume"]
    assert len(one.calls) == DRIVER_CALLS
    assert (report.size, report.probe_gap, report.probe_gap_mean, report.probe_doubts) == (8, 0.0, 0.0, 0)


@pytest.mark.parametrize("does", ["hangs", "dies"])
@pytest.mark.parametrize("at", ["pause", "finish_update", "resume", "give_up_update"])
async def test_a_generator_that_hangs_or_dies_at_any_step_is_taken_out_and_killed(at: str, does: str) -> None:
    good, bad, third = Double("a"), Double("b", at, does), Double("c")
    sender, pool = Sender("c") if at == "give_up_update" else Sender(), GeneratorPool([good, bad, third])  # type: ignore[list-item]
    await publisher(sender, pool=pool).publish(4, PROBE)
    assert bad.killed
    assert not good.killed
    assert good.calls[-1] == "resume"
    assert "b: " in pool.deaths["b"]
    assert sender.tries[-1] == {"pause": ["a", "c"], "give_up_update": ["a"]}.get(at, ["a", "b", "c"])


async def test_a_sync_in_which_a_receiver_was_lost_is_repeated_with_the_others() -> None:
    generators = {name: Double(name) for name in "abc"}
    sender, pool = Sender("b", "a"), GeneratorPool(list(generators.values()))  # type: ignore[arg-type]
    await publisher(sender, pool=pool).publish(4, PROBE)
    assert sender.tries == [["a", "b", "c"], ["a", "c"], ["c"]]
    assert [name for name, one in generators.items() if one.killed] == ["a", "b"]
    assert generators["c"].calls == ["pause", "give_up_update", "give_up_update", "finish_update", "resume"]
    assert pool.deaths == {name: f"{name}: did not answer within 9 s, in the sync of version 4" for name in "ba"}


async def test_without_a_generator_left_the_run_ends_with_what_each_one_said() -> None:
    with pytest.raises(BrokenPart, match=r"no generator is left\. b: did not answer.*; a: did not answer"):
        await publisher(Sender("b", "a"), Double("a"), Double("b")).publish(4, PROBE)


async def test_a_generator_that_lives_and_fails_is_lost_where_another_one_does_not_and_else_ends_the_run() -> None:
    both = Double("a"), Double("b", "resume", "fails")
    await publisher(Sender(), *both).publish(4, PROBE)
    assert [one.killed for one in both] == [False, True]
    with pytest.raises(BrokenPart, match="a: fails"):
        await publisher(Sender(), Double("a", "resume", "fails")).publish(4, PROBE)


async def test_a_learner_that_does_not_come_back_ends_the_run_with_its_reason() -> None:
    with pytest.raises(BrokenPart, match=r"learner: no answer within 0\.6 s \(to send version 4\)"):
        await publisher(Sender(hangs=True), Double("a")).publish(4, PROBE)


async def test_a_generator_that_has_started_takes_part_in_the_next_sync_and_gets_groups_only_then() -> None:
    old, new = Double("a"), Double("a.1")
    pool = GeneratorPool([old])  # type: ignore[list-item]
    bring = publisher(Sender(), pool=pool)
    await bring.publish(4, PROBE)
    pool.add_ready(new)  # type: ignore[arg-type]
    assert list(pool.alive) == ["a"]
    await bring.publish(4, PROBE)
    assert list(pool.alive) == ["a", "a.1"]
    assert new.calls == ["pause", "finish_update", "resume"]


async def test_a_new_generator_catches_up_alone_when_the_learner_is_free_and_holds_the_current_version() -> None:
    old, new = Double("a"), Double("a.1")
    pool, sender = GeneratorPool([old]), Sender()  # type: ignore[list-item]
    bring = publisher(sender, pool=pool)
    assert await bring.catch_up() == []  # nothing has been published yet
    await bring.publish(4, PROBE)
    pool.add_ready(new)  # type: ignore[arg-type]
    async with bring.sender.free:  # the learner is busy
        catching_up = asyncio.create_task(bring.catch_up())
        await asyncio.sleep(0.02)
        assert list(pool.alive) == ["a"]
    assert await catching_up == ["a.1"]
    assert sender.tries == [["a"], ["a.1"]]
    assert len(old.calls) == 3  # it was not disturbed


async def test_what_the_learner_has_trained_and_not_published_is_sent_to_no_generator() -> None:
    pool, sender = GeneratorPool([Double("a")]), Sender()  # type: ignore[list-item]
    bring = publisher(sender, pool=pool)
    await bring.publish(4, PROBE)
    pool.add_ready(Double("a.1"))  # type: ignore[arg-type]
    async with bring.training():
        catching_up = asyncio.create_task(bring.catch_up())
        await asyncio.sleep(0.01)
    assert await catching_up == await bring.catch_up() == []
    await bring.publish(4, PROBE)
    assert sender.tries == [["a"], ["a", "a.1"]]


async def test_a_generator_that_dies_while_it_catches_up_is_lost_and_the_others_go_on() -> None:
    old, new = Double("a"), Double("a.1", "finish_update", "dies")
    pool = GeneratorPool([old])  # type: ignore[list-item]
    bring = publisher(Sender(), pool=pool)
    await bring.publish(4, PROBE)
    pool.add_ready(new)  # type: ignore[arg-type]
    assert await bring.catch_up() == []
    assert list(pool.running) == ["a"]
    assert new.killed


async def test_a_sync_without_a_generator_waits_for_the_one_that_is_coming() -> None:
    dies, new = Double("a", "pause", "dies"), Double("a.1")
    pool = GeneratorPool([dies])  # type: ignore[list-item]
    pool.tend("a")
    publishing = asyncio.create_task(publisher(Sender(), pool=pool).publish(4, PROBE))
    await asyncio.sleep(0.02)
    assert not publishing.done()
    pool.add_ready(new)  # type: ignore[arg-type]
    await publishing
    assert list(pool.alive) == ["a.1"]

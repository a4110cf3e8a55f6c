"""Publishing to generators that answer, hang, die or refuse; without Ray."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.errors import ActorDied, BrokenPart
from actors.pool import GeneratorPool
from actors.types import HeldWeights, LayerSums, WeightSums
from cluster.config.reading import config_of
from cluster.running.publish import Publisher
from learner.types import LostReceiver, Receivers, SyncStats

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

    async def held_weights(self, sha256: bool = False) -> HeldWeights:
        await self._called("held_weights")
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
            gone = LostReceiver(index=names.index(lost), why="did not answer within 9 s", hangs=True)
            return SyncStats(size=8, seconds=0.0, lost=(gone,))
        return SyncStats(size=8, seconds=0.0, sums=SUMS)

    async def probe(self, tokens: tuple[int, ...]) -> list[float]:
        return [-1.0, -2.0]


def publisher(sender: Any, *generators: Any, say: Callable[[str], None] = lambda _: None) -> Publisher:
    tree = {"world": {"name": "addition"}, "sync": {"timeout_seconds": SECONDS}, "model": {"dtype": "float32"}}
    return Publisher(sender, GeneratorPool(generators), config_of(tree), "gloo", say)


async def test_a_sync_pauses_sends_compares_and_goes_on_with_the_probe() -> None:
    one = Double("a")
    report = await publisher(Sender(), one).publish(4, PROBE)
    assert one.calls == ["pause", "held_weights", "resume"]
    assert (report.size, report.probe_gap, report.probe_gap_mean, report.probe_doubts) == (8, 0.0, 0.0, 0)


@pytest.mark.parametrize("does", ["hangs", "dies"])
@pytest.mark.parametrize("at", ["pause", "held_weights", "resume", "give_up_update"])
async def test_a_generator_that_hangs_or_dies_at_any_step_is_taken_out_and_killed(at: str, does: str) -> None:
    said: list[str] = []
    good, bad, third = Double("a"), Double("b", at, does), Double("c")
    sender = Sender("c") if at == "give_up_update" else Sender()
    await publisher(sender, good, bad, third, say=said.append).publish(4, PROBE)
    assert bad.killed
    assert not good.killed
    assert good.calls[-1] == "resume"
    assert "b: " in said[-1]
    assert sender.tries[-1] == {"pause": ["a", "c"], "give_up_update": ["a"]}.get(at, ["a", "b", "c"])


async def test_a_sync_in_which_a_receiver_was_lost_is_repeated_with_the_others() -> None:
    said: list[str] = []
    generators = {name: Double(name) for name in "abc"}
    sender = Sender("b", "a")
    await publisher(sender, *generators.values(), say=said.append).publish(4, PROBE)
    assert sender.tries == [["a", "b", "c"], ["a", "c"], ["c"]]
    assert [name for name, one in generators.items() if one.killed] == ["a", "b"]
    assert generators["c"].calls == ["pause", "give_up_update", "give_up_update", "held_weights", "resume"]
    assert [line.split(". ")[1] for line in said] == [
        f"{name}: did not answer within 9 s, in the sync of version 4" for name in "ba"
    ]


async def test_without_a_generator_left_the_run_ends_with_what_each_one_said() -> None:
    with pytest.raises(BrokenPart, match=r"no generator is left\. b: did not answer.*; a: did not answer"):
        await publisher(Sender("b", "a"), Double("a"), Double("b")).publish(4, PROBE)


async def test_a_generator_that_lives_and_fails_ends_the_run() -> None:
    with pytest.raises(BrokenPart, match="a: fails"):
        await publisher(Sender(), Double("a", "resume", "fails")).publish(4, PROBE)


async def test_a_learner_that_does_not_come_back_ends_the_run_with_its_reason() -> None:
    with pytest.raises(BrokenPart, match=r"learner: no answer within 0\.6 s \(to send version 4\)"):
        await publisher(Sender(hangs=True), Double("a")).publish(4, PROBE)

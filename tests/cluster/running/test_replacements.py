"""Generators that die, hang, do not start, come and go; without Ray."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors.errors import ActorDied, BrokenPart, Hangs
from actors.pool import GeneratorPool
from actors.types import RolloutRequest, SamplingSpec
from cluster.config.reading import config_of
from cluster.placement.actors import Pulse
from cluster.running import replacements
from cluster.running.publish import Publisher
from cluster.running.replacements import Replacements
from cluster.running.specs import sampling_spec
from tests.builders import prompt
from tests.cluster.running.test_publish import PROBE, Sender
from tests.cluster.running.test_publish import Double as Syncing

SILENT = 0.3  # cluster.silent_seconds; what hangs here would hang for ever
REQUEST = RolloutRequest(group=4, prompt=prompt("7"), visit=0)


class Double(Syncing):
    """A generator that starts, samples and lives until it is told otherwise."""

    def __init__(self, name: str, at: str = "", does: str = "") -> None:
        super().__init__(name, at, does)
        self.sampling, self.hung = asyncio.Event(), asyncio.Event()
        self.end = asyncio.Event()  # of its process

    def kill(self) -> None:
        super().kill()
        self.end.set()

    async def created(self, seconds: float) -> None:
        await self._called("created")

    async def begin(self, run: SamplingSpec) -> None:
        await self._called("begin")

    async def start(self) -> None:
        await self._called("start")

    async def alive(self) -> None:
        await self._unless_ended(asyncio.sleep(0) if not self.hung.is_set() else asyncio.Event().wait())

    async def rollout(self, request: RolloutRequest) -> Any:
        self.sampling.set()
        await self._unless_ended(asyncio.sleep(0.02) if not self.hung.is_set() else asyncio.Event().wait())
        return request.group, self.name

    async def _unless_ended(self, answer: Awaitable[object]) -> None:
        answering, ending = asyncio.ensure_future(answer), asyncio.create_task(self.end.wait())
        await asyncio.wait({answering, ending}, return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()
        ending.cancel()
        if self.end.is_set():
            raise ActorDied(f"{self.name}: the process of vLLM's engine has ended. The last lines that it printed:\nx")


class Cluster:
    """Places with doubles; `faults` has what the first generators that are made there do, (at, does) each."""

    def __init__(
        self, fixed: int = 1, spare: int = 0, faults: list[tuple[str, str]] | None = None, evaluating: int = 0
    ) -> None:
        self.fixed = tuple(f"generator-{number}" for number in range(fixed))
        self.evaluating = tuple(f"evaluator-{number}" for number in range(evaluating))
        self.spare, self.is_whole = spare, True
        self.made: list[Double] = []
        self.rooms: asyncio.Queue[str] = asyncio.Queue()
        self.left: list[str] = []
        self.others: list[Pulse] = []
        self._faults = faults or []

    async def furnish(self) -> None:
        pass

    def create_generator(self, place: str) -> Any:
        number = sum(one.name.startswith(place) for one in self.made)
        fault = self._faults.pop(0) if self._faults else ("", "")
        self.made.append(Double(f"{place}.{number}" if number else place, *fault))
        return self.made[-1]

    async def room(self) -> str:
        return await self.rooms.get()

    def leave(self, place: str) -> None:
        self.left.append(place)

    def pulses(self) -> list[Pulse]:
        return self.others


class Run:
    """What is tended, and what was said of it."""

    def __init__(self, cluster: Cluster, sender: Any = None, *, colocated: bool = False) -> None:
        self.said: list[str] = []
        config = config_of({"world": {"name": "addition"}, "model": {"dtype": "float32"}})
        self.pool = GeneratorPool([cluster.create_generator(place) for place in cluster.fixed])
        self.publisher = Publisher(sender or Sender(), self.pool, config, "gloo", print)
        self.replacements = Replacements(
            cluster,
            self.pool,
            self.publisher,
            sampling_spec(config),
            self.said.append,
            silent_seconds=SILENT,
            colocated=colocated,
            pauses=(0.0, 0.0, 0.0),
        )

    async def go(self, story: Callable[[], Awaitable[None]]) -> None:
        async def published() -> None:
            await self.publisher.publish(4, PROBE)
            async with asyncio.timeout(20):
                await story()

        await self.replacements.start()
        await self.replacements.during(published())


async def test_a_generator_that_dies_is_replaced_and_the_new_one_catches_up_before_it_gets_a_group() -> None:
    cluster = Cluster()
    run = Run(cluster)

    async def story() -> None:
        rollout = asyncio.create_task(run.pool.rollout(REQUEST))
        await cluster.made[0].sampling.wait()
        cluster.made[0].end.set()
        assert await rollout == (4, "generator-0.1")

    await run.go(story)
    assert cluster.made[0].killed  # its actor may live without its engine
    assert cluster.made[1].calls == ["created", "begin", "start", "pause", "finish_update", "resume"]
    assert run.said == [
        "a generator is lost. generator-0: the process of vLLM's engine has ended. A new one is started in its place; "
        "no other is left, and groups wait",
        "generator-0.1 has started, and samples as soon as it holds the current weights",
    ]


async def test_a_generator_that_hangs_is_found_killed_and_replaced_though_nobody_waits_for_it() -> None:
    cluster = Cluster(2)
    run = Run(cluster)

    async def story() -> None:
        cluster.made[1].hung.set()
        while list(run.pool.alive) != ["generator-0", "generator-1.1"]:
            await run.pool.change()

    await run.go(story)
    assert cluster.made[1].killed
    assert "generator-1 hangs: no sign of life within 0.3 s (cluster.silent_seconds). A new one" in run.said[0]


async def test_an_engine_that_says_nothing_in_a_sync_does_not_hang() -> None:
    cluster = Cluster()
    run = Run(cluster)

    async def story() -> None:
        run.publisher.syncing = frozenset({"generator-0"})
        cluster.made[0].hung.set()
        await asyncio.sleep(3 * SILENT)
        cluster.made[0].hung.clear()
        run.publisher.syncing = frozenset()

    await run.go(story)
    assert not cluster.made[0].killed


async def test_on_a_shared_gpu_an_engine_starts_only_while_the_learner_rests() -> None:
    cluster = Cluster()
    run = Run(cluster, colocated=True)

    async def story() -> None:
        async with run.publisher.sender.free:  # the learner trains
            cluster.made[0].end.set()
            while len(cluster.made) < 2 or not cluster.made[1].calls:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert cluster.made[1].calls == ["created"]
        while not run.pool.alive:
            await run.pool.change()

    await run.go(story)


@pytest.mark.parametrize("at", ["created", "begin", "start", "pause"])
async def test_a_place_where_generators_fail_again_and_again_is_given_up_and_the_run_ends(at: str) -> None:
    cluster = Cluster(faults=[("", ""), *[(at, "dies")] * 3])
    run = Run(cluster)

    async def story() -> None:
        await run.pool.rollout(REQUEST)  # the first one has brought a group
        cluster.made[0].end.set()
        await asyncio.sleep(0.1)
        await run.pool.rollout(REQUEST)

    with pytest.raises(BrokenPart, match=r"(?s)no generator is left\. generator-0: .*generator-0\.3: dies"):
        await run.go(story)
    assert len(cluster.made) == 4
    assert all(one.killed for one in cluster.made)
    assert run.said[-1].endswith(". Its place is given up: 3 in a row have not brought a group")


async def test_a_generator_that_does_not_start_is_replaced_where_another_one_does() -> None:
    cluster = Cluster(2, faults=[("", ""), ("start", "dies")])
    run = Run(cluster)

    async def story() -> None:
        while len(run.pool.alive) < 2:
            await run.pool.change()

    await run.go(story)
    assert [one.name for one in cluster.made] == ["generator-0", "generator-1", "generator-1.1"]
    with pytest.raises(BrokenPart, match="generator-0: dies"):
        await Run(Cluster(2, faults=[("start", "dies")] * 2)).go(story)
    again = Run(Cluster(1, faults=[("begin", "dies")]))  # as a second run on the same actors would find it
    again.pool.finished["generator-0"] = 1

    async def second() -> None:
        assert list(again.pool.alive) == ["generator-0.1"]

    await again.go(second)


async def test_generators_are_added_while_there_is_room_and_go_with_it() -> None:
    cluster = Cluster(1, spare=2)
    run = Run(cluster)

    async def until(*names: str) -> None:
        while list(run.pool.alive) != list(names):
            await run.pool.change()

    async def story() -> None:
        cluster.rooms.put_nowait("generator-1")
        cluster.rooms.put_nowait("generator-2")
        await until("generator-0", "generator-1", "generator-2")
        cluster.made[1].end.set()
        await until("generator-0", "generator-2")
        while not cluster.left:
            await asyncio.sleep(0.01)
        assert cluster.left == ["generator-1"]
        cluster.rooms.put_nowait("generator-1")
        await until("generator-0", "generator-2", "generator-1.1")

    await run.go(story)
    assert "Another one is started when the cluster has room for it" in "".join(run.said)
    assert sorted(cluster.left[1:]) == ["generator-1", "generator-2"]
    assert list(run.pool.alive) == ["generator-0"]


async def test_an_elastic_generator_makes_room_for_a_part_of_the_layout_that_has_lost_its_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replacements, "GIVES_WAY", 0.02)
    cluster = Cluster(1, spare=1)
    run = Run(cluster)

    async def story() -> None:
        cluster.rooms.put_nowait("generator-1")
        while len(run.pool.alive) < 2:
            await run.pool.change()
        cluster.is_whole = False
        while not cluster.left:
            await asyncio.sleep(0.01)
        cluster.rooms.put_nowait("generator-1")
        await asyncio.sleep(0.1)
        assert cluster.rooms.qsize() == 1  # it is not asked for while the layout is not whole
        cluster.is_whole = True
        while len(run.pool.alive) < 2:
            await run.pool.change()

    await run.go(story)
    assert "generator-1 makes room for a part of the run that has lost its node" in run.said[1]


async def test_whatever_else_gives_no_sign_of_life_is_ended_and_its_name_said() -> None:
    cluster, ended = Cluster(), asyncio.Event()
    good, beats = Pulse(name="filter", ask=lambda: asyncio.sleep(0), end=pytest.fail, seconds=0.0), [0]

    async def beat() -> None:
        beats[0] += 1

    async def hang() -> None:
        await asyncio.Event().wait()

    counted = Pulse(name="verifier-0", ask=beat, end=lambda: pytest.fail("it lives"), seconds=0.0)
    cluster.others = [good, counted, Pulse(name="learner-rank-1", ask=hang, end=ended.set, seconds=0.0)]
    run = Run(cluster)

    async def story() -> None:
        await ended.wait()
        while beats[0] <= 3:
            await asyncio.sleep(0.01)

    await run.go(story)
    assert run.said == [
        "learner-rank-1 hangs: no sign of life within 0.3 s (cluster.silent_seconds): it is killed",
    ]


async def test_an_actor_that_says_itself_that_it_hangs_is_ended_at_once() -> None:
    cluster, ended = Cluster(), asyncio.Event()

    async def say() -> None:
        raise Hangs("verifier-0 hangs: its grading is over its time by 3 s")

    cluster.others = [Pulse(name="verifier-0", ask=say, end=ended.set, seconds=3600.0)]
    run = Run(cluster)

    async def story() -> None:
        await ended.wait()

    await run.go(story)
    assert run.said[0] == "verifier-0 hangs: its grading is over its time by 3 s: it is killed"


async def test_a_learner_that_fails_in_a_sync_of_a_new_generator_ends_the_run() -> None:
    class Failing(Sender):
        """Fails in its second sync."""

        async def publish(self, version: int, receivers: Any) -> Any:
            if self.tries:
                raise BrokenPart("learner failed: out of memory")
            return await super().publish(version, receivers)

    cluster = Cluster(2)
    run = Run(cluster, sender=Failing())

    async def story() -> None:
        cluster.made[1].end.set()
        await asyncio.Event().wait()

    with pytest.raises(BrokenPart, match="learner failed: out of memory"):
        await run.go(story)

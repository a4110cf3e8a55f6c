"""Evaluations beside training, on generators of their own, and between steps; with engines of paper."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.errors import ActorDied
from actors.pool import GeneratorPool
from actors.types import HeldWeights, RolloutRequest
from cluster.config.reading import config_of
from cluster.running.evaluate import Evaluator
from cluster.running.evaluations import Evaluations
from cluster.running.publish import Publisher
from cluster.running.replacements import Replacements
from cluster.running.room import Room
from cluster.running.signals import StopRequest
from cluster.running.specs import sampling_spec
from cluster.running.state import Counters
from learner.types import Receivers, SyncStats
from tests.builders import prompt, summary
from tests.cluster.running.test_publish import PROBE, SUMS, Sender
from tests.cluster.running.test_replacements import SILENT, Cluster, Double

PROMPTS = (prompt("eval/0"), prompt("eval/1"), prompt("eval/2"))


class Engine(Double):
    """Holds the version that it was sent last, and answers when it is let go."""

    def __init__(self, name: str, at: str = "", does: str = "") -> None:
        super().__init__(name, at, does)
        self.version, self.let_go = -1, asyncio.Event()

    async def finish_update(self, version: int, sha256: bool) -> HeldWeights:
        await super().finish_update(version, sha256)
        return HeldWeights(version=str(self.version), sums=SUMS)

    async def rollout(self, request: RolloutRequest) -> Any:
        self.sampling.set()
        await self._unless_ended(self.let_go.wait())
        return replace(summary([1.0, -1.0]), oldest_version=self.version), []


class Learner(Sender):
    """Its receivers hold what it sends."""

    async def publish(self, version: int, receivers: Receivers) -> SyncStats:
        for one in receivers.generators:
            one.actor.version = version
        return await super().publish(version, receivers)


class Places(Cluster):
    """Of engines; what is made in the place of a dead one answers at once."""

    def create_generator(self, place: str) -> Any:
        number = sum(one.name.startswith(place) for one in self.made)
        self.made.append(Engine(f"{place}.{number}" if number else place))
        self.made[-1].handle = self.made[-1]
        self.made[-1].actor = self.made[-1]
        if number:
            self.made[-1].let_go.set()
        return self.made[-1]


class Told:
    """A display and a reporter: what was said, and the clock of training."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.doings: list[str] = []
        self.known: dict[int, float] = {}
        self.advanced: list[str] = []
        self.say = self.said.append

    @property
    def seconds(self) -> float:
        return asyncio.get_running_loop().time()

    def doing(self, what: str) -> None:
        self.doings.append(what)

    def advance(self, what: str, done: int, total: int, note: str = "") -> None:
        self.advanced.append(what)

    def evaluated(self, step: int, accuracy: float) -> None:
        self.known[step] = accuracy


class Run:
    """A generator that trains, and so many that evaluate."""

    def __init__(self, folder: Path, evaluators: int = 1) -> None:
        config = config_of({"world": {"name": "addition"}, "model": {"dtype": "float32"}})
        self.told, self.stop, told = Told(), StopRequest(), Told()
        self.told = told
        self.places = Places(1, evaluating=evaluators)
        self.own = GeneratorPool([self.places.create_generator("generator-0")])
        self.pool = GeneratorPool([self.places.create_generator(place) for place in self.places.evaluating])
        self.engines = {one.name: one for one in self.places.made}
        self.engines["generator-0"].let_go.set()
        self.learner = Learner()
        self.publisher = Publisher(self.learner, self.own, config, "gloo", print)
        lending = Publisher(self.learner, self.pool, config, "gloo", print, sender=self.publisher.sender)
        self.replacements = Replacements(
            self.places,
            self.pool,
            lending,
            sampling_spec(config),
            told.say,
            silent_seconds=SILENT,
            evaluating=True,
            pauses=(0.0, 0.0, 0.0),
        )
        self.evaluator = Evaluator(prompts=PROMPTS, samples=2, file=folder / "e.jsonl", room=Room(print))
        self.evaluations = Evaluations(self.evaluator, self.own, self.pool, lending, told, told, self.stop)

    @property
    def lines(self) -> list[tuple[int, int, int]]:
        """(step, responses, evaluators) of each line."""
        return [(line["step"], line["responses"], line["evaluators"]) for line in self.evaluator.evaluated().values()]

    async def step(self, step: int) -> float | None:
        """Trains, publishes and evaluates."""
        async with self.publisher.training():
            pass
        await self.publisher.publish(step, PROBE)
        return await self.evaluations.run(Counters(step=step))

    async def go(self, story: Callable[[], Awaitable[None]]) -> None:
        async def told() -> None:
            async with asyncio.timeout(20):
                await story()

        await self.replacements.start()
        await self.replacements.during(told())


async def test_training_goes_on_while_the_version_of_the_step_is_evaluated(tmp_path: Path) -> None:
    run = Run(tmp_path, evaluators=2)
    one, two = (run.engines[f"evaluator-{number}"] for number in range(2))

    async def story() -> None:
        assert await run.step(4) is None
        assert run.evaluations.under_way == (4,)
        await one.sampling.wait()
        async with run.publisher.training():
            pass
        await run.publisher.publish(5, PROBE)
        assert (one.version, two.version, run.engines["generator-0"].version) == (4, 4, 5)
        assert not run.lines
        one.let_go.set()
        two.let_go.set()
        await run.evaluations.finish()
        assert run.evaluations.under_way == ()

    await run.go(story)
    assert run.lines == [(4, 6, 2)]
    assert run.told.known == {4: 0.5}
    assert run.learner.tries == [["generator-0"], ["evaluator-0", "evaluator-1"], ["generator-0"]]
    assert run.told.said[0].startswith("held-out accuracy after step 4: 0.500 (3 of 6 responses to 3 prompts); 2 eval")


async def test_the_next_evaluation_waits_for_the_one_before_and_its_line_says_how_long(tmp_path: Path) -> None:
    run = Run(tmp_path)
    engine = run.engines["evaluator-0"]

    async def story() -> None:
        await run.step(4)
        second = asyncio.create_task(run.step(8))
        while "waiting for the evaluation after step 4" not in run.told.doings:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert not second.done()
        assert engine.version == 4
        engine.let_go.set()
        assert await second is None
        assert engine.version == 8
        await run.evaluations.finish()

    await run.go(story)
    assert [line[0] for line in run.lines] == [4, 8]
    found = run.evaluator.evaluated()
    assert 0.05 <= found[4]["waited"] <= found[4]["seconds"] + 1
    run.told.said.clear()

    async def cost() -> None:
        run.evaluations.say_cost()

    await cost()
    assert "for 2 evaluations, " in run.told.said[0]


async def test_an_evaluator_that_dies_leaves_its_prompts_to_the_others_and_is_replaced(tmp_path: Path) -> None:
    run = Run(tmp_path, evaluators=2)
    one, two = (run.engines[f"evaluator-{number}"] for number in range(2))

    async def story() -> None:
        await run.step(4)
        await one.sampling.wait()
        one.end.set()
        two.let_go.set()
        await run.evaluations.finish()
        while "evaluator-0.1" not in run.pool.running:
            await run.pool.change()
        await run.step(8)
        await run.evaluations.finish()

    await run.go(story)
    assert run.lines == [(4, 6, 2), (8, 6, 2)]
    assert run.learner.tries[-1] == ["evaluator-1", "evaluator-0.1"]
    assert any("A new one is started in its place" in said for said in run.told.said)
    assert "evaluator-0.1 has started, and takes part in the next evaluation" in run.told.said


@pytest.mark.parametrize("how", ["dies", "hangs"])
async def test_an_evaluation_whose_generators_are_all_lost_is_named_and_training_goes_on(
    tmp_path: Path, how: str
) -> None:
    run = Run(tmp_path)
    engine = run.engines["evaluator-0"]

    async def story() -> None:
        await run.step(4)
        await engine.sampling.wait()
        (engine.end if how == "dies" else engine.hung).set()
        await run.evaluations.finish()
        while not run.pool.ready:
            await run.pool.change()
        await run.step(8)
        await run.evaluations.finish()

    await run.go(story)
    assert run.lines == [(8, 6, 1)]
    assert any(said.startswith("the evaluation after step 4 is lost, and training goes on. ") for said in run.told.said)


async def test_without_any_evaluator_left_the_runs_generators_evaluate_and_training_waits(tmp_path: Path) -> None:
    run = Run(tmp_path)
    await run.publisher.publish(4, PROBE)
    run.pool.remove_dead("evaluator-0", "evaluator-0: gone")
    assert await run.evaluations.run(Counters(step=4)) == 0.5
    assert run.lines == [(4, 6, 0)]
    assert "no evaluator is there: the run's generators evaluate step 4, and training waits" in run.told.said
    assert run.evaluator.evaluated()[4]["waited"] >= run.evaluator.evaluated()[4]["seconds"] * 0.5


async def test_an_evaluator_that_fails_in_its_sync_is_replaced_and_the_others_evaluate(tmp_path: Path) -> None:
    run = Run(tmp_path, evaluators=2)
    run.engines["evaluator-1"].let_go.set()

    async def died(in_flight: str) -> None:
        raise ActorDied("evaluator-0: dies")

    run.engines["evaluator-0"].pause = died  # type: ignore[method-assign]
    await run.publisher.publish(4, PROBE)
    await run.evaluations.run(Counters(step=4))
    await run.evaluations.finish()
    assert run.lines == [(4, 6, 1)]
    assert list(run.pool.running) == ["evaluator-1"]


async def test_no_step_is_evaluated_twice_and_none_once_the_run_is_asked_to_stop(tmp_path: Path) -> None:
    run = Run(tmp_path)
    engine = run.engines["evaluator-0"]
    engine.let_go.set()
    await run.publisher.publish(4, PROBE)
    await run.evaluations.run(Counters(step=4))
    await run.evaluations.finish()
    assert await run.evaluations.run(Counters(step=4)) is None  # as a run that goes on would
    assert run.evaluations.under_way == ()
    engine.let_go.clear()
    await run.publisher.publish(8, PROBE)
    await run.evaluations.run(Counters(step=8))
    run.stop.asked.set()
    ending = asyncio.create_task(run.evaluations.run(Counters(step=12)))
    await asyncio.sleep(0.02)
    assert not ending.done()  # what is under way comes to its end
    engine.let_go.set()
    assert await ending is None
    assert [line[0] for line in run.lines] == [4, 8]


async def test_what_is_given_up_at_the_end_is_said_and_leaves_no_line(tmp_path: Path) -> None:
    run = Run(tmp_path)
    await run.publisher.publish(4, PROBE)
    await run.evaluations.run(Counters(step=4))
    await run.evaluations.close(0.02)
    assert run.told.said == ["the evaluation after step 4 was not over, and is given up"]
    await run.evaluations.close(0.02)
    await run.evaluations.finish()
    assert not run.lines
    run.evaluations.say_missing(4)
    assert run.told.said[-1].startswith("the evaluation after step 4 was not over when the run ended")


async def test_whoever_gives_up_waiting_does_not_end_the_evaluation(tmp_path: Path) -> None:
    run = Run(tmp_path)
    await run.publisher.publish(4, PROBE)
    await run.evaluations.run(Counters(step=4))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await run.evaluations.finish()
    run.engines["evaluator-0"].let_go.set()
    await run.evaluations.finish()
    assert [line[0] for line in run.lines] == [4]

"""One run with the real parts: generators and a verifier die and hang in every way, and a node comes and goes."""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from actors.engines import OWN_PROCESS
from actors.filtering.ledger import check_conservation
from actors.rollouts.client import GeneratorClient
from cluster.placement.actors import RunActors, running_actors
from cluster.placement.nodes import nodes_there
from cluster.placement.session import layout_for, settled
from cluster.preparing.folders import make_run_folder, write_config
from cluster.preparing.preflight import prepare
from cluster.preparing.world import write_world
from cluster.running.replacements import place_of
from cluster.running.run import Run
from tests.runs import demo, metrics_of, responses_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("own_ray"),
    # Ray's Cluster leaves a socket open until it is collected as garbage.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
SETTINGS = (
    "cluster.generators=1..2",
    "cluster.silent_seconds=20",
    f"cluster.env.{OWN_PROCESS}=1",  # so that an engine can be killed alone
    "rollout.max_staleness=1",
    "run.steps=1000000",  # it ends when all has been done to it
    "warmup.updates=40",
)
LAYOUT = 1.0  # CPUs that the layout takes: one node has them, another one has room for an elastic generator


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    there = Cluster(initialize_head=True, head_node_args={"num_cpus": LAYOUT, "include_dashboard": False})
    ray.init(address=there.address, log_to_driver=False)
    yield there
    ray.shutdown()
    there.shutdown()


class Said:
    """What a person would have read."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps = 0

    def say(self, text: str) -> None:
        print(text)
        self.lines.append(text)

    def status(self, text: str, *, line: bool = True) -> None:
        """Not looked at."""

    def advance(self, what: str, done: int, total: int, note: str = "") -> None:
        """Not looked at."""

    def step(self, metrics: Any, sample: str = "") -> None:
        self.steps = metrics["step"]


class Faults:
    """A run, and what is done to it."""

    def __init__(self, run: Run, actors: RunActors, said: Said) -> None:
        self.said, self.actors, self.pool, self.publisher = said, actors, actors.generators, run.publisher
        self.struck: list[str] = []  # generators that were dealt with, in this order

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(1200):
            while not what():
                await asyncio.sleep(0.02)

    async def end_engine_before_the_first_sync(self) -> None:
        """Of a run whose engines have just started."""
        os.kill((await self.processes(self.pool.alive["generator-0"]))[1], signal.SIGKILL)

    async def all(self, nodes: Cluster) -> None:
        """Every other fault in turn. After each the run makes two steps more with generators that are there then."""
        await self.strikes(await self.goes_on(), signal.SIGKILL, engine=False)
        await self.strikes(await self.goes_on(), signal.SIGSTOP, engine=True)
        verifier = self.actors.places.verifiers[0].handle
        process = await asyncio.to_thread(ray.get, verifier.__ray_call__.remote(lambda _: os.getpid()))
        os.kill(process, signal.SIGSTOP)
        node = nodes.add_node(num_cpus=LAYOUT)  # Ray wants the main thread for it
        await self.goes_on(elastic=True)
        await self.strikes(await self.goes_on(), signal.SIGKILL, engine=True, when=lambda: bool(self.publisher.syncing))
        nodes.remove_node(node)
        await self.until(lambda: all(place_of(name) == "generator-0" for name in self.pool.running))
        await self.goes_on()

    async def goes_on(self, *, elastic: bool = False) -> str:
        """Waits until a generator has brought a group, and two steps more are done; gives its name."""

        def found() -> list[str]:
            there = [name for name in self.pool.alive if (place_of(name) != "generator-0") == elastic]
            return [name for name in there if self.pool.finished[name]]

        await self.until(lambda: bool(found()))
        steps = self.said.steps
        await self.until(lambda: self.said.steps > steps + 1 and bool(found()))
        return found()[0]

    async def strikes(
        self, name: str, number: signal.Signals, *, engine: bool, when: Callable[[], bool] = lambda: True
    ) -> None:
        """A signal to a generator, or to its engine, while it has groups in hand."""
        process = (await self.processes(self.pool.alive[name]))[engine]
        await self.until(lambda: self.pool._groups[name] > 0 and when())
        os.kill(process, number)
        await self.until(lambda: name not in self.pool.running)
        self.struck.append(name)

    async def processes(self, generator: GeneratorClient) -> tuple[int, int]:
        """(that of the actor, that of its engine)."""
        look = generator.handle.__ray_call__.remote(
            lambda _: (os.getpid(), [one.pid for one in multiprocessing.active_children()])
        )
        actor, (engine,) = await asyncio.to_thread(ray.get, look)
        return actor, engine


def test_the_only_generator_dies_and_hangs_in_every_way_and_no_group_is_lost(tmp_path: Path, cluster: Cluster) -> None:
    config = demo(tmp_path, *SETTINGS)
    folder = make_run_folder(config.run.name, Path(config.run.folder))
    prepared, said = prepare(write_world(config, folder)), Said()
    write_config(config, folder)
    layout = layout_for(prepared.config, nodes_there())
    prepared = settled(prepared, layout)
    with running_actors(prepared, layout) as actors:
        run = Run(prepared, actors, folder, said)
        faults = Faults(run, actors, said)
        start = run._start

        async def start_and_die() -> None:
            await start()
            await faults.end_engine_before_the_first_sync()

        run._start = start_and_die  # type: ignore[method-assign]
        asyncio.run(beside(run.go(), faults.all(cluster)))
    lines, rows = metrics_of(folder), responses_of(folder)
    for line in lines:
        check_conservation(line)
        assert line["probe_gap"] < 1e-3
        assert line["staleness_max"] <= 1
        assert line["generators"] in (0, 1, 2)
    assert max(line["generators"] for line in lines) == 2
    assert lines[-1]["groups_failed"] == lines[-1]["groups_dropped"] == 0
    assert sum(line["responses_error"] + line["responses_timeout"] for line in lines) == 0
    siblings = Counter(row["group"] for row in rows)
    assert set(siblings.values()) == {config.rollout.group_size}  # a group that was sampled again counts once
    trained = {row["group"] for row in rows if row["rejected"] == ""}
    assert len(trained) >= lines[-1]["groups_trained"]
    assert all(min(row["versions"][-1:]) >= 0 for row in rows)
    lost = [line for line in said.lines if line.startswith("a generator is lost. ")]
    assert "verifier-0 hangs: no sign of life within 20 s (cluster.silent_seconds): it is killed" in said.lines
    noticed = (" hangs: no sign of life within 20 s", ": no answer within 300 s (to pause)")  # by a sync, if one begins
    assert any(f"{faults.struck[1]}{how}" in line for line in lost for how in noticed)
    assert any("Another one is started when the cluster has room for it" in line for line in lost)
    assert all(len(line) < 600 and "\n" not in line for line in lost)


async def beside(run: Coroutine[Any, Any, None], faults: Coroutine[Any, Any, None]) -> None:
    """A run until all faults are done; whoever fails first is heard."""
    going, doing = asyncio.create_task(run), asyncio.create_task(faults)
    await asyncio.wait({going, doing}, return_when=asyncio.FIRST_COMPLETED)
    if going.done():
        going.result()
    going.cancel()
    await asyncio.wait({going})
    doing.result()

"""One run with the real parts in which generators die and hang in every way, one after the other."""

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.filtering.ledger import check_conservation
from cluster.placement.actors import running_actors
from cluster.placement.session import layout_for, settled
from cluster.preparing.folders import make_run_folder, write_config
from cluster.preparing.preflight import prepare
from cluster.preparing.world import write_world
from cluster.running.run import Run
from tests.runs import CPUS, demo, metrics_of, responses_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("own_ray")]
SETTINGS = ("rollout.max_staleness=1", "cluster.silent_seconds=15", "run.steps=1000000", "warmup.updates=40")


class Said:
    """What a person would have read."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps = 0

    def say(self, text: str) -> None:
        print(f"{time.monotonic():.1f} {text}", file=sys.stderr)
        self.lines.append(text)

    def status(self, text: str) -> None:
        """Not looked at."""

    def step(self, metrics: Any) -> None:
        self.steps = metrics["step"]


def pids(generator: Any) -> tuple[int, int]:
    """(process of the actor, process of its engine)."""
    look = generator.handle.__ray_call__.remote(
        lambda _: (os.getpid(), [one.pid for one in multiprocessing.active_children()])
    )
    actor, engines = ray.get(look)
    assert len(engines) == 1
    return actor, engines[0]


class Faults:
    """A run, and what is done to it."""

    def __init__(self, run: Run, said: Said) -> None:
        self.run, self.said, self.pool = run, said, run._actors.generators

    async def until(self, what: Callable[[], bool], seconds: float = 300.0) -> None:
        async with asyncio.timeout(seconds):
            while not what():
                await asyncio.sleep(0.02)

    async def sampling(self) -> Any:
        """A generator that has brought a group and has others in hand."""
        await self.until(lambda: any(self.pool.finished[name] and self.pool._groups[name] for name in self.pool.alive))
        return next(one for name, one in self.pool.alive.items() if self.pool.finished[name] and self.pool._groups[name])

    async def send(self, number: int, *, engine: bool, when: Callable[[], bool] = lambda: True) -> None:
        """A signal to a generator that samples, or to its engine."""
        generator = await self.sampling()
        process = (await asyncio.to_thread(pids, generator))[engine]
        await self.until(when)
        os.kill(process, number)
        started = time.monotonic()
        await self.until(lambda: generator.name not in self.pool.alive)
        found = time.monotonic()
        await self.until(lambda: any(self.pool.finished[name] for name in self.pool.alive))
        step = self.said.steps
        await self.until(lambda: self.said.steps > step + 1)
        print(f"found after {found - started:.1f} s, back after {time.monotonic() - started:.1f} s", file=sys.stderr)


def test_the_only_generator_dies_and_hangs_in_every_way_and_nothing_is_lost(tmp_path: Path) -> None:
    config = demo(tmp_path, *SETTINGS)
    folder = make_run_folder(config.run.name, Path(config.run.folder))
    prepared, said = prepare(write_world(config, folder)), Said()
    write_config(config, folder)
    ray.init(address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False)
    layout = layout_for(config, {"here": {"CPU": float(CPUS), "GPU": 0.0}})
    prepared = settled(prepared, layout)
    with running_actors(prepared, layout) as actors:
        run = Run(prepared, actors, folder, said)
        plain_start = run._start

        async def start_and_die() -> None:
            await plain_start()
            os.kill((await asyncio.to_thread(pids, run._actors.generators.alive["generator-0"]))[1], signal.SIGKILL)

        run._start = start_and_die  # type: ignore[method-assign]

        async def story() -> None:
            going = asyncio.create_task(run.go())
            faults = Faults(run, said)
            syncing = lambda: bool(run.publisher.syncing)  # noqa: E731
            for fault in (
                faults.send(signal.SIGKILL, engine=True),
                faults.send(signal.SIGKILL, engine=False),
                faults.send(signal.SIGSTOP, engine=True),
                faults.send(signal.SIGKILL, engine=True, when=syncing),
            ):
                doing = asyncio.ensure_future(fault)
                await asyncio.wait({going, doing}, return_when=asyncio.FIRST_COMPLETED)
                if going.done():
                    going.result()
                await doing
            going.cancel()
            await asyncio.wait({going})

        asyncio.run(story())
    ray.shutdown()
    lines = metrics_of(folder)
    for line in lines:
        check_conservation(line)
        assert line["probe_gap"] < 1e-3
        assert line["staleness_max"] <= 1
    assert lines[-1]["groups_failed"] == lines[-1]["groups_dropped"] == 0  # no group is lost
    trained = [row for row in responses_of(folder) if row["rejected"] == ""]
    print(said.lines)
    assert Counter(len({row["group"] for row in trained}) for _ in "x")

"""What a sync does when a generator dies or hangs in the middle of it, or a learner rank fails, with the real parts."""

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.data.world import ALPHABET
from actors.errors import BrokenPart
from learner.models.tiny import write_tiny_model
from learner.settings import LearnerSettings
from tests.actors.transfer.test_weights import ALGORITHM, PROBE, publisher_of, start_generators
from tests.gpu.syncs import in_the_next_pass
from tests.learner.test_engine import ranks_of, train
from tests.runs import Runs

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
SECONDS = 36  # sync.timeout_seconds: a third of it for each step, on a machine that may be busy


@pytest.fixture(scope="module")
def session(_runs: Runs) -> Iterator[None]:
    _runs.end()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def ranks(session: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two ZeRO-3 ranks that gather every parameter where it is used, and the folder of their model."""
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet=ALPHABET, seed=1, tied=True)
    settings = LearnerSettings(zero_stage=3, micro_batch_tokens=64, logit_chunk=1024)
    return ranks_of(settings, folder, 2, ALGORITHM), folder


def engine_of(generator: Any) -> int:
    """The process of a generator's engine."""
    pids = ray.get(generator.__ray_call__.remote(lambda _: [one.pid for one in multiprocessing.active_children()]))
    assert len(pids) == 1
    return int(pids[0])


def is_there(pid: int) -> bool:
    """Whether a process lives, if only stopped."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "(zombie)" not in status.read_text()


def kill_all(generators: dict[str, Any]) -> None:
    for one in generators.values():
        ray.kill(one)


def test_a_generator_that_dies_in_a_send_is_left_out_and_the_sync_repeated_until_none_is_left(ranks: Any) -> None:
    actors, folder = ranks
    generators, said = start_generators(folder, 2), list[str]()
    publisher = publisher_of(actors, generators, said, timeout_seconds=SECONDS)
    first, second = (engine_of(generators[name]) for name in ("generator-1", "generator-0"))

    async def story() -> None:
        await publisher.publish(0, PROBE)
        assert said == []  # learner and generators agree over every weight
        in_the_next_pass(actors[0], lambda: os.kill(first, signal.SIGKILL))
        assert (await publisher.publish(1, PROBE)).probe_gap < 1e-3
        (lost,) = publisher._pool.deaths.values()
        assert "generator-1" in lost
        assert "did not answer" not in lost
        await asyncio.to_thread(train, actors, 1, ALGORITHM)
        assert (await publisher.publish(2, PROBE)).probe_gap < 1e-3
        in_the_next_pass(actors[0], lambda: os.kill(second, signal.SIGKILL))
        with pytest.raises(BrokenPart, match=r"no generator is left\. generator-1: .*generator-0: .*sync of version 3"):
            await publisher.publish(3, PROBE)

    asyncio.run(story())
    assert gone(first, generators["generator-1"])
    kill_all(generators)


def test_a_generator_that_hangs_in_a_send_is_ended_and_the_sync_repeated(ranks: Any) -> None:
    actors, folder = ranks
    generators = start_generators(folder, 2)
    publisher = publisher_of(actors, generators, timeout_seconds=SECONDS)
    victim = engine_of(generators["generator-1"])

    async def story() -> None:
        await publisher.publish(0, PROBE)
        in_the_next_pass(actors[0], lambda: os.kill(victim, signal.SIGSTOP))
        assert (await publisher.publish(1, PROBE)).probe_gap < 1e-3
        lost = publisher._pool.deaths["generator-1"]
        assert f"generator-1: did not answer within {SECONDS} s, in the sync of version 1" in lost
        assert list(publisher._pool.alive) == ["generator-0"]

    asyncio.run(story())
    assert ray.get(generators["generator-0"].held_weights.remote()).version == "1"
    assert gone(victim, generators["generator-1"])
    kill_all(generators)


def test_a_rank_that_fails_in_a_send_ends_the_run_and_leaves_no_rank_in_a_gather(ranks: Any) -> None:
    actors, folder = ranks
    generators = start_generators(folder, 1)

    def fail() -> None:
        raise RuntimeError("out of memory, say")

    async def story(number: int) -> None:
        publisher = publisher_of(actors, generators, timeout_seconds=SECONDS)
        await publisher.publish(0, PROBE)
        in_the_next_pass(actors[number], fail)
        with pytest.raises(BrokenPart, match="out of memory, say"):
            await publisher.publish(1, PROBE)

    for number in (1, 0):
        asyncio.run(story(number))
        first, second = ray.get([one.probe.remote(PROBE) for one in actors], timeout=60)  # both have come back
        assert first == second
    kill_all(generators)


def gone(pid: int, generator: Any) -> bool:
    """Whether a process has ended, or does so within some seconds."""
    for _ in range(100):
        if not is_there(pid):
            return True
        ray.wait([generator.probe.remote(PROBE)], timeout=0.2)  # an actor that lives reaps it by that
        time.sleep(0.1)
    return False

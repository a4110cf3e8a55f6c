"""An engine in two tensor-parallel processes inside a Ray actor, as on GPUs, with the learner's weights."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from actors.arrow import unpacked
from actors.data.world import ALPHABET
from actors.settings import GeneratorSettings, RolloutSettings
from actors.types import EngineSpec, RolloutRequest, SamplingSpec
from learner.models.tiny import write_tiny_model
from tests.actors.transfer.test_weights import ALGORITHM, ENV, PROBE, learners, pool_of
from tests.builders import prompt
from tests.learner.test_engine import train

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file


def two_processes(model: Path) -> Any:
    from actors.grading.verifier import Verifier
    from actors.rollouts.generator import Generator
    from rewards import RewardSettings

    spec = EngineSpec(
        model=str(model),
        dtype="float32",
        seed=0,
        max_model_len=128,
        tensor_parallel=2,
        backend="gloo",
        on_cpu=True,
        engine=GeneratorSettings(max_sequences=32),
    )
    run = SamplingSpec(
        seed=0, rollout=RolloutSettings(group_size=4, max_new_tokens=32), reward=RewardSettings(), greedy=False
    )
    verifier = ray.remote(Verifier).options(num_cpus=0).remote({})
    actor = ray.remote(Generator).options(num_cpus=0, runtime_env={"env_vars": ENV}, max_concurrency=64)
    generator = actor.remote(spec, [verifier])
    ray.get(generator.start.remote())
    ray.get(generator.begin.remote(run))
    return generator


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _processes(_: Any) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process().children(recursive=True)]


@pytest.mark.usefixtures("own_ray")
def test_two_shards_compute_what_the_learner_computes_and_end_with_their_actor(tmp_path: Path) -> None:
    from cluster.config.reading import config_of
    from cluster.running.publish import Publisher
    from learner.client import LearnerClient

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    write_tiny_model(tmp_path, alphabet=ALPHABET, seed=1, tied=True, heads=4)
    ranks, generator = learners(tmp_path, stage=2, ranks=1), two_processes(tmp_path)
    tree = {"world": {"name": "addition"}, "model": {"dtype": "float32"}, "cluster": {"tensor_parallel": 2}}
    pool = pool_of({"generator-0": generator})
    publisher = Publisher(LearnerClient(lambda: ranks), pool, config_of(tree), "gloo", print, bucket_bytes=2**18)
    processes = ray.get(generator.__ray_call__.remote(_processes))
    assert len(processes) >= 3  # the engine and a worker for each shard

    async def story() -> tuple[list[float], Any]:
        gaps = [(await publisher.publish(0, PROBE)).probe_gap]
        await asyncio.to_thread(train, ranks, 1, ALGORITHM)
        gaps.append((await publisher.publish(1, PROBE)).probe_gap)
        flying = generator.rollout.remote(RolloutRequest(group=0, prompt=prompt("0", [1, 2, 10, 3, 11]), visit=0))
        return gaps, unpacked((await asyncio.gather(*flying))[1])

    gaps, batch = asyncio.run(story())
    assert max(gaps) < 1e-3
    rows = zip(batch.column("versions").to_pylist(), batch.column("sampled").to_pylist(), strict=True)
    assert all(set(np.array(row)[sampled]) == {1} for row, sampled in rows)
    ray.kill(generator)
    while any(map(lives, processes)):
        time.sleep(0.2)
    ray.shutdown()

"""Syncs of a real learner rank with real engines where it matters how they lie: an engine over two GPUs, and an engine
that is killed while the learner sends. The actors are placed by hand, which leaves out layouts and runs."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ray

from actors.arrow import unpacked
from actors.data.world import ALPHABET
from actors.engines import OWN_PROCESS
from actors.grading.verifier import VERIFIER_THREADS, Verifier
from actors.pool import GeneratorPool
from actors.rollouts.client import GeneratorClient
from actors.rollouts.generator import Generator
from actors.settings import GeneratorSettings, RolloutSettings
from actors.types import EngineSpec, RolloutRequest, SamplingSpec
from cluster.commands.checks.apart import processes_below
from cluster.config.reading import config_of
from cluster.placement.environment import environment, learner_environment
from cluster.running.publish import Publisher
from learner.actor import THREADS, LearnerRank
from learner.client import LearnerClient
from learner.methods.algorithms import algorithm_of
from learner.models.tiny import write_tiny_model
from learner.settings import LearnerSettings
from rewards import RewardSettings
from tests.builders import prompt
from tests.learner.test_engine import opened, train

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
PROBE = (1, 2, 10, 3, 4, 11, 5, 5)
ALGORITHM = algorithm_of("reinforce-rej")
SAME = 1e-3  # nats, that learner and engine may differ in float32
SECONDS = 36  # sync.timeout_seconds: a third of it for each step, on a machine that may be busy
BUCKET = 2**18  # bytes, so that a small model is sent in many pieces
SENT_BEFORE = 10  # tensors of a pass over the weights: some pieces are sent by then, and most are not
SHARE = 0.2  # of a GPU, for an engine that may share it with the learner


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The actors of a trial."""

    rank: Any
    generators: dict[str, Any]
    publisher: Publisher
    pool: GeneratorPool
    said: list[str]  # what the publisher told the person


def measure_tensor_parallel(device: str, backend: str = "gloo") -> dict[str, float]:
    """Syncs an engine of two workers with a learner twice, before and after an update, samples from it, and ends it.

    Args:
        device: "cuda" or "cpu".
        backend: of the sync; with "nccl" the learner has a GPU of its own.

    Raises:
        AssertionError: engine and learner differ, a weight has not arrived, or a process of the engine is left.
    """
    own = backend == "nccl"
    with _cast(device, backend, [(1, 2) if own else (0, 1)], tensor_parallel=2) as cast:
        gaps, seconds = [], []

        async def story() -> Any:
            for version in range(2):
                report = await cast.publisher.publish(version, PROBE)  # compares the digests of every weight, too
                gaps.append(report.probe_gap)
                seconds.append(report.seconds)
                if not version:
                    await asyncio.to_thread(train, [cast.rank], 1, ALGORITHM)
            request = RolloutRequest(group=0, prompt=prompt("0", [1, 2, 10, 3, 11]), visit=0)
            return unpacked((await asyncio.gather(*cast.generators["generator-0"].rollout.remote(request)))[1])

        batch = asyncio.run(story())
        assert max(gaps) < SAME, f"learner and engine differ by {max(gaps)} nats"
        assert cast.said == [], cast.said
        rows = zip(batch.column("versions").to_pylist(), batch.column("sampled").to_pylist(), strict=True)
        assert all(set(np.array(row)[sampled]) == {1} for row, sampled in rows), "not all tokens are of version 1"
        processes = _processes_of(cast.generators["generator-0"])
        assert len(processes) >= 3, "an engine over two GPUs is a process, and one for each of them"
        ray.kill(cast.generators["generator-0"])
        assert _gone(processes), "a process of the engine has outlived its actor"
    return {"probe_gap": max(gaps), "seconds_sync": min(seconds)}


def measure_killed(device: str) -> dict[str, float]:
    """Two generators, the engine of one of which is killed when the learner has sent a part of the weights. The sync is
    repeated with the other one, which then holds every weight; so is the next, after an update.

    Raises:
        AssertionError: the sync does not come through, not in time, or the wrong generator is given up.
    """
    backend = "nccl" if device == "cuda" else "gloo"
    with _cast(device, backend, [(1,), (2,)]) as cast:
        victim = _engine_of(cast.generators["generator-1"])

        async def story() -> list[Any]:
            reports = [await cast.publisher.publish(0, PROBE)]
            in_the_next_pass(cast.rank, partial(os.kill, victim, signal.SIGKILL))
            reports.append(await cast.publisher.publish(1, PROBE))
            await asyncio.to_thread(train, [cast.rank], 1, ALGORITHM)
            return [*reports, await cast.publisher.publish(2, PROBE)]

        reports = asyncio.run(story())
        assert list(cast.pool.alive) == ["generator-0"], f"{list(cast.pool.alive)} are left"
        assert list(cast.pool.deaths) == ["generator-1"], cast.pool.deaths
        why = cast.pool.deaths["generator-1"]
        assert "did not answer" not in why, f"its end was noticed by the timeout only: {why}"
        gap = max(report.probe_gap for report in reports)
        assert gap < SAME, f"learner and engine differ by {gap} nats"
        assert _gone([victim])
    return {"probe_gap": gap, "seconds_killed": reports[1].seconds, "seconds_sync": reports[2].seconds}


@contextmanager
def _cast(device: str, backend: str, gpus: Sequence[tuple[int, ...]], tensor_parallel: int = 1) -> Iterator[Cast]:
    """A learner rank on the first GPU and an engine on each of these, all of one model in float32."""
    on_gpu, said = device == "cuda", list[str]()
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # Ray counts no GPUs here, and must not hide them
    tree = {
        "world": {"name": "addition"},
        "model": {"dtype": "float32"},
        "cluster": {"generators": len(gpus), "tensor_parallel": tensor_parallel, "env": {OWN_PROCESS: "1"}},
        "sync": {"timeout_seconds": SECONDS},
    }
    config = config_of(tree).on_device(on_gpu)
    env = environment(config, backend, on_gpu=on_gpu)

    def options(visible: tuple[int, ...], **more: str) -> Any:
        seen = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, visible)) if on_gpu else ""}
        return {"num_cpus": 0, "runtime_env": {"env_vars": env | more | seen}}

    with TemporaryDirectory() as folder:
        ray.init(address="local", num_cpus=4, num_gpus=0, include_dashboard=False, log_to_driver=False)
        try:
            write_tiny_model(Path(folder), alphabet=ALPHABET, seed=1, tied=True, heads=4)
            rank = _rank(Path(folder), options((0,), **learner_environment(config, on_gpu=on_gpu)))
            spec = EngineSpec(
                model=folder,
                dtype="float32",
                seed=0,
                max_model_len=128,
                tensor_parallel=tensor_parallel,
                backend=backend,
                on_cpu=not on_gpu,
                engine=GeneratorSettings(max_sequences=32, memory_share=SHARE),
            )
            generators = _generators(spec, [options(visible) for visible in gpus])
            pool = GeneratorPool([GeneratorClient(name, actor) for name, actor in generators.items()])
            learner = LearnerClient(lambda: [rank])
            publisher = Publisher(learner, pool, config, backend, said.append, bucket_bytes=BUCKET)
            yield Cast(rank=rank, generators=generators, publisher=publisher, pool=pool, said=said)
        finally:
            ray.shutdown()


def _rank(model: Path, options: dict[str, Any]) -> Any:
    remote: Any = ray.remote
    rank = remote(concurrency_groups=THREADS)(LearnerRank).options(**options).remote(0, 1, 1)
    ray.get(rank.join.remote(*ray.get(rank.address.remote())))
    return opened([rank], LearnerSettings(micro_batch_tokens=64), model, ALGORITHM, "float32")[0]


def _generators(spec: EngineSpec, options: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Generators of one model by name, ready to sample."""
    remote: Any = ray.remote
    grades = remote(concurrency_groups=VERIFIER_THREADS)(Verifier)
    verifier = grades.options(num_cpus=0, runtime_env=options[0]["runtime_env"]).remote({})
    actors = [remote(Generator).options(**each, max_concurrency=16).remote(spec, [verifier]) for each in options]
    rollout = RolloutSettings(group_size=4, max_new_tokens=32)
    run = SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(), greedy=False)
    ray.get([actor.start.remote() for actor in actors])
    ray.get([actor.begin.remote(run) for actor in actors])
    return {f"generator-{number}": actor for number, actor in enumerate(actors)}


def in_the_next_pass(rank: Any, action: Any) -> None:
    """Has a rank do something after SENT_BEFORE tensors of its next pass over the weights."""

    def prepare(_: Any) -> None:
        from learner import weights

        plain = weights.ZeroSource._gathered

        def once(self: Any) -> Iterator[Any]:
            weights.ZeroSource._gathered = plain  # type: ignore[method-assign]
            for number, pair in enumerate(plain(self)):
                if number == SENT_BEFORE:
                    action()
                yield pair

        weights.ZeroSource._gathered = once  # type: ignore[method-assign]

    ray.get(rank.__ray_call__.remote(prepare))


def _processes_of(generator: Any) -> list[int]:
    """Everything that the actor of a generator has started."""
    found: list[int] = processes_below(ray.get(generator.__ray_call__.remote(lambda _: os.getpid())))
    return found


def _engine_of(generator: Any) -> int:
    """The process of the engine of a generator on one GPU."""
    (engine,) = [pid for pid in _processes_of(generator) if _lives(pid) and b"EngineCore" in _command(pid)]
    return engine


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _gone(processes: Sequence[int]) -> bool:
    """Whether processes have ended, or do so in time."""
    deadline = time.monotonic() + SECONDS
    while any(map(_lives, processes)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not any(map(_lives, processes))

"""The weight sync between a real learner and a real vLLM engine."""

import asyncio
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray

from actors.arrow import unpacked
from actors.data.world import ALPHABET
from actors.engines import OWN_PROCESS
from actors.settings import GeneratorSettings, RolloutSettings
from actors.types import EngineSpec, RolloutRequest, SamplingSpec
from learner.methods.algorithms import algorithm_of
from learner.models.tiny import write_tiny_model
from learner.settings import LearnerSettings
from tests.builders import prompt
from tests.learner.test_engine import opened, started, train
from tests.runs import Runs

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
ALGORITHM = algorithm_of("reinforce-rej")
PROBE = (1, 2, 10, 3, 4, 11, 5, 5)
PLACES = 10  # for responses in the engine of the pair: prompts for all of them are more than a pass holds
ENV = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
}


@pytest.fixture(scope="module")
def session(_runs: Runs) -> Iterator[None]:
    _runs.end()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def learner(session: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    """A model whose head is a matrix of its own, and one learner rank."""
    model = tmp_path_factory.mktemp("model")
    write_tiny_model(model, alphabet=ALPHABET, seed=1, tied=False)
    return model, started(1)


@pytest.fixture(scope="module", params=[True, False], ids=["engine in its own process", "engine in the generator"])
def living(learner: tuple[Path, list], request: pytest.FixtureRequest) -> tuple[Path, list, dict[str, Any]]:
    """The learner, and one generator with PLACES for responses, which serve one test after another."""
    return *learner, start_generators(learner[0], 1, PLACES, own_process=request.param)


@pytest.fixture
def pair(living: tuple[Path, list, dict[str, Any]]) -> tuple[list, dict[str, Any]]:
    """The rank with a training that has just been opened, and the generator."""
    model, ranks, generators = living
    return opened(ranks, LearnerSettings(zero_stage=2, micro_batch_tokens=64), model, ALGORITHM, "float32"), generators


def sampler() -> type:
    """A generator of which completions can be asked for themselves, and which weights it holds."""
    from actors.engines import Sampling
    from actors.rollouts.generator import Generator

    class Sampler(Generator):
        async def held_weights(self) -> Any:
            return await self._started._held_weights(True)

        async def sampling_of(self, count: int) -> None:
            """Returns once so many responses have a token."""
            async with asyncio.timeout(120):
                while sum(not one.is_prefilling for one in self._requests_there()) < count:
                    await asyncio.sleep(0.005)

        def _requests_there(self) -> list[Any]:
            llm: Any = self._started._llm
            return list(getattr(llm, "_engine", llm).output_processor.request_states.values())

        async def sample(self, count: int, seed: int) -> list[tuple[list[int], list[float], list[int], list[int]]]:
            sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=24, completions=count)
            found = await self._started.generate([1, 2, 10, 3, 11], sampling, seed)
            return [
                (one.tokens.tolist(), one.logprobs.tolist(), one.versions.tolist(), list(one.shown)) for one in found
            ]

    return Sampler


def start_generators(model: Path, count: int, places: int = 32, *, own_process: bool = False) -> dict[str, Any]:
    """Generators of a model, each with so many places for responses."""
    from actors.grading.verifier import VERIFIER_THREADS, Verifier

    spec = EngineSpec(
        model=str(model),
        dtype="float32",
        seed=0,
        max_model_len=1100,
        tensor_parallel=1,
        backend="gloo",
        on_cpu=True,
        engine=GeneratorSettings(max_sequences=places),
    )
    verifier = ray.remote(concurrency_groups=VERIFIER_THREADS)(Verifier).options(num_cpus=0).remote({})
    env = ENV | {OWN_PROCESS: "1" if own_process else ""}
    actor = ray.remote(sampler()).options(num_cpus=0, runtime_env={"env_vars": env}, max_concurrency=64)
    generators = {f"generator-{index}": actor.remote(spec, [verifier]) for index in range(count)}
    ray.get([one.start.remote() for one in generators.values()])
    begin(generators)
    return generators


def begin(generators: dict[str, Any], min_tokens: int = 0) -> None:
    """Begins a run whose responses have so many tokens at least."""
    from rewards import RewardSettings

    rollout = RolloutSettings(group_size=16, max_new_tokens=1024, min_tokens=min_tokens)
    run = SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(), greedy=False)
    ray.get([one.begin.remote(run) for one in generators.values()])


def pool_of(generators: dict[str, Any]) -> Any:
    from actors.pool import GeneratorPool
    from actors.rollouts.client import GeneratorClient

    return GeneratorPool([GeneratorClient(name, actor) for name, actor in generators.items()])


def publisher_of(ranks: list, generators: dict[str, Any], said: list[str] | None = None, **sync: Any) -> Any:
    """A publisher with buckets of 256 KiB; `sync` are more settings, and what it says goes to `said`."""
    from cluster.config.reading import config_of
    from cluster.running.publish import Publisher
    from learner.client import LearnerClient

    tree = {"world": {"name": "addition"}, "model": {"dtype": "float32"}, "sync": {"timeout_seconds": 180, **sync}}
    say = (said if said is not None else []).append
    return Publisher(
        LearnerClient(lambda: ranks), pool_of(generators), config_of(tree), "gloo", say, bucket_bytes=2**18
    )


@pytest.mark.parametrize("sizes", [[5] * 10, [5] * 1000, [1, 0, 3000, 7, 2000, 2000, 4, 900, 16]])
def test_every_tensor_arrives_whole_in_three_calls_whatever_their_number(sizes: list[int]) -> None:
    import torch
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

    from actors.transfer.gloo import GlooInitInfo, GlooUpdateInfo, GlooWeightTransferEngine
    from learner.sending import GlooTrainerEngine, GlooTrainerInitInfo

    kinds = (torch.float32, torch.bfloat16)
    sent = {f"p{i}": torch.randn(size).to(kinds[i % 2]) for i, size in enumerate(sizes)}
    got: dict[str, Any] = {}

    class Source(WeightSource):
        def metadata(self) -> list[ParamMeta]:
            return [ParamMeta(name, t.dtype, tuple(t.shape)) for name, t in sent.items()]

        def __iter__(self) -> Iterator[tuple[str, Any]]:
            return iter(sent.items())

    class Model(torch.nn.Module):
        def load_weights(self, weights: Any) -> set[str]:
            new = {name: tensor.clone() for name, tensor in weights}
            got.update(new)
            return set(new)

    config: Any = SimpleNamespace(parallel_config=SimpleNamespace(rank=0), model_config=None)
    receiver = GlooWeightTransferEngine(None, config, torch.device("cpu"), Model())
    calls: list[str] = []

    class Client:
        def init_weight_transfer_engine(self, info: dict[str, Any]) -> None:
            receiver.init_transfer_engine(GlooInitInfo(**info))

        def start_weight_update(self) -> None:
            calls.append("start")

        def update_weights(self, info: dict[str, Any]) -> None:
            calls.append("update")
            receiver.receive_weights(GlooUpdateInfo(**info))

        def finish_weight_update(self, weight_version: str | None = None) -> None:
            calls.append("finish")

    info = GlooTrainerInitInfo("127.0.0.1", 2, 4096, 30.0, rank=0)
    sender = GlooTrainerEngine.trainer_init(info, client=Client(), source=Source())
    sender.send_weights()
    assert calls == ["start", "update", "finish"]
    assert got.keys() == sent.keys()
    assert all(torch.equal(got[name], tensor) for name, tensor in sent.items())


def test_every_back_end_has_a_sender() -> None:
    from learner.transfer import BACKENDS
    from learner.weights import SENDERS

    assert SENDERS.keys() == BACKENDS.keys()


def test_untied_weights_temperature_and_repeated_prompts(pair: Any) -> None:
    ranks, generators = pair
    begin(generators)
    publisher, generator = publisher_of(ranks, generators), generators["generator-0"]

    async def story() -> list[Any]:
        gaps, batches = [], []
        request = RolloutRequest(group=0, prompt=prompt("0", [1, 2, 10, 3, 11]), visit=0)
        for version in range(3):
            gaps.append((await publisher.publish(version, PROBE)).probe_gap)
            flying = generator.rollout.remote(request)
            batches.append(unpacked((await asyncio.gather(*flying))[1]))
            await asyncio.to_thread(train, ranks, 1, ALGORITHM)
        assert max(gaps) < 1e-3
        return batches

    batches = asyncio.run(story())
    for version, batch in enumerate(batches):
        tokens, sampled = batch.column("tokens")[0].as_py(), batch.column("sampled")[0].as_py()
        found = np.array(batch.column("logprobs")[0].as_py())[sampled]
        if version == 2:  # the learner has moved on by one update since, so ask a generator that holds version 2
            held = ray.get(generator.probe.remote(tokens))
            np.testing.assert_allclose(found, np.array([0.0, *held])[sampled], atol=1e-3)
        assert set(np.array(batch.column("versions")[0].as_py())[sampled]) == {version}


@pytest.mark.parametrize(("in_flight", "taken"), [("continue", PLACES), ("keep", PLACES - 1)])
def test_the_probe_of_a_sync_waits_behind_no_frozen_response(pair: Any, in_flight: str, taken: int) -> None:
    ranks, generators = pair
    begin(generators, min_tokens=400)
    publisher, generator = publisher_of(ranks, generators, in_flight=in_flight), generators["generator-0"]
    start = prompt("0", [1, 2, 10, 3, 11])
    requests = [RolloutRequest(group=n, prompt=start, visit=n, responses=1) for n in range(taken)]

    async def story() -> list[Any]:
        await publisher.publish(0, PROBE)
        flying = [generator.rollout.remote(request) for request in requests]
        await generator.sampling_of.remote(taken)
        await publisher.publish(1, PROBE)  # with "continue" all places are taken by responses to be computed anew
        assert ray.wait([summary for summary, _ in flying], timeout=0)[0] == []
        return [unpacked((await asyncio.gather(*one))[1]) for one in flying]

    for batch in asyncio.run(story()):
        versions = np.array(batch.column("versions")[0].as_py())[batch.column("sampled")[0].as_py()]
        assert set(versions) == {0, 1}  # the version that chose each token, under either choice
        assert (np.diff(versions) >= 0).all()


def test_completions_of_one_request_are_those_of_requests_of_their_own_with_the_seeds_that_follow(
    pair: Any,
) -> None:
    ranks, generators = pair
    begin(generators)
    generator = generators["generator-0"]
    asyncio.run(publisher_of(ranks, generators).publish(0, PROBE))
    together = ray.get(generator.sample.remote(6, 100))
    alone = ray.get([generator.sample.remote(1, 100 + number) for number in range(6)])
    assert len({tuple(tokens) for tokens, *_ in together}) > 1
    for (tokens, found, versions, shown), ((same, wanted, *_),) in zip(together, alone, strict=True):
        assert tokens == same
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        assert (versions, shown) == ([0] * len(tokens), [1, 2, 10, 3, 11])


def test_kept_keys_and_values_are_used_by_frozen_responses_alone(pair: Any) -> None:
    ranks, generators = pair
    begin(generators)
    publisher, generator = publisher_of(ranks, generators, in_flight="keep"), generators["generator-0"]
    long = RolloutRequest(group=0, prompt=prompt("0", [1, 2, 10, 3, 11] * 20), visit=0, responses=2)

    async def story() -> list[Any]:
        await publisher.publish(0, PROBE)
        await asyncio.gather(*generator.rollout.remote(long))  # its prompt is in the cache now
        for _ in range(3):
            await asyncio.to_thread(train, ranks, 1, ALGORITHM)
        await publisher.publish(1, PROBE)
        return await asyncio.gather(*generator.rollout.remote(long))

    batch = unpacked(asyncio.run(story())[1])
    tokens, sampled = batch.column("tokens")[0].as_py(), batch.column("sampled")[0].as_py()
    held = ray.get(generator.probe.remote(tokens))
    found = np.array(batch.column("logprobs")[0].as_py())[sampled]
    np.testing.assert_allclose(found, np.array([0.0, *held])[sampled], atol=1e-3)  # nothing of version 0 is left


def test_more_prompts_at_once_than_a_pass_holds_and_a_dead_engine_is_a_dead_generator(
    pair: Any,
) -> None:
    """The last test of the pair."""
    from actors.errors import BrokenPart

    ranks, generators = pair
    begin(generators)
    publisher, pool = publisher_of(ranks, generators), pool_of(generators)
    requests = [
        RolloutRequest(group=n, prompt=prompt(str(n), [1, 3 + n, *[2, 10, 3, 11] * 150]), visit=0, responses=2)
        for n in range(10)
    ]

    learner = ray.get(ranks[0].__ray_call__.remote(lambda _: os.nice(0)))
    (engine,) = ray.get(generators["generator-0"].__ray_call__.remote(_niceness_of_engines))
    assert learner < engine  # on shared cores an update goes before sampling

    async def story() -> Any:
        await publisher.publish(0, PROBE)
        done = await asyncio.gather(*map(pool.rollout, requests))  # 6020 tokens of prompts
        flying = asyncio.gather(*map(pool.rollout, requests))
        await generators["generator-0"].__ray_call__.remote(_end_engine)
        with pytest.raises(BrokenPart, match=r"no generator is left\. generator-0: vLLM's engine has ended"):
            await flying
        return [summary for summary, _ in done]

    assert all(len(summary.scores) == 2 for summary in asyncio.run(story()))


def _niceness_of_engines(_: Any) -> list[int | None]:
    """Of the processes of engines, and of their threads in this one."""
    children = [child.pid for child in multiprocessing.active_children()]
    threads = [thread.native_id for thread in threading.enumerate() if thread.name == "engine"]
    return [os.getpriority(os.PRIO_PROCESS, one) for one in children + threads if one is not None]


def _end_engine(generator: Any) -> None:
    """Kills the engine's process, or has its next pass fail."""

    def failing() -> None:
        raise MemoryError("injected")

    for child in multiprocessing.active_children():
        child.kill()
    if engine := getattr(generator._engine._llm, "_engine", None):
        engine.step = failing

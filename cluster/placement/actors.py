"""Starts the actors of a run in one placement group, and ends them. Names are what the Ray dashboard shows."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.filtering.client import FilterClient
from actors.filtering.filter import Filter
from actors.grading.client import JudgeClient, VerifierClient
from actors.grading.judge import JudgeModel
from actors.grading.verifier import Verifier
from actors.pool import GeneratorPool
from actors.rollouts.client import GeneratorClient
from actors.rollouts.generator import Generator
from actors.types import EngineSpec
from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.placement.layout import Layout, judge_actor
from cluster.preparing.preflight import Prepared
from learner.actor import PACKING, LearnerRank
from learner.client import Learner, LearnerClient
from learner.transfer import BACKENDS, choose_backend

PLACEMENT_SECONDS = 30.0  # to get the resources of a run from a cluster that others use too
SPARE_CALLS = 16  # calls that an actor takes at the same time beside those of groups: syncs, reports, probes
STOP_SECONDS = 10.0  # for engines and graders to end their processes before their actors are killed


@dataclass(frozen=True, slots=True, kw_only=True)
class RunActors:
    """The running actors, each behind its client."""

    learner: Learner
    generators: GeneratorPool
    verifiers: tuple[VerifierClient, ...]
    judges: tuple[JudgeClient, ...]
    filter: FilterClient
    backend: str  # how weights travel between learner and generators


@contextmanager
def running_actors(prepared: Prepared, layout: Layout) -> Iterator[RunActors]:
    """All actors of a run, created but not yet started. They may serve other runs of the same shape after it, one at a
    time, and are gone when the context ends.

    Raises:
        ConfigError: the cluster's resources are taken by others.
    """
    group = placement_group([bundle.resources for bundle in layout.bundles], strategy="PACK")
    try:
        _wait_for(group, layout)
        factory = ActorFactory(group, layout, prepared)
        try:
            yield factory.create_all()
        finally:
            factory.end_all()
    finally:
        remove_placement_group(group)


class ActorFactory:
    """Creates the actors of a run in their bundles, and ends them."""

    def __init__(self, group: PlacementGroup, layout: Layout, prepared: Prepared) -> None:
        config = prepared.config
        self._group, self._layout, self._prepared, self._config = group, layout, prepared, config
        self._backend = choose_backend(config.sync.backend, on_gpu=layout.on_gpu, colocate=config.cluster.colocate)
        self._env = _environment(config, layout, self._backend)
        self._calls = calls_at_once(config)
        self._handles: list[ActorHandle[Any]] = []
        self._stoppable: list[ActorHandle[Any]] = []  # those with processes that Ray does not know

    def create_all(self) -> RunActors:
        """Every actor of the layout."""
        config, cluster = self._config, self._config.cluster
        judges = self._create_judges()
        verifiers = [
            self._create(Verifier, f"verifier-{index}", dict(judges), max_restarts=-1, max_task_retries=1)
            for index in range(cluster.verifiers)
        ]
        engine = self._engine_spec()
        names = [f"generator-{index}" for index in range(cluster.generators)] if config.samples else []
        generators = [
            GeneratorClient(name, self._create(Generator, name, engine, verifiers, max_concurrency=self._calls))
            for name in names
        ]
        threads, count = learner_threads(config), cluster.learner_ranks
        ranks = [
            self._create(LearnerRank, f"learner-rank-{rank}", rank, count, threads, groups={PACKING: 1})
            for rank in range(count)
        ]
        filter_actor = self._create(Filter, "filter", max_concurrency=self._calls)
        return RunActors(
            learner=LearnerClient(ranks),
            generators=GeneratorPool(generators),
            verifiers=tuple(VerifierClient(handle, f"verifier-{i}") for i, handle in enumerate(verifiers)),
            judges=tuple(JudgeClient(ray.get_actor(name), name) for name in judges.values()),
            filter=FilterClient(filter_actor),
            backend=self._backend,
        )

    def end_all(self) -> None:
        """Stops the engines and the graders, whose processes Ray does not know, then ends every actor."""
        stops: list[Any] = [handle.stop.remote() for handle in self._stoppable]
        if stops:
            ray.wait(stops, num_returns=len(stops), timeout=STOP_SECONDS)
        for handle in self._handles:
            ray.kill(handle)

    def _create_judges(self) -> dict[str, str]:
        """reward name -> name of the judge actor that this run hosts for it."""
        names = {}
        for reward, folder in self._config.hosted_judges.items():
            spec = replace(
                self._engine_spec(), model=folder, backend="", max_model_len=self._prepared.judge_lengths[reward]
            )
            names[reward] = judge_actor(reward)
            self._create(JudgeModel, names[reward], spec, max_concurrency=self._calls)
        return names

    def _engine_spec(self) -> EngineSpec:
        config = self._config
        return EngineSpec(
            model=config.model.path,
            dtype=config.model.settled_dtype,
            seed=config.run.seed,
            max_model_len=self._prepared.max_model_len,
            tensor_parallel=config.cluster.tensor_parallel,
            backend=self._backend,
            on_cpu=not self._layout.on_gpu,
            engine=config.generator,
        )

    def _create(
        self, kind: type, name: str, *arguments: object, groups: dict[str, int] | None = None, **options: int
    ) -> ActorHandle[Any]:
        """One actor in its bundle.

        Args:
            kind: its class.
            name: in Ray and in the layout.
            arguments: of its constructor.
            groups: threads of its concurrency groups.
            options: Ray's, such as max_concurrency.
        """
        cpus, gpus = self._layout.share_of(name)
        strategy = PlacementGroupSchedulingStrategy(
            placement_group=self._group, placement_group_bundle_index=self._layout.bundle_of(name)
        )
        remote: Any = ray.remote  # its annotations know nothing of concurrency groups
        actor = remote(concurrency_groups=groups or {})(kind).options(
            name=name,
            num_cpus=cpus,
            num_gpus=gpus,
            scheduling_strategy=strategy,
            runtime_env={"env_vars": self._env},
            **options,
        )
        handle: ActorHandle[Any] = actor.remote(*arguments)
        self._handles.append(handle)
        if hasattr(kind, "stop"):
            self._stoppable.append(handle)
        return handle


def calls_at_once(config: RunConfig) -> int:
    """Calls that a generator, a judge and the filter take at the same time: one for every group that may be in flight
    and for every prompt of an evaluation, and some to spare."""
    slots = (config.rollout.max_staleness + 1) * config.rollout.groups_per_step
    return slots + config.eval.prompts + SPARE_CALLS


def learner_threads(config: RunConfig) -> int:
    """CPU threads of a learner rank: all cores if rollout.max_staleness is 0, as the stages take turns then; else the
    cores that are left when each generator has one. Divided by the ranks, at least 1."""
    cores = len(os.sched_getaffinity(0))
    if config.rollout.max_staleness:
        cores -= config.cluster.generators
    return max(1, cores // config.cluster.learner_ranks)


def _environment(config: RunConfig, layout: Layout, backend: str) -> dict[str, str]:
    env = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if layout.on_gpu:
        return env | {"VLLM_ALLOW_INSECURE_SERIALIZATION": "1" if BACKENDS[backend].pickles else "0"}
    return env | {
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",  # vLLM would compile two small sampler functions for half a minute
        "VLLM_CPU_KVCACHE_SPACE": str(config.generator.cpu_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine keeps its one worker in its own process
    }


def _wait_for(group: PlacementGroup, layout: Layout) -> None:
    try:
        ray.get(group.ready(), timeout=PLACEMENT_SECONDS)
    except GetTimeoutError as failure:
        free = ray.available_resources()
        raise ConfigError(
            f"the layout wants {layout.cpus:g} CPUs and {layout.gpus:g} GPUs, and the cluster did not give them within "
            f"{PLACEMENT_SECONDS:g} s. Free now: {free}. Other jobs hold the rest"
        ) from failure

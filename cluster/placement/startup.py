"""Starts the actors of a run in one placement group, and ends them. Names are what the Ray dashboard shows."""

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.filtering.filter import Filter, FilterSpec
from actors.grading.judge import JudgeModel
from actors.grading.verifier import Verifier
from actors.pool import GeneratorPool, call, call_all
from actors.rollouts.generator import Generator
from actors.types import EngineSpec, SamplingSpec
from cluster.config.run_config import ConfigError, RunConfig
from cluster.placement.layout import Layout, check_fits, plan_layout, this_machine
from cluster.preparing.preflight import Prepared
from learner.actor import PACKING, LearnerRank
from learner.client import Learner, LearnerClient
from learner.transfer import BACKENDS, choose_backend
from learner.types import LearnerSpec

PLACEMENT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The running actors."""

    learner: Learner
    generators: GeneratorPool
    filter: Any
    judge: Any  # the actor of a language model that is asked about responses; None without one
    everyone: dict[str, Any]  # name -> handle, of all actors


@contextmanager
def ray_session(config: RunConfig) -> Iterator[tuple[Layout, str]]:
    """Joins the cluster, or starts Ray on this machine and ends it afterwards.

    Gives the layout, which fits, and the address of Ray's dashboard.

    Raises:
        ConfigError: the cluster is smaller than the layout wants, or cannot be reached.
    """
    address = config.cluster.address or os.environ.get("RAY_ADDRESS", "")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of groups in flight when a run ends
    if not address:
        layout = layout_for(config, this_machine())
    try:
        context = ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace=f"winnow-{os.getpid()}",
        )
    except ConnectionError as failure:
        raise ConfigError(f"no Ray cluster answers at {address!r} (cluster.address): {failure}") from failure
    try:
        if address:
            nodes = {node["NodeManagerAddress"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
            layout = layout_for(config, nodes)
        yield layout, context.dashboard_url or ""
    finally:
        ray.shutdown()


def layout_for(config: RunConfig, nodes: dict[str, dict[str, float]]) -> Layout:
    """The layout on these nodes.

    Raises:
        ConfigError: it does not fit.
    """
    has_gpus = any(resources.get("GPU") for resources in nodes.values())
    on_gpu = config.cluster.device == "gpu" or (config.cluster.device == "auto" and has_gpus)
    cluster = config.cluster if config.samples else config.cluster.model_copy(update={"generators": 0})
    layout = plan_layout(cluster, on_gpu, judge=config.hosts_judge)
    check_fits(layout, nodes)
    return layout


@contextmanager
def running_parts(prepared: Prepared, layout: Layout) -> Iterator[Parts]:
    """All actors of a run, created but not yet started, which may serve other runs of the same shape after it; they are
    gone when the context ends.

    Raises:
        ConfigError: the cluster's resources are taken by others.
    """
    group = placement_group([bundle.resources for bundle in layout.bundles], strategy="PACK")
    try:
        _wait_for(group, layout)
        parts = _create(_Cast(group, layout, _environment(prepared.config, layout)), prepared)
        try:
            yield parts
        finally:
            _end(parts)
    finally:
        remove_placement_group(group)


class _Cast:
    """Creates actors in their bundles."""

    def __init__(self, group: PlacementGroup, layout: Layout, env: dict[str, str]) -> None:
        self._group, self._layout, self._env = group, layout, env
        self.created: dict[str, Any] = {}

    def create(self, kind: type, name: str, *arguments: Any, concurrency: int | None = None) -> Any:
        cpus, gpus = self._layout.share_of(name)
        strategy = PlacementGroupSchedulingStrategy(
            placement_group=self._group, placement_group_bundle_index=self._layout.bundle_of(name)
        )
        options: dict[str, Any] = {"max_restarts": -1, "max_task_retries": 1} if kind is Verifier else {}
        if concurrency is not None:
            options["max_concurrency"] = concurrency
        groups = {PACKING: 1} if kind is LearnerRank else {}
        remote: Any = ray.remote  # its annotations know nothing of concurrency groups
        actor: Any = remote(concurrency_groups=groups)(kind).options(
            name=name,
            num_cpus=cpus,
            num_gpus=gpus,
            scheduling_strategy=strategy,
            runtime_env={"env_vars": self._env},
            **options,
        )
        self.created[name] = actor.remote(*arguments)
        return self.created[name]


def _create(cast: _Cast, prepared: Prepared) -> Parts:
    config, layout, cluster = prepared.config, cast._layout, prepared.config.cluster
    engine_spec = EngineSpec(
        model=config.model.path,
        dtype=config.model.dtype,
        seed=config.run.seed,
        max_model_len=prepared.max_model_len,
        tensor_parallel=cluster.tensor_parallel,
        backend=sync_backend(config, layout),
        on_cpu=not layout.on_gpu,
        engine=config.generator,
    )
    calls = (config.rollout.max_staleness + 1) * config.rollout.groups_per_step + config.eval.prompts + 16
    judge = None
    if config.hosts_judge:
        spec = replace(engine_spec, model=config.reward.model, backend="", max_model_len=prepared.judge_length)
        judge = cast.create(JudgeModel, "judge", spec, concurrency=calls)
    verifiers = [
        cast.create(Verifier, f"verifier-{index}", "judge" if judge else "") for index in range(cluster.verifiers)
    ]
    generators = {
        name: cast.create(Generator, name, engine_spec, verifiers, concurrency=calls)
        for name in (f"generator-{index}" for index in range(cluster.generators * config.samples))
    }
    threads, count = learner_threads(config), cluster.learner_ranks
    ranks = [cast.create(LearnerRank, f"learner-rank-{rank}", rank, count, threads) for rank in range(count)]
    filter_actor = cast.create(Filter, "filter", concurrency=calls)
    return Parts(
        learner=LearnerClient(ranks),
        generators=GeneratorPool(generators),
        filter=filter_actor,
        judge=judge,
        everyone=cast.created,
    )


async def begin_run(parts: Parts, prepared: Prepared, folder: Path) -> None:
    """Tells every actor which run it serves now; nothing of a former run is left in them. The ranks meet, once."""
    config, algorithm = prepared.config, prepared.config.algorithm
    rollout = config.rollout
    filter_spec = FilterSpec(
        drop=algorithm.drop,
        groups_per_step=rollout.groups_per_step,
        max_staleness=rollout.max_staleness,
        patience=config.filter.patience,
        trajectories=folder / "trajectories",
    )
    await parts.learner.join()
    await parts.learner.close_session()
    greedy = algorithm.baseline == "greedy"
    sampling = SamplingSpec(
        seed=config.run.seed, rollout=rollout, reward=config.reward, greedy=greedy, drop=algorithm.drop
    )
    await asyncio.gather(
        call(parts.filter, "begin", filter_spec),
        call_all(list(parts.generators.alive.values()), "begin", sampling),
    )


def learner_spec(config: RunConfig) -> LearnerSpec:
    """What the learner's ranks share in this run."""
    return LearnerSpec(
        model=config.model,
        learner=config.learner,
        algorithm=config.algorithm,
        data=config.data,
        warmup=config.warmup,
        temperature=config.rollout.temperature,
        top_p=config.rollout.top_p,
        score_weight=config.reward.score_weight,
        has_span_rewards=config.reward.span_weight > 0,
        seed=config.run.seed,
    )


def sync_backend(config: RunConfig, layout: Layout) -> str:
    """How weights travel: by setting, else gloo on the CPU, ipc on shared GPUs, nccl across GPUs."""
    return choose_backend(config.sync.backend, layout.on_gpu, config.cluster.colocate)


def learner_threads(config: RunConfig) -> int:
    """CPU threads of a learner rank: all cores where the stages take turns, else what the generators leave."""
    cores = len(os.sched_getaffinity(0))
    if config.rollout.max_staleness:
        cores -= config.cluster.generators
    return max(1, cores // config.cluster.learner_ranks)


def _environment(config: RunConfig, layout: Layout) -> dict[str, str]:
    env = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if layout.on_gpu:
        return env | {
            "VLLM_ALLOW_INSECURE_SERIALIZATION": "1" if BACKENDS[sync_backend(config, layout)].pickles else "0"
        }
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
        raise ConfigError(
            f"the layout wants {layout.cpus:g} CPUs and {layout.gpus:g} GPUs, and the cluster did not give them within "
            f"{PLACEMENT_SECONDS:g} s. Free now: {ray.available_resources()}. Other jobs hold the rest"
        ) from failure


def _end(parts: Parts) -> None:
    """Stops the engines and the graders, whose processes Ray does not know, then every actor."""
    owners = [actor for name, actor in parts.everyone.items() if name.startswith(("verifier", "judge"))]
    stops = [owner.stop.remote() for owner in (*parts.generators.alive.values(), *owners)]
    ray.wait(stops, num_returns=len(stops), timeout=10) if stops else None
    for actor in parts.everyone.values():
        ray.kill(actor)

"""Starts the actors of a run in one placement group, and ends them. Names are what the Ray dashboard shows."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.filtering.client import FilterClient
from actors.filtering.filter import Filter
from actors.grading.client import JudgeClient, ScorerClient, VerifierClient
from actors.grading.judge import JudgeModel
from actors.grading.scorer import ScorerModel
from actors.grading.verifier import Verifier
from actors.pool import GeneratorPool
from actors.rollouts.client import GeneratorClient
from actors.rollouts.generator import Generator
from actors.settings import ALONE_SHARE
from actors.types import EngineSpec
from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.placement.environment import NO_GPU, environment, learner_environment
from cluster.placement.layout import Layout, judge_actor, scorer_actor
from cluster.placement.nodes import check_nodes
from cluster.placement.reachable import ended
from cluster.preparing.preflight import Prepared
from cluster.reporting.logs import LOGGER
from learner.actor import THREADS, LearnerRank
from learner.client import Learner, LearnerClient
from learner.transfer import choose_backend

PLACEMENT_SECONDS = 30.0  # to get the resources of a run from a cluster that others use too
SAID_EVERY = 10.0  # seconds between two sentences that a run waits for its resources
SPARE_CALLS = 16  # calls that an actor takes at the same time beside those of groups: syncs, reports, probes
# For engines and graders to end their processes before their actors are killed: on GPUs, graphs and communicators too.
STOP_SECONDS, GPU_STOP_SECONDS = 10.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunActors:
    """The running actors, each behind its client."""

    learner: Learner
    generators: GeneratorPool
    verifiers: tuple[VerifierClient, ...]
    judges: tuple[JudgeClient, ...]
    scorers: Mapping[str, ScorerClient]  # by the name of the reward
    filter: FilterClient
    backend: str  # how weights travel between learner and generators


@contextmanager
def running_actors(prepared: Prepared, layout: Layout) -> Iterator[RunActors]:
    """All actors of a run, created but not yet started. They may serve other runs of the same shape after it, one at a
    time, and are gone when the context ends.

    Raises:
        ConfigError: the cluster's resources are taken by others, or a node lacks what the run needs there.
    """
    group = placement_group([bundle.resources for bundle in layout.bundles], strategy="PACK")
    try:
        _wait_for(group, layout, PLACEMENT_SECONDS + prepared.config.cluster.wait_seconds)
        nodes = _nodes_of(group, len(layout.bundles))
        hosts = {node for node, bundle in zip(nodes, layout.bundles, strict=True) if bundle.gpus or not layout.on_gpu}
        check_nodes(prepared.config, hosts, on_gpu=layout.on_gpu)
        factory = ActorFactory(group, layout, layout.places(nodes), prepared)
        try:
            yield factory.create_all()
        finally:
            if not ended():
                factory.end_all()
    finally:
        if not ended():  # else there is nobody to ask, for which Ray would wait for a minute, and end this process then
            remove_placement_group(group)


class ActorFactory:
    """Creates the actors of a run in their bundles, and ends them."""

    def __init__(self, group: PlacementGroup, layout: Layout, places: Sequence[int], prepared: Prepared) -> None:
        """`places` has for each bundle of the layout the index of that of the group which takes its place."""
        config = prepared.config
        self._group, self._layout, self._prepared, self._config = group, layout, prepared, config
        self._backend = choose_backend(config.sync.backend, on_gpu=layout.on_gpu, colocate=config.cluster.colocate)
        self._env = environment(config, self._backend, on_gpu=layout.on_gpu)
        self._places = places
        self._calls = calls_at_once(config)
        self._handles: list[ActorHandle[Any]] = []
        self._stoppable: list[ActorHandle[Any]] = []  # those with processes that Ray does not know
        self._made = Counter[str]()  # actors so far, by their place

    def create_all(self) -> RunActors:
        """Every actor of the layout."""
        config, cluster = self._config, self._config.cluster
        judges, scorers = self._create_judges(), self._create_scorers()
        verifiers = [
            self._create(
                Verifier, f"verifier-{index}", dict(judges), dict(scorers), max_restarts=-1, max_task_retries=1
            )
            for index in range(self._layout.verifiers)
        ]
        engine = self._engine_spec()
        names = [f"generator-{index}" for index in range(cluster.generators)] if config.samples else []
        generators = [
            GeneratorClient(name, self._create(Generator, name, engine, verifiers, max_concurrency=self._calls))
            for name in names
        ]
        return RunActors(
            learner=LearnerClient(self._create_ranks),
            generators=GeneratorPool(generators),
            verifiers=tuple(VerifierClient(handle, f"verifier-{i}") for i, handle in enumerate(verifiers)),
            judges=tuple(JudgeClient(ray.get_actor(name), name) for name in judges.values()),
            scorers={reward: ScorerClient(ray.get_actor(name), name) for reward, name in scorers.items()},
            filter=FilterClient(self._create_filter),
            backend=self._backend,
        )

    def _create_ranks(self) -> list[ActorHandle[Any]]:
        """The ranks of the learner; earlier ones have been killed."""
        threads, count = learner_threads(self._config), self._config.cluster.learner_ranks
        places = [f"learner-rank-{rank}" for rank in range(count)]
        return [
            self._create(LearnerRank, self._next(place), rank, count, threads, place=place, groups=THREADS)
            for rank, place in enumerate(places)
        ]

    def _create_filter(self) -> ActorHandle[Any]:
        """A filter; an earlier one is dead, or has been killed."""
        return self._create(Filter, self._next("filter"), place="filter", max_concurrency=self._calls)

    def _next(self, place: str) -> str:
        """The name of the next actor in a place whose last one is gone: Ray may not know that yet, and a name is used
        once."""
        number = self._made[place]
        self._made[place] += 1
        return f"{place}.{number}" if number else place

    def end_all(self) -> None:
        """Stops the engines and the graders, whose processes Ray does not know, then ends every actor."""
        stops: list[Any] = [handle.stop.remote() for handle in self._stoppable]
        if stops:
            seconds = GPU_STOP_SECONDS if self._layout.on_gpu else STOP_SECONDS
            ray.wait(stops, num_returns=len(stops), timeout=seconds)
        for handle in self._handles:
            ray.kill(handle)

    def _create_judges(self) -> dict[str, str]:
        """reward name -> name of the judge actor that this run hosts for it."""
        names = {}
        for reward, folder in self._config.hosted_judges.items():
            names[reward] = judge_actor(reward)
            self._create(JudgeModel, names[reward], self._judge_spec(reward, folder), max_concurrency=self._calls)
        return names

    def _create_scorers(self) -> dict[str, str]:
        """reward name -> name of the scorer actor that this run hosts for it."""
        names = {reward: scorer_actor(reward) for reward in self._config.hosted_scorers(self._layout.on_gpu)}
        for name in names.values():
            self._create(ScorerModel, name, max_restarts=-1, max_task_retries=1)
        return names

    def _judge_spec(self, reward: str, folder: str) -> EngineSpec:
        """The engine of a judge, which shares its GPUs with nobody."""
        own = self._engine_spec()
        engine = own.engine.model_copy(update={"memory_share": ALONE_SHARE}) if own.rests else own.engine
        length = self._prepared.judge_lengths[reward]
        return replace(own, model=folder, backend="", max_model_len=length, engine=engine, rests=False)

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
            rests=config.cluster.colocate,
        )

    def _create(
        self,
        kind: type,
        name: str,
        *arguments: object,
        place: str = "",
        groups: dict[str, int] | None = None,
        **options: int,
    ) -> ActorHandle[Any]:
        """One actor in its bundle.

        Args:
            kind: its class.
            name: in Ray.
            arguments: of its constructor.
            place: its name in the layout, where it is another one.
            groups: threads of its concurrency groups.
            options: Ray's, such as max_concurrency.
        """
        place = place or name
        cpus, gpus = self._layout.share_of(place)
        strategy = PlacementGroupSchedulingStrategy(
            placement_group=self._group, placement_group_bundle_index=self._places[self._layout.bundle_of(place)]
        )
        remote: Any = ray.remote  # its annotations know nothing of concurrency groups
        actor = remote(concurrency_groups=groups or {})(kind).options(
            name=name,
            num_cpus=cpus,
            num_gpus=gpus,
            scheduling_strategy=strategy,
            runtime_env={"env_vars": self._env | self._own_environment(kind, gpus)},
            **options,
        )
        handle: ActorHandle[Any] = actor.remote(*arguments)
        self._handles.append(handle)
        if hasattr(kind, "stop"):
            self._stoppable.append(handle)
        return handle

    def _own_environment(self, kind: type, gpus: float) -> dict[str, str]:
        if not gpus:
            return NO_GPU
        return learner_environment(self._config, on_gpu=self._layout.on_gpu) if kind is LearnerRank else {}


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


def _nodes_of(group: PlacementGroup, count: int) -> list[str]:
    """For each bundle of a group that is there, the id of its node."""
    nodes: dict[int, str] = placement_group_table(group)["bundles_to_node_id"]
    return [nodes[index] for index in range(count)]


def _wait_for(
    group: PlacementGroup, layout: Layout, seconds: float, say: Callable[[str], None] = LOGGER.warning
) -> None:
    wanted = f"the layout wants {layout.cpus:g} CPUs and {layout.gpus:g} GPUs"
    until = time.monotonic() + seconds
    while not group.wait(min(SAID_EVERY, max(0.0, until - time.monotonic()))):
        free = ray.available_resources()
        there = f"Free now: {free.get('CPU', 0.0):g} CPUs and {free.get('GPU', 0.0):g} GPUs"
        if time.monotonic() >= until:
            raise ConfigError(
                f"{wanted}, and the cluster did not give them within {seconds:g} s. {there}. Other jobs hold the rest, "
                "or part of a node on which the run wants more; where the cluster grows, raise cluster.wait_seconds"
            )
        say(f"{wanted}, waiting for them since the cluster has not given them yet. {there}")

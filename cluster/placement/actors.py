"""Starts the actors of a run in one placement group, and ends them. Names are what the Ray dashboard shows."""

import itertools
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
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

from actors.deadlines import START
from actors.filtering.client import FilterClient
from actors.filtering.filter import Filter
from actors.grading.client import JudgeClient, ScorerClient, VerifierClient
from actors.grading.judge import JudgeModel
from actors.grading.scorer import ScorerModel
from actors.grading.verifier import Verifier
from actors.pool import GeneratorPool
from actors.remote import PULSE_THREAD, pulse
from actors.rollouts.client import GeneratorClient
from actors.rollouts.generator import Generator
from actors.settings import ALONE_SHARE
from actors.types import EngineSpec
from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.placement.elastic import Unit, found_room, is_placed
from cluster.placement.environment import NO_GPU, environment, learner_environment
from cluster.placement.layout import RANK, Layout, judge_actor, scorer_actor
from cluster.placement.nodes import check_nodes
from cluster.placement.reachable import ended
from cluster.placement.sight import NodeFiles
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
    judges: tuple[JudgeClient, ...]
    scorers: Mapping[str, ScorerClient]  # by the name of the reward
    filter: FilterClient
    backend: str  # how weights travel between learner and generators
    places: "ActorFactory"  # where generators come and go, and what else is looked after


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How it is found out that an actor hangs."""

    name: str
    ask: Callable[[], Awaitable[object]]  # a sign of life
    end: Callable[[], None]  # its process; Ray starts another one where the run can go on with it
    seconds: float  # without a sign of life, at least; 0 leaves it to cluster.silent_seconds


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
        files = NodeFiles(prepared)
        files.check(_by_node(nodes, layout))
        check_nodes(prepared.config, hosts, on_gpu=layout.on_gpu)
        factory = ActorFactory(group, layout, layout.places(nodes), prepared, files)
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

    def __init__(
        self, group: PlacementGroup, layout: Layout, places: Sequence[int], prepared: Prepared, files: NodeFiles
    ) -> None:
        """`places` has for each bundle of the layout the index of that of the group which takes its place."""
        self._files = files
        config = prepared.config
        self._group, self._layout, self._prepared, self._config = group, layout, prepared, config
        self._backend = choose_backend(config.sync.backend, on_gpu=layout.on_gpu, colocate=config.cluster.colocate)
        self._env = environment(config, self._backend, on_gpu=layout.on_gpu)
        self._places = places
        self._calls = calls_at_once(config)
        self._handles: dict[str, ActorHandle[Any]] = {}
        self._stoppable: list[ActorHandle[Any]] = []  # those with processes that Ray does not know
        self._made = Counter[str]()  # actors so far, by their place
        self._now: dict[str, str] = {}  # place -> name of the actor that holds it, where one may take another's place
        self._rooms: dict[str, PlacementGroup] = {}  # of elastic generators, by their place
        self._verifiers: dict[str, list[VerifierClient]] = {}  # of elastic generators by place, and of all others: ""
        self._judges: dict[str, str] = {}  # reward name -> name of the judge actor that this run hosts for it
        self._scorers: dict[str, str] = {}  # reward name -> name of its scorer actor

    def create_all(self) -> RunActors:
        """Every actor of the layout."""
        self._judges, self._scorers = self._create_judges(), self._create_scorers()
        self._create_verifiers("", [f"verifier-{index}" for index in range(self._layout.verifiers)])
        generators = [self.create_generator(place) for place in self.fixed]
        return RunActors(
            learner=LearnerClient(self._create_ranks),
            generators=GeneratorPool(generators),
            judges=tuple(JudgeClient(self._handles[name], name) for name in self._judges.values()),
            scorers={reward: ScorerClient(self._handles[name], name) for reward, name in self._scorers.items()},
            filter=FilterClient(self._create_filter),
            backend=self._backend,
            places=self,
        )

    @property
    def fixed(self) -> tuple[str, ...]:
        """The places of the layout that hold a generator."""
        count = self._config.cluster.fewest_generators if self._config.samples else 0
        return tuple(f"generator-{index}" for index in range(count))

    @property
    def spare(self) -> int:
        """How many elastic generators there may be beside those."""
        return self._config.cluster.most_generators - len(self.fixed) if self.fixed else 0

    @property
    def verifiers(self) -> list[VerifierClient]:
        """All verifiers that there are now."""
        return [verifier for each in self._verifiers.values() for verifier in each]

    @property
    def is_whole(self) -> bool:
        """Whether all of the layout is placed: after the loss of a node Ray looks for another one."""
        return is_placed(self._group)

    def create_generator(self, place: str) -> GeneratorClient:
        """A generator in a place whose last one, if there was one, has been killed; it is not started yet."""
        name = self._next(place)
        verifiers = [client.handle for client in self._verifiers.get(place, self._verifiers[""])]
        engine = self._engine_spec()
        handle = self._create(Generator, name, engine, verifiers, place=place, max_concurrency=self._calls)
        return GeneratorClient(name, handle)

    async def furnish(self) -> None:
        """Has nodes that have come since the start fetch what their actors read."""
        places = _by_node(_nodes_of(self._group, len(self._layout.bundles)), self._layout)
        for name, room in self._rooms.items():
            places.setdefault(_nodes_of(room, 1)[0], []).extend((name, f"{name}-verifier-0"))
        await self._files.furnish(places)

    async def room(self) -> str:
        """Waits until the cluster has room for one elastic generator and its verifiers; gives its place."""
        group = await found_room(Unit.like(self._layout, len(self.fixed)))
        numbers = itertools.count(len(self.fixed))
        place = next(name for number in numbers if (name := f"generator-{number}") not in self._rooms)
        self._rooms[place] = group
        unit = Unit.like(self._layout, len(self.fixed))
        self._create_verifiers(place, [f"{place}-verifier-{self._made[place]}-{i}" for i in range(unit.verifiers)])
        return place

    def leave(self, place: str) -> None:
        """Gives the room of an elastic generator back, with all that is in it."""
        for verifier in self._verifiers.pop(place):
            ray.kill(verifier.handle)
        remove_placement_group(self._rooms.pop(place))

    def pulses(self) -> list[Pulse]:
        """Of all actors but the generators, which are watched where they are replaced."""
        ranks = [self._now[f"{RANK}{rank}"] for rank in range(self._config.cluster.learner_ranks)]
        verifiers = [verifier.name for verifier in self.verifiers]
        return [
            *(self._pulse(name, blocks=True) for name in ranks),
            self._pulse(self._now["filter"], blocks=False),
            *(self._pulse(name, blocks=True, again=True) for name in [*verifiers, *self._scorers.values()]),
            # a judge that Ray has started anew starts its engine when it is asked, and answers nobody meanwhile
            *(self._pulse(name, blocks=False, again=True, seconds=START) for name in self._judges.values()),
        ]

    def _pulse(self, name: str, *, blocks: bool, again: bool = False, seconds: float = 0.0) -> Pulse:
        """`blocks`: see `actors.remote.pulse`; `again`: whether Ray starts it again."""
        handle = self._handles[name]
        return Pulse(
            name=name,
            ask=lambda: pulse(handle, blocks=blocks),
            end=lambda: ray.kill(handle, no_restart=not again),
            seconds=seconds,
        )

    def _create_ranks(self) -> list[ActorHandle[Any]]:
        """The ranks of the learner; earlier ones have been killed."""
        threads, count = learner_threads(self._config), self._config.cluster.learner_ranks
        places = [f"{RANK}{rank}" for rank in range(count)]
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
        self._now[place] = f"{place}.{number}" if number else place
        return self._now[place]

    def end_all(self) -> None:
        """Stops the engines and the graders, whose processes Ray does not know, then ends every actor."""
        stops: list[Any] = [handle.stop.remote() for handle in self._stoppable]
        if stops:
            seconds = GPU_STOP_SECONDS if self._layout.on_gpu else STOP_SECONDS
            ray.wait(stops, num_returns=len(stops), timeout=seconds)
        for handle in self._handles.values():
            ray.kill(handle)
        for place in list(self._rooms):
            self.leave(place)

    def _create_verifiers(self, place: str, names: Sequence[str]) -> None:
        """The verifiers of an elastic generator; those of "" serve all others."""
        clients = []
        for name in names:
            hosted = dict(self._judges), dict(self._scorers)
            handle = self._create(Verifier, name, *hosted, place=place, groups=PULSE_THREAD, max_restarts=-1)
            clients.append(VerifierClient(handle, name))
        self._verifiers[place] = clients

    def _create_judges(self) -> dict[str, str]:
        """reward name -> name of the judge actor that this run hosts for it."""
        names = {}
        for reward, folder in self._config.hosted_judges.items():
            names[reward] = judge_actor(reward)
            spec, calls = self._judge_spec(reward, folder), self._calls
            self._create(JudgeModel, names[reward], spec, max_concurrency=calls, max_restarts=-1)
        return names

    def _create_scorers(self) -> dict[str, str]:
        """reward name -> name of the scorer actor that this run hosts for it."""
        names = {reward: scorer_actor(reward) for reward in self._config.hosted_scorers(self._layout.on_gpu)}
        for name in names.values():
            self._create(ScorerModel, name, groups=PULSE_THREAD, max_restarts=-1, max_task_retries=1)
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
            place: name of its place in the layout, or of that of the elastic generator that it belongs to; unset: its
                own.
            groups: threads of its concurrency groups.
            options: Ray's, such as max_concurrency.
        """
        strategy, cpus, gpus = self._spot(kind, place or name)
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
        self._handles[name] = handle
        if hasattr(kind, "stop"):
            self._stoppable.append(handle)
        return handle

    def _spot(self, kind: type, place: str) -> tuple[PlacementGroupSchedulingStrategy, float, float]:
        """Where an actor goes, and its CPUs and GPUs."""
        if room := self._rooms.get(place):
            unit = Unit.like(self._layout, len(self.fixed))
            cpus, gpus = unit.generator if kind is Generator else unit.verifier
            return PlacementGroupSchedulingStrategy(room, 0), cpus, gpus
        bundle = self._places[self._layout.bundle_of(place)]
        return PlacementGroupSchedulingStrategy(self._group, bundle), *self._layout.share_of(place)

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
        cores -= config.cluster.fewest_generators
    return max(1, cores // config.cluster.learner_ranks)


def _nodes_of(group: PlacementGroup, count: int) -> list[str]:
    """For each bundle of a group that is there, the id of its node."""
    nodes: dict[int, str] = placement_group_table(group)["bundles_to_node_id"]
    return [nodes[index] for index in range(count)]


def _by_node(nodes: Sequence[str], layout: Layout) -> dict[str, list[str]]:
    """id of a node -> the places of the layout there, from the nodes of its bundles."""
    places: dict[str, list[str]] = {}
    for node, bundle in zip(nodes, layout.bundles, strict=True):
        places.setdefault(node, []).extend(bundle.actors)
    return places


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

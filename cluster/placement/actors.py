"""Starts the actors of a run where Ray has placed them, and ends them. Names are what the Ray dashboard shows."""

import itertools
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.deadlines import START
from actors.filtering.client import FilterClient
from actors.filtering.filter import Filter
from actors.grading.client import JudgeClient, ScorerClient, VerifierClient
from actors.grading.judge import JudgeModel
from actors.grading.scorer import ScorerModel
from actors.grading.verifier import VERIFIER_THREADS, Verifier
from actors.pool import GeneratorPool
from actors.remote import PULSE_THREAD, pulse
from actors.rollouts.client import GeneratorClient
from actors.rollouts.generator import Generator
from actors.settings import ALONE_SHARE
from actors.types import EngineSpec
from cluster.config.run_config import RunConfig
from cluster.placement.elastic import Unit, found_room
from cluster.placement.environment import NO_GPU, environment, learner_environment
from cluster.placement.layout import EVALUATOR, RANK, Layout, judge_actor, scorer_actor
from cluster.placement.nodes import check_gpu_nodes
from cluster.placement.placing import Placed, nodes_of
from cluster.placement.reachable import ended
from cluster.placement.sight import NodeFiles
from cluster.preparing.preflight import Prepared
from learner.actor import THREADS, LearnerRank
from learner.client import Learner, LearnerClient
from learner.transfer import choose_backend

PLACEMENT_SECONDS = 30.0  # to get the resources of a run from a cluster that others use too
SPARE_CALLS = 16  # calls that an actor takes at the same time beside those of groups: syncs, reports, probes
# For engines and graders to end their processes before their actors are killed: on GPUs, graphs and communicators too.
STOP_SECONDS, GPU_STOP_SECONDS = 10.0, 60.0


Actors = TypeVar("Actors")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingActors:
    """The running actors that sample and grade, each behind its client."""

    generators: GeneratorPool
    judges: tuple[JudgeClient, ...]
    scorers: Mapping[str, ScorerClient]  # by the name of the reward
    places: "ActorFactory"  # where generators come and go, and what else is looked after


@dataclass(frozen=True, slots=True, kw_only=True)
class RunActors(SamplingActors):
    """All actors of a training run."""

    learner: Learner
    filter: FilterClient
    evaluators: GeneratorPool  # generators that evaluate alone
    backend: str  # how weights travel between learner and generators


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How it is found out that an actor hangs."""

    name: str
    ask: Callable[[], Awaitable[object]]  # a sign of life
    end: Callable[[], None]  # its process; Ray starts another one where the run can go on with it
    seconds: float  # without a sign of life, at least; 0 leaves it to cluster.silent_seconds


@contextmanager
def running_actors(prepared: Prepared, layout: Layout, label: str = "", until: float = 0.0) -> Iterator[RunActors]:
    """All actors of a run, created but not yet started. They may serve other runs of the same shape after it, one at a
    time, and are gone when the context ends. Arguments and errors are those of `_placed_actors`."""
    with _placed_actors(ActorFactory.create_all, prepared, layout, label, until) as actors:
        yield actors


@contextmanager
def sampling_actors(
    prepared: Prepared, layout: Layout, label: str = "", until: float = 0.0
) -> Iterator[SamplingActors]:
    """As `running_actors`, of a run that trains nothing: engines read the weights of `model.path` when they start."""
    with _placed_actors(ActorFactory.create_sampling, prepared, layout, label, until) as actors:
        yield actors


@contextmanager
def learner_ranks(prepared: Prepared, layout: Layout, label: str, until: float) -> Iterator[LearnerClient]:
    """As `running_actors`, of a run that samples nothing: the learner alone."""
    with _placed_actors(ActorFactory.create_learner, prepared, layout, label, until) as learner:
        yield learner


@contextmanager
def _placed_actors(
    create: Callable[["ActorFactory"], Actors], prepared: Prepared, layout: Layout, label: str, until: float
) -> Iterator[Actors]:
    """The actors that a factory creates in the layout.

    Args:
        create: what the factory is asked for.
        prepared: the run.
        layout: where its actors go.
        label: stands before their names in Ray, so that they are told from those of others on the cluster; unset, the
            run's name.
        until: when the run gives up to wait for its resources, in seconds of time.monotonic; it waits for
            PLACEMENT_SECONDS in any case.

    Raises:
        ConfigError: the cluster's resources are taken by others, or a node lacks what the run needs there.
    """
    label = label or prepared.config.run.name
    placed = Placed(layout, label)
    try:
        placed.place(max(PLACEMENT_SECONDS, until - time.monotonic()))
        files = NodeFiles(prepared)
        files.check(placed.by_node)
        check_gpu_nodes({placed.node_of(actor) for bundle in layout.bundles if bundle.gpus for actor in bundle.actors})
        factory = ActorFactory(placed, prepared, label, files)
        try:
            yield create(factory)
        finally:
            if not ended():
                factory.end_all()
    finally:
        if not ended():  # else there is nobody to ask, for which Ray would wait for a minute, and end this process then
            placed.remove()


class ActorFactory:
    """Creates the actors of a run in their bundles, and ends them."""

    def __init__(self, placed: Placed, prepared: Prepared, label: str, files: NodeFiles) -> None:
        """`label` stands before the names of actors in Ray; `files` are those that nodes read."""
        config, layout = prepared.config, placed.layout
        self._placed, self._layout, self._prepared, self._config = placed, layout, prepared, config
        self._label, self._files = label, files
        self._backend = ""  # weights come from the folder
        if config.trains:
            self._backend = choose_backend(config.sync.backend, on_gpu=layout.on_gpu, colocate=config.cluster.colocate)
        self._env = environment(config, self._backend, on_gpu=layout.on_gpu)
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
        sampling = self.create_sampling()
        return RunActors(
            learner=self.create_learner(),
            generators=sampling.generators,
            judges=sampling.judges,
            scorers=sampling.scorers,
            filter=FilterClient(self._create_filter),
            evaluators=GeneratorPool([self.create_generator(place) for place in self.evaluating]),
            backend=self._backend,
            places=self,
        )

    def create_learner(self) -> LearnerClient:
        """The ranks of the learner."""
        return LearnerClient(self._create_ranks)

    def create_sampling(self) -> SamplingActors:
        """The actors that sample and grade."""
        self._judges, self._scorers = self._create_judges(), self._create_scorers()
        self._create_verifiers("", [f"verifier-{index}" for index in range(self._layout.verifiers)])
        generators = [self.create_generator(place) for place in self.fixed]
        return SamplingActors(
            generators=GeneratorPool(generators),
            judges=tuple(JudgeClient(self._handles[name], name) for name in self._judges.values()),
            scorers={reward: ScorerClient(self._handles[name], name) for reward, name in self._scorers.items()},
            places=self,
        )

    @property
    def fixed(self) -> tuple[str, ...]:
        """The places of the layout that hold a generator."""
        count = self._config.cluster.fewest_generators if self._config.samples else 0
        return tuple(f"generator-{index}" for index in range(count))

    @property
    def evaluating(self) -> tuple[str, ...]:
        """The places of the layout that hold a generator which evaluates."""
        return tuple(f"{EVALUATOR}{index}" for index in range(self._config.evaluators))

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
        return self._placed.is_whole

    def create_generator(self, place: str) -> GeneratorClient:
        """A generator in a place whose last one, if there was one, has been killed; it is not started yet."""
        name = self._next(place)
        verifiers = [client.handle for client in self._verifiers.get(place, self._verifiers[""])]
        engine = self._engine_spec()
        handle = self._create(Generator, name, engine, verifiers, place=place, max_concurrency=self._calls)
        return GeneratorClient(name, handle)

    async def furnish(self) -> None:
        """Has nodes that have come since the start fetch what their actors read."""
        places = self._placed.by_node
        for name, room in self._rooms.items():
            places.setdefault(nodes_of(room)[0], []).extend((name, f"{name}-verifier-0"))
        await self._files.furnish(places)

    async def room(self) -> str:
        """Waits until the cluster has room for one elastic generator and its verifiers; gives its place."""
        unit = Unit.like(self._layout, len(self.fixed))
        group = await found_room(unit, self._label)
        numbers = itertools.count(len(self.fixed))
        place = next(name for number in numbers if (name := f"generator-{number}") not in self._rooms)
        self._rooms[place] = group
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
        return [
            *(self._pulse(name, blocks=True) for name in ranks),
            self._pulse(self._now["filter"], blocks=False),
            *(self._pulse(verifier.name, verifier.alive, again=True) for verifier in self.verifiers),
            *(self._pulse(name, blocks=True, again=True) for name in self._scorers.values()),
            # a judge that Ray has started anew starts its engine when it is asked, and answers nobody meanwhile
            *(self._pulse(name, blocks=False, again=True, seconds=START) for name in self._judges.values()),
        ]

    def _pulse(
        self,
        name: str,
        ask: Callable[[], Awaitable[object]] | None = None,
        *,
        blocks: bool = False,
        again: bool = False,
        seconds: float = 0.0,
    ) -> Pulse:
        """
        Args:
            name: of the actor.
            ask: for a sign of life; None looks only whether its process is there.
            blocks: see `actors.remote.pulse`.
            again: whether Ray starts it again.
            seconds: without a sign of life, at least.
        """
        handle = self._handles[name]
        return Pulse(
            name=name,
            ask=ask or (lambda: pulse(handle, blocks=blocks)),
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
            hosted = self._named_in_ray(self._judges), self._named_in_ray(self._scorers)
            handle = self._create(Verifier, name, *hosted, place=place, groups=VERIFIER_THREADS, max_restarts=-1)
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
            name: in Ray, behind the label.
            arguments: of its constructor.
            place: name of its place in the layout, or of that of the elastic generator that it belongs to; unset: its
                own.
            groups: threads of its concurrency groups.
            options: Ray's, such as max_concurrency.
        """
        strategy, cpus, gpus = self._spot(kind, place or name)
        remote: Any = ray.remote  # its annotations know nothing of concurrency groups
        actor = remote(concurrency_groups=groups or {})(kind).options(
            name=self._name_in_ray(name),
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

    def _name_in_ray(self, name: str) -> str:
        return f"{self._label}/{name}"

    def _named_in_ray(self, actors: Mapping[str, str]) -> dict[str, str]:
        """reward name -> name in Ray of the actor that is hosted for it."""
        return {reward: self._name_in_ray(name) for reward, name in actors.items()}

    def _spot(self, kind: type, place: str) -> tuple[PlacementGroupSchedulingStrategy, float, float]:
        """Where an actor goes, and its CPUs and GPUs."""
        if room := self._rooms.get(place):
            unit = Unit.like(self._layout, len(self.fixed))
            cpus, gpus = unit.generator if kind is Generator else unit.verifier
            return PlacementGroupSchedulingStrategy(room, 0), cpus, gpus
        return self._placed.spot_of(place)

    def _own_environment(self, kind: type, gpus: float) -> dict[str, str]:
        if not gpus:
            return NO_GPU
        return learner_environment(self._config, on_gpu=self._layout.on_gpu) if kind is LearnerRank else {}


def calls_at_once(config: RunConfig) -> int:
    """Calls that a generator, a judge and the filter take at the same time: one for every group that may be in flight
    and for every prompt of an evaluation, and some to spare."""
    slots = (config.rollout.max_staleness + 1) * config.rollout.groups_per_step
    return slots + config.eval.prompts * max(1, len(config.eval.benchmarks)) + SPARE_CALLS


def learner_threads(config: RunConfig) -> int:
    """CPU threads of a learner rank: the cores that are left when each generator that samples while the learner trains
    has one, divided by the ranks, at least 1. With rollout.max_staleness = 0 those of the run take turns with it."""
    cores = len(os.sched_getaffinity(0)) - config.evaluators
    if config.rollout.max_staleness:
        cores -= config.cluster.fewest_generators
    return max(1, cores // config.cluster.learner_ranks)

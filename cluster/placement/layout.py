"""Which bundle hosts what: computed as a value from what a cluster has free, printed by `--plan`, tested for sizes that
nobody here owns.

On GPUs a bundle is all ranks, or all engines, of one node: whatever talks much stays together, and no engine lies
across nodes. A colocated pair has a bundle of its own, as Ray would not keep two halves of one GPU together otherwise.
"""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby

from cluster.config.errors import ConfigError
from cluster.config.sections import ClusterSettings, Kind
from cluster.placement.node import CPU, GPU, Node, Nodes, in_words
from cluster.placement.sites import ANYWHERE, Site, site_of
from cluster.reporting.words import counted

# Without GPUs the stages take turns on the same cores, so each asks for a part of one; also where a machine with GPUs
# has too few cores for a whole one each.
CPU_SHARES = {"learner": 0.4, "generator": 0.4, "verifier": 0.1, "filter": 0.1}
WHOLE_CPUS = dict.fromkeys(CPU_SHARES, 1.0)
# Verifiers that are planned at most where nobody says how many: for each generator, with few of them, and in all.
MOST_EACH, MOST_OF_FEW, MOST_VERIFIERS = 4, 64, 512
CORES_EACH, LAPTOP_CORES_EACH = 2, 8  # CPUs for each verifier that is planned, with and without GPUs
ROUNDING = 1e-6
RANK = "learner-rank-"  # how the names of the learner's actors begin
EVALUATOR = "evaluator-"  # and those of generators that evaluate

# Room for any layout, to say what it takes in all.
ENDLESS: Nodes = {"": Node.unused({CPU: 1e6, GPU: 1e6})}


class NoRoom(ConfigError):
    """A layout does not fit on the nodes that there are, or on what is free of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Resources on one node, and the actors that live in them, each with an equal part."""

    actors: tuple[str, ...]
    cpus: float
    gpus: float
    node: str = ""  # on which it is planned; Ray may choose another one that it fits on
    site: Site = ANYWHERE  # its resources are those of each unit
    units: int = 1  # of actors that stay together: of one, or of a colocated pair
    kind: Kind = "learner"  # of its actors, or of the first of a pair

    @property
    def resources(self) -> dict[str, float]:
        """In Ray's words."""
        custom = ((name, self.units * amount) for name, amount in self.site.resources)
        return {name: amount for name, amount in ((CPU, self.cpus), (GPU, self.gpus), *custom) if amount}

    @property
    def apart(self) -> "tuple[Bundle, ...]":
        """A bundle for each unit."""
        size = len(self.actors) // self.units
        share = replace(self, cpus=round(self.cpus / self.units, 3), gpus=self.gpus / self.units, units=1)
        starts = range(0, len(self.actors), size)
        return tuple(replace(share, actors=self.actors[start : start + size]) for start in starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where every actor of a run goes."""

    bundles: tuple[Bundle, ...]
    on_gpu: bool
    verifiers: int  # how many there are

    @property
    def cpus(self) -> float:
        return round(sum(bundle.cpus for bundle in self.bundles), 3)

    @property
    def gpus(self) -> float:
        return sum(bundle.gpus for bundle in self.bundles)

    @property
    def ranks(self) -> tuple[int, ...]:
        """How many learner ranks each bundle holds."""
        return tuple(sum(actor.startswith(RANK) for actor in bundle.actors) for bundle in self.bundles)

    @property
    def parts(self) -> tuple[tuple[Bundle, ...], ...]:
        """Successive bundles of one site, each part to be placed when those before it are: whoever may be on few nodes
        goes first, as Ray would let others fill these."""
        return tuple(tuple(part) for _, part in groupby(self.bundles, key=lambda bundle: bundle.site))

    def share_of(self, actor: str) -> tuple[float, float]:
        """(CPUs, GPUs) of one actor within its bundle."""
        bundle = self.bundle_of(actor)
        return bundle.cpus / len(bundle.actors), bundle.gpus / len(bundle.actors)

    def bundle_of(self, actor: str) -> Bundle:
        """The bundle that an actor lives in."""
        return next(bundle for bundle in self.bundles if actor in bundle.actors)


def places(bundles: Sequence[Bundle], nodes: Sequence[str]) -> tuple[int, ...]:
    """For each bundle the index of the one that it should take the place of, so that those with successive numbers lie
    on one node, the first on the node that has most of them. Ray may have spread bundles of one size in any way.

    Args:
        bundles: of one site.
        nodes: for each bundle, the node on which Ray has put it.
    """
    alike: dict[tuple[float, float], list[int]] = {}
    for index, bundle in enumerate(bundles):
        alike.setdefault((bundle.cpus, bundle.gpus), []).append(index)
    found = list(range(len(bundles)))
    for members in alike.values():
        count = Counter(nodes[index] for index in members)
        ordered = sorted(members, key=lambda index: (-count[nodes[index]], nodes[index]))
        for index, place in zip(members, ordered, strict=True):
            found[index] = place
    return tuple(found)


def judge_actor(reward: str) -> str:
    """Name of the actor that hosts the judge of a reward."""
    return f"judge-{reward}"


def scorer_actor(reward: str) -> str:
    """Name of the actor that hosts the model of a reward on a GPU of its own."""
    return f"scorer-{reward}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run wants to place."""

    cluster: ClusterSettings
    on_gpu: bool  # whether learner and engines get GPUs
    judges: tuple[str, ...] = ()  # rewards whose judge the run hosts itself
    scorers: tuple[str, ...] = ()  # rewards whose model gets a GPU of its own
    evaluators: int = 0  # generators that evaluate, beside those of the cluster's settings


def plan_layout(wanted: Wanted, nodes: Nodes) -> Layout:
    """The layout of a run on these nodes.

    Raises:
        NoRoom: it does not fit.
    """
    if not wanted.on_gpu:
        return _Planner(wanted, nodes, CPU_SHARES).layout()
    try:
        return _Planner(wanted, nodes, WHOLE_CPUS).layout()
    except NoRoom as lack:
        with suppress(NoRoom):
            return _Planner(wanted, nodes, CPU_SHARES).layout()
        raise lack


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """Actors of one kind that are placed together."""

    kind: Kind
    units: tuple[tuple[str, ...], ...]  # actors that stay together
    cpus: float  # of each unit
    gpus: float
    site: Site
    together: bool  # whether as many as a node takes share a bundle


class _Planner:
    """Puts actors on nodes, one kind after the other, and remembers what is left of each node."""

    def __init__(self, wanted: Wanted, nodes: Nodes, shares: Mapping[str, float]) -> None:
        self._wanted, self._nodes, self._shares = wanted, nodes, shares
        self._left = {name: dict(node.free) for name, node in nodes.items()}
        self._bundles: list[Bundle] = []

    def layout(self) -> Layout:
        """All bundles: learner ranks, generators, judges, scorers, verifiers, filter. Without ranks nothing is trained,
        with 0 verifiers nothing is graded, and there is no filter.

        Who may be on few nodes finds its place first, and then what is wider than a GPU, since it fits into fewer gaps;
        then the rest of the GPUs, and what has none.
        """
        for stage in sorted(self._gpu_stages(), key=lambda stage: self._choice(stage.site)):
            self._put_all(stage)
        wanted = self._wanted.cluster
        count = self._planned_verifiers() if wanted.verifiers is None else wanted.verifiers
        self._put_all(self._stage("verifier", [f"verifier-{index}" for index in range(count)], 0.0))
        self._put_all(self._stage("filter", ["filter"] if wanted.learner_ranks and count else [], 0.0))
        return Layout(bundles=tuple(self._bundles), on_gpu=self._wanted.on_gpu, verifiers=count)

    def _gpu_stages(self) -> Iterator[_Stage]:
        """Those that have GPUs where there are any."""
        cluster, gpu = self._wanted.cluster, float(self._wanted.on_gpu)
        width = gpu * cluster.tensor_parallel
        names = [f"{RANK}{rank}" for rank in range(cluster.learner_ranks)]
        ranks = self._stage("learner", names, gpu, together=True)
        names = [f"generator-{index}" for index in range(cluster.fewest_generators)]
        engines = self._stage("generator", names, width, together=True)
        if engines.units and cluster.colocate and self._wanted.on_gpu:
            units = tuple((*rank, *engine) for rank, engine in zip(ranks.units, engines.units, strict=True))
            both = [(name, 2 * amount) for name, amount in ranks.site.resources]
            site = replace(ranks.site, resources=tuple(both))
            yield replace(ranks, units=units, cpus=ranks.cpus + engines.cpus, site=site, together=False)
        else:
            names = [f"{EVALUATOR}{index}" for index in range(self._wanted.evaluators)]
            evaluators = self._stage("generator", names, width, together=True)
            yield from (engines, evaluators, ranks) if width > 1 else (ranks, engines, evaluators)
        yield self._stage("judge", [judge_actor(reward) for reward in self._wanted.judges], width)
        yield self._stage("scorer", [scorer_actor(reward) for reward in self._wanted.scorers], gpu)

    def _stage(self, kind: Kind, actors: Sequence[str], gpus: float, *, together: bool = False) -> _Stage:
        """`together` holds on GPUs: without them each actor has a bundle."""
        return _Stage(
            kind=kind,
            units=tuple((actor,) for actor in actors),
            cpus=self._shares.get(kind, self._shares["generator"]),
            gpus=gpus,
            site=site_of(self._wanted.cluster, kind),
            together=together and gpus > 0,
        )

    def _choice(self, site: Site) -> int:
        """How many nodes an actor may be on."""
        return sum(self._may_be_on(node, site) for node in self._nodes.values())

    def _may_be_on(self, node: Node, site: Site) -> bool:
        return site.allows(node.labels) and all(node.has(name) for name, _ in site.resources)

    def _planned_verifiers(self) -> int:
        """How many verifiers the CPUs suggest; the free ones on GPUs, where the others have a CPU each."""
        cluster, site = self._wanted.cluster, site_of(self._wanted.cluster, "verifier")
        most = min(MOST_VERIFIERS, max(MOST_OF_FEW, MOST_EACH * cluster.fewest_generators))
        there = [name for name, node in self._nodes.items() if self._may_be_on(node, site)]
        if self._wanted.on_gpu:
            free = sum(self._left[name].get(CPU, 0.0) for name in there) - self._shares["filter"]
            return max(1, min(most, int(free) // CORES_EACH))
        cores = sum(self._nodes[name].free.get(CPU, 0.0) for name in there)
        return max(1, min(most, int(cores) // LAPTOP_CORES_EACH))

    def _put_all(self, stage: _Stage) -> None:
        left = stage.units
        while left:
            left = left[self._put(stage, left) :]

    def _put(self, stage: _Stage, left: Sequence[tuple[str, ...]]) -> int:
        """As many of the units as fit on one node, and how many that are. Together they have one bundle, on the node
        that takes all and is the fullest of these, else on the one that takes most. Apart, each has a bundle, on the
        fullest node with room: that stays the fullest until it has none, so that nodes are compared once for each.

        Raises:
            NoRoom: no node has room for one.
        """
        units = left if stage.together else left[:1]
        needs = {CPU: stage.cpus, GPU: stage.gpus, **dict(stage.site.resources)}
        rooms = {name: self._room(name, needs) for name, node in self._nodes.items() if stage.site.allows(node.labels)}
        enough = [name for name, room in rooms.items() if room >= len(units)]
        node = min(enough, key=self._fullness) if enough else max(rooms, key=rooms.__getitem__, default="")
        count = min(rooms.get(node, 0), len(left))
        taken = left[: max(1, count)]
        bundle = Bundle(
            actors=tuple(actor for unit in taken for actor in unit),
            cpus=round(len(taken) * stage.cpus, 3),
            gpus=len(taken) * stage.gpus,
            node=node,
            site=stage.site,
            units=len(taken),
            kind=stage.kind,
        )
        if not count:
            raise NoRoom(self._lack(bundle, stage.kind))
        for placed in (bundle,) if stage.together else bundle.apart:
            self._bundles.append(placed)
            for name, amount in placed.resources.items():
                self._left[node][name] -= amount
        return count

    def _fullness(self, node: str) -> tuple[float, float]:
        left = self._left[node]
        return left.get(GPU, 0.0), left.get(CPU, 0.0)

    def _room(self, node: str, needs: Mapping[str, float]) -> int:
        """How many units that need this fit on a node."""
        left = self._left[node]
        rooms = (int((left.get(name, 0.0) + ROUNDING) / need) for name, need in needs.items() if need)
        return max(0, min(rooms))

    @property
    def _may_share(self) -> bool:
        """Whether generators could take turns with ranks on their GPUs."""
        cluster = self._wanted.cluster
        alike = cluster.tensor_parallel == 1 and cluster.most_generators == cluster.learner_ranks
        return self._wanted.on_gpu and alike and not cluster.colocate

    def _lack(self, bundle: Bundle, kind: Kind) -> str:
        changes = {"verifiers": self._wanted.cluster.verifiers or 1, "nodes": {}}
        cluster = self._wanted.cluster.model_copy(update=changes)
        whole = _Planner(replace(self._wanted, cluster=cluster), ENDLESS, self._shares).layout()
        where = ""
        if str(bundle.site):
            count = f"{self._choice(bundle.site)} of {len(self._nodes)} nodes"
            where = f", as cluster.nodes has it for {kind} only where there is {bundle.site}: {count}"
        return (
            f"the layout wants {counted(whole.cpus, 'CPU')} and {counted(whole.gpus, 'GPU')}, but there is no room for "
            f"{' with '.join(bundle.actors)} ({counted(bundle.cpus, 'CPU')} and {counted(bundle.gpus, 'GPU')} on one "
            f"node{where}). "
            f"There is: {in_words(self._nodes)}. "
            f"Lower cluster.generators, {'eval.generators, ' * bool(self._wanted.evaluators)}cluster.tensor_parallel, "
            "cluster.learner_ranks or cluster.verifiers"
            + ", or have generators and ranks share GPUs with cluster.colocate"
            * self._may_share
        )


def this_machine() -> Nodes:
    """What Ray would find on this machine."""
    return {"this machine": Node.unused({CPU: float(len(os.sched_getaffinity(0))), GPU: float(_count_gpus())})}


def _count_gpus() -> int:
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([device for device in visible.split(",") if device and device != "-1"])
    if shutil.which("nvidia-smi") is None:
        return 0
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())

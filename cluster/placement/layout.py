"""Which bundle hosts what: computed as a value, printed by `--plan`, checked against what a cluster has, tested for
sizes that nobody here owns. One Ray placement group holds all bundles of a run.

On GPUs a bundle is all ranks, or all engines, of one node: whatever talks much stays together, and no engine lies
across nodes. A colocated pair has a bundle of its own, as Ray would not keep two halves of one GPU together otherwise.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cluster.config.errors import ConfigError
from cluster.config.sections import ClusterSettings

# Without GPUs the stages take turns on the same cores, so each asks for a part of one; also where a machine with GPUs
# has too few cores for a whole one each.
CPU_SHARES = {"learner": 0.4, "generator": 0.4, "verifier": 0.1, "filter": 0.1}
WHOLE_CPUS = dict.fromkeys(CPU_SHARES, 1.0)
MOST_VERIFIERS = 64  # that are planned where nobody says how many
CORES_EACH, LAPTOP_CORES_EACH = 2, 8  # CPUs for each verifier that is planned, with and without GPUs
ROUNDING = 1e-6
RANK = "learner-rank-"  # how the names of the learner's actors begin

Nodes = Mapping[str, Mapping[str, float]]  # node name -> {"CPU": ..., "GPU": ...}
ENDLESS: Nodes = {"": {"CPU": 1e6, "GPU": 1e6}}  # room for any layout, to say what it takes in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Resources on one node, and the actors that live in them, each with an equal part."""

    actors: tuple[str, ...]
    cpus: float
    gpus: float

    @property
    def resources(self) -> dict[str, float]:
        """In Ray's words."""
        return {name: amount for name, amount in (("CPU", self.cpus), ("GPU", self.gpus)) if amount}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where every actor of a run goes."""

    bundles: tuple[Bundle, ...]
    on_gpu: bool
    verifiers: int  # how many there are
    pairs: int = 0  # of the first bundles, how many hold a learner rank with the generator that shares its GPU

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

    def bundle_of(self, actor: str) -> int:
        """Index of the bundle that an actor lives in."""
        return next(index for index, bundle in enumerate(self.bundles) if actor in bundle.actors)

    def share_of(self, actor: str) -> tuple[float, float]:
        """(CPUs, GPUs) of one actor within its bundle."""
        bundle = self.bundles[self.bundle_of(actor)]
        return bundle.cpus / len(bundle.actors), bundle.gpus / len(bundle.actors)

    def places(self, nodes: Sequence[str]) -> tuple[int, ...]:
        """For each bundle the index of the one that it should take the place of, so that pairs with successive numbers
        lie on one node. Ray may have spread bundles of the same size in any way.

        Args:
            nodes: for each bundle, the node on which Ray has put it.
        """
        pairs = range(self.pairs)
        return (*sorted(pairs, key=lambda index: nodes[index]), *range(self.pairs, len(self.bundles)))


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


def plan_layout(wanted: Wanted, nodes: Nodes) -> Layout:
    """The layout of a run on these nodes.

    Raises:
        ConfigError: it does not fit.
    """
    if not wanted.on_gpu:
        return _Planner(wanted, nodes, CPU_SHARES).layout()
    try:
        return _Planner(wanted, nodes, WHOLE_CPUS).layout()
    except ConfigError as lack:
        with suppress(ConfigError):
            return _Planner(wanted, nodes, CPU_SHARES).layout()
        raise lack


class _Planner:
    """Puts actors on nodes, one kind after the other, and remembers what is left of each node."""

    def __init__(self, wanted: Wanted, nodes: Nodes, shares: Mapping[str, float]) -> None:
        self._wanted, self._nodes, self._shares = wanted, nodes, shares
        self._left = {name: (has.get("CPU", 0.0), has.get("GPU", 0.0)) for name, has in nodes.items()}
        self._bundles: list[Bundle] = []

    def layout(self) -> Layout:
        """All bundles: learner ranks, generators, judges, scorers, verifiers, filter.

        What is wider than a GPU finds its place first, since it fits into fewer gaps; then the rest of the GPUs, and
        what has none.
        """
        cluster, gpu, cpus = self._wanted.cluster, float(self._wanted.on_gpu), self._shares
        width = gpu * cluster.tensor_parallel
        ranks = [f"{RANK}{rank}" for rank in range(cluster.learner_ranks)]
        engines = [f"generator-{index}" for index in range(cluster.fewest_generators)]
        judges = [judge_actor(reward) for reward in self._wanted.judges]
        scorers = [scorer_actor(reward) for reward in self._wanted.scorers]
        pairs = len(engines) if cluster.colocate and self._wanted.on_gpu else 0
        if pairs:
            for pair in zip(ranks, engines, strict=True):
                self._put([pair], cpus["learner"] + cpus["generator"], gpu)
            self._each(judges, cpus["generator"], width)
        elif width > 1:
            self._together(engines, cpus["generator"], width)
            self._each(judges, cpus["generator"], width)
            self._together(ranks, cpus["learner"], gpu)
        else:
            self._together(ranks, cpus["learner"], gpu)
            self._together(engines, cpus["generator"], width)
            self._each(judges, cpus["generator"], width)
        self._each(scorers, cpus["generator"], gpu)
        free = sum(left for left, _ in self._left.values()) - cpus["filter"]
        count = cluster.verifiers or self._planned_verifiers(free)
        self._each([f"verifier-{index}" for index in range(count)], cpus["verifier"], 0.0)
        self._each(["filter"], cpus["filter"], 0.0)
        return Layout(bundles=tuple(self._bundles), on_gpu=self._wanted.on_gpu, verifiers=count, pairs=pairs)

    def _planned_verifiers(self, free: float) -> int:
        """How many verifiers the CPUs suggest; the free ones on GPUs, where the others have a CPU each."""
        if self._wanted.on_gpu:
            return max(1, min(MOST_VERIFIERS, int(free) // CORES_EACH))
        cores = sum(has.get("CPU", 0.0) for has in self._nodes.values())
        return max(1, min(MOST_VERIFIERS, int(cores) // LAPTOP_CORES_EACH))

    def _each(self, actors: Sequence[str], cpus: float, gpus: float) -> None:
        """A bundle for each."""
        for actor in actors:
            self._put([(actor,)], cpus, gpus)

    def _together(self, actors: Sequence[str], cpus: float, gpus: float) -> None:
        """A bundle for as many as a node takes; without GPUs one for each."""
        if not gpus:
            self._each(actors, cpus, gpus)
            return
        left = list(actors)
        while left:
            taken = self._put([(actor,) for actor in left], cpus, gpus)
            left = left[taken:]

    def _put(self, units: Sequence[tuple[str, ...]], cpus: float, gpus: float) -> int:
        """One bundle with as many of the units as fit on one node, and how many that are: the node that takes all and
        is the fullest of these, else the one that takes most.

        Args:
            units: the actors that have these CPUs and GPUs together.
            cpus: of each unit.
            gpus: of each unit.

        Raises:
            ConfigError: no node has room for one.
        """
        rooms = {name: self._room(name, cpus, gpus) for name in self._left}
        enough = [name for name, room in rooms.items() if room >= len(units)]
        node = min(enough, key=lambda name: self._left[name][::-1]) if enough else max(rooms, key=rooms.__getitem__)
        count = min(rooms[node], len(units))
        actors = tuple(actor for unit in units[: max(1, count)] for actor in unit)
        bundle = Bundle(actors=actors, cpus=round(max(1, count) * cpus, 3), gpus=max(1, count) * gpus)
        if not count:
            raise ConfigError(self._lack(bundle))
        self._bundles.append(bundle)
        left_cpus, left_gpus = self._left[node]
        self._left[node] = left_cpus - bundle.cpus, left_gpus - bundle.gpus
        return count

    def _room(self, node: str, cpus: float, gpus: float) -> int:
        """How many units fit on a node."""
        left_cpus, left_gpus = self._left[node]
        rooms = [int((left_cpus + ROUNDING) / cpus)]
        if gpus:
            rooms.append(int((left_gpus + ROUNDING) / gpus))
        return max(0, min(rooms))

    def _lack(self, bundle: Bundle) -> str:
        cluster = self._wanted.cluster.model_copy(update={"verifiers": self._wanted.cluster.verifiers or 1})
        whole = _Planner(replace(self._wanted, cluster=cluster), ENDLESS, self._shares).layout()
        nodes = self._nodes.items()
        has = "; ".join(f"{name}: {there.get('CPU', 0):g} CPUs, {there.get('GPU', 0):g} GPUs" for name, there in nodes)
        return (
            f"the layout wants {whole.cpus:g} CPUs and {whole.gpus:g} GPUs, but there is no room for "
            f"{' with '.join(bundle.actors)} ({bundle.cpus:g} CPUs and {bundle.gpus:g} GPUs on one node). "
            f"Available: {has}. "
            "Lower cluster.generators, cluster.tensor_parallel, cluster.learner_ranks or cluster.verifiers"
        )


def this_machine() -> dict[str, dict[str, float]]:
    """What Ray would find on this machine."""
    return {"this machine": {"CPU": float(len(os.sched_getaffinity(0))), "GPU": float(_count_gpus())}}


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

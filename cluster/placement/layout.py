"""Which bundle hosts what: computed as a value, printed by `--plan`, checked against what a cluster has, tested for
sizes that nobody here owns. One Ray placement group holds all bundles of a run."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.config.errors import ConfigError
from cluster.config.sections import ClusterSettings

# Without GPUs the stages take turns on the same cores, so each asks for a part of one.
CPU_SHARES = {"learner": 0.4, "generator": 0.4, "verifier": 0.1, "filter": 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Resources on one node, and the actors that live in them."""

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

    @property
    def cpus(self) -> float:
        return round(sum(bundle.cpus for bundle in self.bundles), 3)

    @property
    def gpus(self) -> float:
        return sum(bundle.gpus for bundle in self.bundles)

    def bundle_of(self, actor: str) -> int:
        """Index of the bundle that an actor lives in."""
        return next(index for index, bundle in enumerate(self.bundles) if actor in bundle.actors)

    def share_of(self, actor: str) -> tuple[float, float]:
        """(CPUs, GPUs) of one actor within its bundle."""
        bundle = self.bundles[self.bundle_of(actor)]
        return bundle.cpus / len(bundle.actors), bundle.gpus / len(bundle.actors)


def plan_layout(cluster: ClusterSettings, on_gpu: bool, judges: Iterable[str] = ()) -> Layout:
    """The layout of a run: learner ranks first so that they are packed, then generators, then judges by the names of
    their rewards, then the small actors."""
    cpus = dict.fromkeys(CPU_SHARES, 1.0) if on_gpu else CPU_SHARES
    gpu = 1.0 if on_gpu else 0.0
    width = gpu * cluster.tensor_parallel
    learners = [f"learner-rank-{rank}" for rank in range(cluster.learner_ranks)]
    generators = [f"generator-{index}" for index in range(cluster.generators)]
    if cluster.colocate and on_gpu:
        pairs = zip(learners, generators, strict=True)
        bundles = [Bundle(actors=pair, cpus=2.0, gpus=1.0) for pair in pairs]
    else:
        bundles = [Bundle(actors=(name,), cpus=cpus["learner"], gpus=gpu) for name in learners]
        bundles += [Bundle(actors=(name,), cpus=cpus["generator"], gpus=width) for name in generators]
    bundles += [Bundle(actors=(f"judge-{name}",), cpus=cpus["generator"], gpus=width) for name in judges]
    verifiers = [f"verifier-{index}" for index in range(cluster.verifiers)]
    bundles += [Bundle(actors=(name,), cpus=cpus["verifier"], gpus=0.0) for name in verifiers]
    bundles.append(Bundle(actors=("filter",), cpus=cpus["filter"], gpus=0.0))
    return Layout(bundles=tuple(bundles), on_gpu=on_gpu)


def check_fits(layout: Layout, nodes: dict[str, dict[str, float]]) -> None:
    """Raises ConfigError unless the bundles fit on the nodes.

    Args:
        layout: what is wanted.
        nodes: what is there: node name -> {"CPU": ..., "GPU": ...}.
    """
    left = {name: dict(resources) for name, resources in nodes.items()}
    for bundle in sorted(layout.bundles, key=lambda bundle: (-bundle.gpus, -bundle.cpus)):
        fitting = [
            name
            for name, has in left.items()
            if has.get("CPU", 0) + 1e-6 >= bundle.cpus and has.get("GPU", 0) + 1e-6 >= bundle.gpus
        ]
        if not fitting:
            raise ConfigError(_lack(layout, bundle, nodes))
        chosen = left[fitting[0]]
        chosen["CPU"] = chosen.get("CPU", 0) - bundle.cpus
        chosen["GPU"] = chosen.get("GPU", 0) - bundle.gpus


def this_machine() -> dict[str, dict[str, float]]:
    """What Ray would find on this machine."""
    return {"this machine": {"CPU": float(len(os.sched_getaffinity(0))), "GPU": float(_count_gpus())}}


def _count_gpus() -> int:
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([device for device in visible.split(",") if device and device != "-1"])
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _lack(layout: Layout, bundle: Bundle, nodes: dict[str, dict[str, float]]) -> str:
    has = "; ".join(f"{name}: {r.get('CPU', 0):g} CPUs, {r.get('GPU', 0):g} GPUs" for name, r in nodes.items())
    return (
        f"the layout wants {layout.cpus:g} CPUs and {layout.gpus:g} GPUs, but there is no room for "
        f"{' with '.join(bundle.actors)} ({bundle.cpus:g} CPUs and {bundle.gpus:g} GPUs on one node). "
        f"Available: {has}. "
        "Lower cluster.generators, cluster.tensor_parallel, cluster.learner_ranks or cluster.verifiers"
    )

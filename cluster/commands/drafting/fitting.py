"""What fits the machine: how GPUs are divided, how many tokens a pass has, and what is sharded, offloaded or adapted.
Each way is tried by the arithmetic of `--plan`, the simplest and fastest first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.config.shapes import laid_over
from cluster.placement.imagined import ImaginedCluster
from cluster.placement.layout import this_machine
from cluster.placement.node import GPU as GPUS
from cluster.placement.node import Nodes
from cluster.placement.nodes import host_for
from cluster.placement.session import layout_for
from cluster.preparing.memory import GPU, Memory, checked_memory, this_machine_memory

TOKENS, TOKENS_ON_CPU = (16384, 8192, 4096), (4096, 2048, 1024)  # of a pass
GROUPS, GROUPS_ON_CPU = 128, 16  # of a step
SIBLINGS, SIBLINGS_ON_CPU = 8, 4
ADAPTER = {"rank": 32, "alpha": 64.0}
SHARED = 0.55  # of a GPU for an engine that shares it with the learner
WIDTHS = (1, 2, 4, 8)  # GPUs of an engine

Tree = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the run is to be."""

    nodes: Nodes
    memory: Memory
    about: str
    imagined: bool = False  # described and not there

    @property
    def gpus(self) -> int:
        """How many GPUs it has."""
        return sum(int(node.free.get(GPUS, 0.0)) for node in self.nodes.values())

    @property
    def knows_host(self) -> bool:
        """Whether it is known how much memory the CPU has beside GPUs; without, nothing is moved there."""
        return not self.imagined or any(node.total.get("memory", 0) for node in self.nodes.values())

    @property
    def on_gpu(self) -> bool:
        """Whether it has any."""
        return self.gpus > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Settings that fit, and why they are these."""

    settings: Mapping[str, Any]  # section.key -> value
    why: Mapping[str, str]  # section.key -> reason
    about: str  # what was tried before in vain; "" where the first way fits


def machine(on: str) -> Machine:
    """This machine, or one that is described as for --on."""
    if on:
        imagined = ImaginedCluster.of(on)
        return Machine(nodes=imagined.resources, memory=imagined.memory, about=str(imagined), imagined=True)
    nodes, memory = this_machine(), this_machine_memory("auto")
    gpus = sum(int(node.free.get(GPUS, 0.0)) for node in nodes.values())
    size = f"{memory.size / 2**30:.0f} GiB"
    cpus = sum(int(node.free.get("CPU", 0.0)) for node in nodes.values())
    about = f"{gpus} GPUs of {size}" if memory.where == GPU else f"no GPU, {cpus} CPUs and {size} of free memory"
    return Machine(nodes=nodes, memory=memory, about=f"this machine: {about}")


def fit(tree: Tree, asked: Tree, place: Machine, tokens: int, rows: int) -> Fit:
    """The first way that fits.

    Args:
        tree: the settings so far.
        asked: settings that stay, whatever a way has in their place.
        place: where it is to run.
        tokens: of the longest prompt and response together.
        rows: of the data.

    Raises:
        ConfigError: none does, and the message is of the way that needs least; or what is asked for goes with none.
    """
    first, last, mistake = "", None, None
    for settings in _ways(place, rows):
        try:
            config = config_of(laid_over(_with(tree, settings), asked, RunConfig))
        except ConfigError as problem:
            mistake = problem
            continue
        try:
            layout = layout_for(config, place.nodes)
            memory = replace(place.memory, host=host_for(layout, place.nodes)) if place.imagined else place.memory
            checked_memory(config, memory, tokens)
        except ConfigError as problem:
            first, last = first or str(problem), problem
            continue
        return Fit(settings=settings, why=_reasons(settings, place, rows, first), about=first)
    if last is None and mistake is not None:
        raise mistake
    raise ConfigError(f"the model does not fit {place.about}, whatever is sharded or offloaded: {last}")


def _ways(place: Machine, rows: int) -> Iterator[dict[str, Any]]:
    groups = GROUPS if place.on_gpu else GROUPS_ON_CPU
    least = max(1, place.gpus)
    common = {
        "rollout.groups_per_step": max(least, min(groups, rows)),
        "rollout.group_size": SIBLINGS if place.on_gpu else SIBLINGS_ON_CPU,
    }
    if not place.on_gpu:
        yield from ({**common, "learner.micro_batch_tokens": tokens} for tokens in TOKENS_ON_CPU)
        for tokens in TOKENS_ON_CPU:
            yield {**common, **_adapted(), "learner.micro_batch_tokens": tokens}
        return
    for divided in _divisions(place.gpus):
        yield from ({**common, **divided, "learner.micro_batch_tokens": tokens} for tokens in TOKENS)
    for divided in _divisions(place.gpus):
        tight = {**common, **divided, "learner.micro_batch_tokens": TOKENS[-1]}
        if place.gpus > 1:  # each pass gathers all weights, so that passes are as large as may be
            sharded = {**common, **divided, "learner.zero_stage": 3}
            yield from ({**sharded, "learner.micro_batch_tokens": tokens} for tokens in TOKENS)
        if place.knows_host:
            yield {**tight, "learner.zero_stage": 2, "learner.offload": "optimizer"}
        yield {**tight, **_adapted()}
        if place.knows_host:
            yield {**tight, "learner.zero_stage": 3, "learner.offload": "weights"}


def _divisions(gpus: int) -> Iterator[dict[str, Any]]:
    """How GPUs are divided: one does both in turns; of several, half sample and half train, by engines as small as
    may be."""
    if gpus == 1:
        shared = {"generator.memory_share": SHARED, "cluster.generators": 1, "cluster.learner_ranks": 1}
        yield {"cluster.colocate": True, **shared}
        return
    for width in WIDTHS:
        if width <= gpus // 2:
            engines = max(1, gpus // 2 // width)
            yield {
                "cluster.generators": engines,
                "cluster.tensor_parallel": width,
                "cluster.learner_ranks": gpus - engines * width,
            }


def _adapted() -> dict[str, Any]:
    return {"learner.adapter": ADAPTER, "learner.lr": 1e-5}


def _with(tree: Tree, settings: Mapping[str, Any]) -> Tree:
    found = {section: dict(values) for section, values in tree.items()}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        found.setdefault(section, {})[key] = value
    return found


def _reasons(settings: Mapping[str, Any], place: Machine, rows: int, before: str) -> dict[str, str]:
    groups, siblings = settings["rollout.groups_per_step"], settings["rollout.group_size"]
    few = f", as many as there are rows ({rows})" if groups == rows else ""
    device = "GPUs" if place.on_gpu else "a CPU"
    tight = f"by the arithmetic of --plan; with more there was no room: {_first_sentence(before)}" if before else ""
    reasons = {
        "rollout.groups_per_step": f"prompts of a step; {groups} x {siblings} responses keep {device} busy{few}",
        "rollout.group_size": "responses to each prompt, which are compared with each other",
        "learner.micro_batch_tokens": tight or "tokens of a pass, which fit by the arithmetic of --plan",
        "learner.zero_stage": "3 shards the weights too: with 2 there was no room",
        "learner.offload": "what lies in the memory of the CPU between updates, as the GPU has no room for it",
        "learner.adapter": "an adapter (LoRA) is trained, as there is no room to train all weights",
        "learner.lr": "ten times that of whole weights, as an adapter is trained",
        "cluster.colocate": "the only GPU samples and trains in turns",
        "generator.memory_share": "of the GPU while responses are sampled",
        "cluster.generators": f"engines: half of {place.gpus} GPUs sample",
        "cluster.tensor_parallel": "GPUs of an engine",
        "cluster.learner_ranks": "the other GPUs train",
    }
    if place.gpus == 1:
        reasons |= {"cluster.generators": "shares the GPU", "cluster.learner_ranks": "with this rank"}
    return {name: reasons[name] for name in settings}


def _first_sentence(text: str) -> str:
    return text.splitlines()[0].split(". ")[0]

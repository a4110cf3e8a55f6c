"""`winnow train --plan`: what a run would do and where, without starting anything."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.config.models import check_model, check_shards, positions_of
from cluster.config.run_config import RunConfig
from cluster.placement.description import describe, layout_lines, run_lines
from cluster.placement.holders import with_holders
from cluster.placement.imagined import ImaginedCluster
from cluster.placement.layout import this_machine
from cluster.placement.node import GPU, Nodes, emptied
from cluster.placement.nodes import host_for, nodes_there
from cluster.placement.session import address_of, joined, layout_for, settled, settled_config, settled_on_cluster
from cluster.placement.waiting import lack_of
from cluster.preparing.memory import Host, MemoryPlan, checked_memory, memory_lines
from cluster.preparing.preflight import Prepared, prepare
from cluster.preparing.ratio import Choice, Division, Work, estimated_work, work_of_run
from cluster.preparing.world import write_world

PROMPT_TOKENS = 1024  # that are counted for a prompt where prompts are not read


def plan(config: RunConfig, earlier: Path | None = None) -> str:
    """Sizes, layout and memory in words; checks everything that a run checks before Ray starts. Of a cluster
    (`cluster.address`) the nodes are asked what they have.

    Args:
        config: the run.
        earlier: folder of a run whose stage times say how GPUs should be divided; None makes an estimate.

    Raises:
        ConfigError: the run could not start on this machine, or on the cluster.
    """
    work = work_of_run(earlier) if earlier else None
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(write_world(config, Path(scratch)))
        if address := address_of(config):
            with joined(address, config.run.name):
                return _on_cluster(prepared, work)
        nodes = this_machine()
        layout = layout_for(config, nodes)
        prepared = settled(prepared, layout)
        return "\n".join([describe(prepared, layout), *_ratio(prepared.config, prepared.memory, nodes, work)])


def _on_cluster(prepared: Prepared, work: Work | None) -> str:
    """On what is free of the cluster that is joined; on all of it where others hold what the run wants."""
    nodes = with_holders(nodes_there())
    lack = lack_of(partial(layout_for, prepared.config), nodes)
    there = emptied(nodes) if lack else nodes
    layout = layout_for(prepared.config, there)
    prepared = settled_on_cluster(prepared, layout)
    lines = [describe(prepared, layout), *_ratio(prepared.config, prepared.memory, there, work)]
    if lack:
        lines.append(f"not now, as others hold a part of it (cluster.wait_minutes waits for them): {lack}")
    return "\n".join(lines)


def _ratio(config: RunConfig, plan: MemoryPlan | None, nodes: Nodes, work: Work | None) -> list[str]:
    choice = choice_of(config, plan, nodes, work)
    return [] if choice is None else [choice.line()]


def choice_of(config: RunConfig, plan: MemoryPlan | None, nodes: Nodes, work: Work | None = None) -> Choice | None:
    """Between the ways to divide the GPUs; None without GPUs, and where all of them do both.

    Args:
        config: the run, settled.
        plan: its memory.
        nodes: on which it is planned.
        work: of a step; None makes an estimate.
    """
    layout = layout_for(config, nodes)
    work = work or (estimated_work(config, plan) if layout.on_gpu and config.samples else None)
    if work is None or not (layout.on_gpu and config.samples) or config.cluster.colocate:
        return None

    def fits(way: Division) -> bool:
        cluster = config.cluster.model_copy(update={"generators": way.generators, "learner_ranks": way.ranks})
        other = config.model_copy(update={"cluster": cluster})
        try:
            if plan is not None:  # of many divisions most are refused here, which takes next to no time
                checked_memory(other, replace(plan.memory, host=Host()), plan.tokens)
            divided = layout_for(other, nodes)
            if plan is not None:
                memory = replace(plan.memory, host=host_for(divided, nodes))
                checked_memory(other, memory, plan.tokens)
        except ConfigError:
            return False
        return True

    others = sum(bundle.gpus for bundle in layout.bundles if bundle.kind in ("judge", "scorer"))
    others += config.evaluators * config.cluster.tensor_parallel
    gpus = sum(int(node.free.get(GPU, 0.0)) for node in nodes.values()) - int(others)
    return Choice(config=config, work=work, gpus=gpus, fits=fits)


def plan_on(config: RunConfig, place: ImaginedCluster, earlier: Path | None = None) -> str:
    """The same for a cluster that is not there. Of the model config.json is enough, and data is not read.

    Raises:
        ConfigError: the run would not fit there, or could not start.
    """
    if config.world.name:
        raise ConfigError("--on is for runs with a model.path: a built-in world is for small machines")
    folder, longest = Path(config.model.path), config.rollout.max_new_tokens
    check_model(folder)
    check_shards(folder, config.cluster.tensor_parallel, "model.path")
    room = positions_of(folder) - longest
    if room < 1:
        raise ConfigError(f"rollout.max_new_tokens must be below the model's {positions_of(folder)} positions")
    layout = layout_for(config, place.resources)
    config = settled_config(config, layout)
    prompt = min(PROMPT_TOKENS, room)
    there = replace(place.memory, host=host_for(layout, place.resources))
    memory = checked_memory(config, there, prompt + longest)
    lines = [
        f"on {place}; nothing of it is looked at",
        f"prompts are not read: {prompt} tokens are counted for each, and {longest} for its response",
        *run_lines(config, layout),
        *layout_lines(config, layout),
        *memory_lines(memory, config),
        *_ratio(config, memory, place.resources, work_of_run(earlier) if earlier else None),
    ]
    return "\n".join(lines)

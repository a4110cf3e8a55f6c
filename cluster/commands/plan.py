"""`winnow train --plan`: what a run would do and where, without starting anything."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.config.models import check_model, check_shards, positions_of
from cluster.config.run_config import RunConfig
from cluster.placement.description import describe, layout_lines, run_lines
from cluster.placement.imagined import ImaginedCluster
from cluster.placement.layout import this_machine
from cluster.placement.nodes import host_for
from cluster.placement.session import layout_for, ray_session, settled, settled_config, settled_on_cluster
from cluster.preparing.memory import checked_memory, memory_lines
from cluster.preparing.preflight import prepare
from cluster.preparing.world import write_world

PROMPT_TOKENS = 1024  # that are counted for a prompt where prompts are not read


def plan(config: RunConfig) -> str:
    """Sizes, layout and memory in words; checks everything that a run checks before Ray starts. Of a cluster
    (`cluster.address`) the nodes are asked what they have.

    Raises:
        ConfigError: the run could not start on this machine, or on the cluster.
    """
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(write_world(config, Path(scratch)))
        if config.cluster.address or os.environ.get("RAY_ADDRESS"):
            with ray_session(config) as (layout, _):
                return describe(settled_on_cluster(prepared, layout), layout)
        layout = layout_for(config, this_machine())
        return describe(settled(prepared, layout), layout)


def plan_on(config: RunConfig, place: ImaginedCluster) -> str:
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
    ]
    return "\n".join(lines)

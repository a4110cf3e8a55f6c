"""The layouts of the simulation of scale: what `winnow init` fits on a cluster that is described, divided as the last
line of `winnow train --plan` proposes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.commands.drafting.fitting import fit, machine
from cluster.commands.plan import PROMPT_TOKENS, choice_of
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.placement.layout import Layout
from cluster.placement.nodes import host_for
from cluster.placement.session import layout_for, settled_config
from cluster.preparing.memory import MemoryPlan, checked_memory
from cluster.preparing.ratio import Division

ROOT = Path(__file__).parents[2]
MODELS = {"1.5B": "qwen2.5-1.5b", "7B": "qwen2.5-7b", "70B": "llama-3.1-70b"}  # name -> folder in tests/data
LONGEST, SIBLINGS, STALENESS = 16384, 16, 1  # rollout.max_new_tokens, group_size, max_staleness
GROUPS = {8: 128, 64: 512, 512: 2048, 4096: 8192}  # GPUs -> rollout.groups_per_step
NODE_GPUS, NODE = 8, "8x80,cpus=192,ram=2048"
TURNS = 6  # of dividing GPUs anew, each by an estimate for the division before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A run on a cluster that is not there."""

    config: RunConfig
    layout: Layout
    memory: MemoryPlan
    seconds: float  # of a step, as `--plan` estimates them; 0 where all GPUs do both


def planned(model: str, gpus: int) -> Planned:
    """The run of a model on so many GPUs of 80 GiB.

    Raises:
        ConfigError: it does not fit there, whatever is sharded or offloaded.
    """
    nodes = gpus // NODE_GPUS
    place, tokens = machine(f"{nodes}x{NODE}" if nodes > 1 else NODE), PROMPT_TOKENS + LONGEST
    rollout = {"max_new_tokens": LONGEST, "max_staleness": STALENESS}
    tree: dict[str, Any] = {
        "model": {"path": str(ROOT / "tests/data" / MODELS[model])},
        "data": {"path": "train.jsonl"},
        "reward": {"name": "math"},
        "rollout": rollout,
    }
    found = dict(fit(tree, {}, place, tokens, rows=10**6).settings)
    found |= {"rollout.groups_per_step": GROUPS[gpus], "rollout.group_size": SIBLINGS}
    for _ in range(TURNS):
        config = config_of(_with(tree, found))
        layout = layout_for(config, place.nodes)
        config = settled_config(config, layout)
        memory = checked_memory(config, replace(place.memory, host=host_for(layout, place.nodes)), tokens)
        if memory is None:
            raise ConfigError(f"no model can be made of {MODELS[model]}")
        choice = choice_of(config, memory, place.nodes)
        best: Division | None = choice.best() if choice else None
        if best is None:
            break
        found |= {"cluster.generators": best.generators, "cluster.learner_ranks": best.ranks}
    return Planned(config=config, layout=layout, memory=memory, seconds=choice.seconds(choice.now) if choice else 0.0)


def _with(tree: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = {section: dict(values) for section, values in tree.items()}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        found.setdefault(section, {})[key] = value
    return found

"""A world that is small enough to be trained on between two faults: problems, a model, a reward, and a run file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from actors.data.source import PromptSource
from actors.data.world import ALPHABET
from actors.engines import OWN_PROCESS
from actors.types import Prompt

PROMPTS = 4000  # rows of the data: more than a run deals, so that a prompt that is trained twice shows
SEED = 7
GROUPS = 4  # in a step
# Right by chance, about every second time, and nothing that a policy could learn: groups stay mixed for ever.
REWARD = """
from zlib import crc32

def reward(response, reference, prompt):
    return crc32((prompt + response).encode()) % 2 == 0
"""


def write_small(folder: Path) -> None:
    """Writes model, data and reward."""
    from learner.models.tiny import write_tiny_model

    folder.mkdir(parents=True, exist_ok=True)
    write_tiny_model(folder / "model", alphabet=ALPHABET, seed=SEED)
    rows = [{"prompt": f"{number // 64}+{number % 64}=", "answer": str(number)} for number in range(PROMPTS)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")


def run_file(world: Path, name: str, runs: Path, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run as a tree.

    Args:
        world: what `write_small` wrote.
        name: of the run.
        runs: where its folder goes.
        sections: settings that replace or join those of a section.
    """
    tree: dict[str, Any] = {
        "run": {"name": name, "folder": str(runs), "seed": SEED, "checkpoint_every": 5},
        "model": {"path": str(world / "model"), "dtype": "float32"},
        "data": {"path": str(world / "prompts.jsonl")},
        "reward": {"name": "own", "own": {"file": str(world / "reward.py")}},
        "rollout": {"groups_per_step": GROUPS, "group_size": 2, "max_new_tokens": 16, "timeout_seconds": 20.0},
        "filter": {"drop": "none"},
        "sync": {"bucket_mib": 1, "timeout_seconds": 30.0},  # several, so that there is a middle of a sync
        "learner": {"algorithm": "reinforce", "lr": 3e-4, "micro_batch_tokens": 512},
        "cluster": {
            "device": "cpu",
            "generators": 2,
            "verifiers": 2,
            "learner_ranks": 2,
            "silent_seconds": 30.0,
            "env": {OWN_PROCESS: "1"},  # so that an engine can be killed alone, as on a GPU
        },
    }
    return {name: tree.get(name, {}) | dict(sections.get(name, {})) for name in tree | sections}


def write_run_file(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes it as TOML."""
    path.write_text(tomli_w.dumps(tree), encoding="utf-8")


def dealt(count: int) -> list[str]:
    """The ids of the first `count` prompts that a run on this world deals, in their order."""
    none = np.empty(0, np.int32)
    prompts = [Prompt(id=str(n), tokens=none, text="", reward="", reference="") for n in range(PROMPTS)]
    return [prompt.id for prompt, _ in PromptSource(prompts, SEED).take(count)]

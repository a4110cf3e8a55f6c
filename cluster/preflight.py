"""Everything that can be found out before Ray starts: the data, the lengths, the sizes. Mistakes are named here."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.prompts import DataError, load_prompts, read_rows
from actors.types import Prompt
from actors.world import ALPHABET, write_addition
from cluster.config import ConfigError, RunConfig, to_toml
from cluster.layout import Layout
from rewards import REWARDS

WORLD_PROMPTS, WORLD_WORKED = 20_000, 30_000  # rows of a built-in world
PROBE_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run whose inputs have been checked."""

    config: RunConfig  # paths filled in
    prompts: tuple[Prompt, ...]
    left_out: int  # prompts too long to use
    max_model_len: int  # tokens of the longest prompt and response together
    probe: tuple[int, ...]  # the fixed text on which generators and learner must agree


def make_run_folder(config: RunConfig) -> Path:
    """A new folder for the run; a number is added where the name is taken, so nothing is overwritten."""
    base = Path(config.run.folder)
    for number in range(1, 10_000):
        folder = base / (config.run.name if number == 1 else f"{config.run.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder.resolve()
    raise ConfigError(f"{base} holds 9999 runs named {config.run.name}: choose another run.name")


def write_world(config: RunConfig, folder: Path) -> RunConfig:
    """Writes the built-in world into the run folder and points the config at it; without a world, gives it back."""
    if not config.world.name:
        return config
    logging.disable(logging.WARNING)  # libraries that load with torch say that this machine has no GPU
    from learner.tiny import write_tiny_model

    logging.disable(logging.NOTSET)
    world, seed = folder / "world", config.run.seed
    sizes = {"prompts": WORLD_PROMPTS, "worked": WORLD_WORKED}
    write_addition(world, digits=config.world.digits, slips=config.world.slips, seed=seed, **sizes)
    write_tiny_model(world / "model", alphabet=ALPHABET, seed=seed)
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"path": str(world / "model")}),
            "data": config.data.model_copy(update={"path": str(world / "prompts.jsonl")}),
            "warmup": config.warmup.model_copy(update={"path": str(world / "worked.jsonl")}),
        }
    )


def prepare(config: RunConfig) -> Prepared:
    """Reads and checks model folder and data.

    Raises:
        ConfigError: something is missing or does not fit; the message says what to do.
    """
    model = check_model(Path(config.model.path))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(config.model.path, local_files_only=True)
    limit = model.get("max_position_embeddings", 2**31) - config.rollout.max_new_tokens
    if limit < 1:
        raise ConfigError(
            f"rollout.max_new_tokens must be below the model's {model['max_position_embeddings']} positions, "
            f"got {config.rollout.max_new_tokens}: no room is left for a prompt"
        )
    try:
        prompts, left_out = load_prompts(config.data, config.reward.name, tokenizer, limit)
        _check_references(config, prompts)
        if config.warmup.updates:
            read_rows(Path(config.warmup.path), (config.warmup.prompt_column, config.warmup.response_column))
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    probe = [token for prompt in prompts[:64] for token in prompt.tokens.tolist()][:PROBE_TOKENS]
    longest = max(prompt.tokens.size for prompt in prompts)
    return Prepared(
        config=config,
        prompts=tuple(prompts),
        left_out=left_out,
        max_model_len=max(longest + config.rollout.max_new_tokens, len(probe) + 1),
        probe=tuple(probe),
    )


def check_model(folder: Path) -> dict[str, Any]:
    """The config.json of a Hugging Face folder.

    Raises:
        ConfigError: it is not there, or no causal language model.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no model folder {folder} (model.path): give a downloaded Hugging Face folder")
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} (model.path) holds no config.json: it is not a Hugging Face model folder")
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not any(name.endswith("ForCausalLM") for name in found.get("architectures") or ()):
        raise ConfigError(f"{folder} (model.path) holds {found.get('architectures')}, not a causal language model")
    return found


def describe(prepared: Prepared, layout: Layout) -> str:
    """The plan of a run in words: sizes and where everything goes."""
    config, rollout = prepared.config, prepared.config.rollout
    cluster = config.cluster
    lines = [
        f"{len(prepared.prompts)} prompts of at most {prepared.max_model_len - rollout.max_new_tokens} tokens"
        + (f", {prepared.left_out} longer ones left out" if prepared.left_out else ""),
        f"{rollout.groups_per_step} groups x {rollout.group_size} responses = "
        f"{rollout.groups_per_step * rollout.group_size} responses a step, over {cluster.learner_ranks} learner "
        f"ranks at ZeRO {config.learner.zero_stage}, in {config.learner.updates_per_step} updates of micro-batches "
        f"of {config.learner.micro_batch_tokens} tokens",
        f"{config.run.steps} steps = {config.run.steps * config.learner.updates_per_step} optimizer updates of "
        f"{config.learner.algorithm}, at most {rollout.max_staleness} versions stale: "
        f"{(rollout.max_staleness + 1) * rollout.groups_per_step} groups at a time",
        f"{layout.cpus:g} CPUs and {layout.gpus:g} GPUs:",
    ]
    lines += [f"  {' + '.join(b.actors):<32} {b.cpus:g} CPUs, {b.gpus:g} GPUs" for b in layout.bundles]
    return "\n".join(lines)


def write_config(config: RunConfig, folder: Path) -> None:
    """Writes the resolved config into the run folder."""
    (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")


def _check_references(config: RunConfig, prompts: list[Prompt]) -> None:
    judge = REWARDS[config.reward.name]
    for prompt in prompts:
        try:
            judge(prompt.reference, prompt.reference)
        except ValueError as failure:
            raise ConfigError(f"{config.data.path}, row {int(prompt.id) + 1}: {failure}") from failure

"""Everything that can be found out before Ray starts: the data, the lengths, the sizes. Mistakes are named here."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.data.prompts import DataError, load_prompts, read_rows
from actors.data.stored import StoredGroups, read_stored
from actors.data.world import ALPHABET, write_addition
from actors.settings import DataSettings
from actors.types import Prompt
from cluster.commands.check import bad_references, rows_of
from cluster.config.models import check_model, positions_of
from cluster.config.run_config import ConfigError, RunConfig, to_toml
from cluster.placement.layout import Layout
from cluster.preparing.graders import Graders
from cluster.preparing.memory import check_memory, this_machine_memory
from learner.methods.choices import Anchor, Need
from learner.methods.formula import objective_line
from rewards.programs.sandbox import sandbox_problem
from rewards.table import leaves

WORLD_PROMPTS, WORLD_WORKED = 20_000, 30_000  # rows of a built-in world
PROBE_TOKENS = 64
JUDGE_TOKENS = 8192  # most that a judge reads and says


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run whose inputs have been checked."""

    config: RunConfig  # paths filled in
    prompts: tuple[Prompt, ...]
    left_out: int  # prompts too long to use
    max_model_len: int  # tokens of the longest prompt and response together
    positions: int  # most that the model can hold
    probe: tuple[int, ...]  # the fixed text on which generators and learner must agree
    heldout: tuple[Prompt, ...]  # for evaluation
    judge_length: int  # most tokens of a question to the run's judge and its answer; 0 without one
    stored: StoredGroups | None  # groups to train on that are not sampled
    control: tuple[int, ...]  # tokens of the reward quantiles, the best first, where the algorithm asks for them


def make_run_folder(name: str, base: Path) -> Path:
    """A new folder under `base`; a number is added where the name is taken, so nothing is overwritten."""
    for number in range(1, 10_000):
        folder = base / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder.resolve()
    raise ConfigError(f"{base} holds 9999 runs named {name}: choose another run.name")


def write_world(config: RunConfig, folder: Path, anew: bool = True) -> RunConfig:
    """Writes the built-in world into a folder and points the config at it; without a world, gives it back.

    Args:
        config: the run.
        folder: where `world` goes.
        anew: False where it has been written before.
    """
    if not config.world.name:
        return config
    logging.disable(logging.WARNING)  # libraries that load with torch say that this machine has no GPU
    from learner.models.tiny import CONTROL_TOKENS, write_tiny_model

    world, seed = folder / "world", config.run.seed
    sizes = {"prompts": WORLD_PROMPTS, "worked": WORLD_WORKED}
    if anew:
        write_addition(world, digits=config.world.digits, slips=config.world.slips, seed=seed, **sizes)
        write_tiny_model(world / "model", alphabet=ALPHABET, seed=seed)
    logging.disable(logging.NOTSET)
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"path": str(world / "model"), "control_tokens": CONTROL_TOKENS}),
            "data": config.data.model_copy(update={"path": str(world / "prompts.jsonl")}),
            "warmup": config.warmup.model_copy(update={"path": str(world / "worked.jsonl")}),
            "eval": config.eval.model_copy(update={"path": str(world / "heldout.jsonl")}),
        }
    )


def prepare(config: RunConfig, memory: bool = True) -> Prepared:
    """Reads and checks model folder and data, and whether the learner's models fit into memory.

    Raises:
        ConfigError: something is missing or does not fit; the message says what to do.
    """
    model = check_model(Path(config.model.path))
    if config.learner.tuned_path:
        check_model(Path(config.learner.tuned_path), "learner.tuned_path")
    if "code" in leaves(config.reward.name, config.reward) and not config.reward.unsandboxed and sandbox_problem():
        raise ConfigError(f"{sandbox_problem()} (or set reward.unsandboxed = true on a machine that may be lost)")
    judge_length = 0
    if config.hosts_judge:
        check_model(Path(config.reward.model), "reward.model")
        judge_length = min(positions_of(Path(config.reward.model)), JUDGE_TOKENS)
    if memory:
        check_memory(config, this_machine_memory(config.cluster.device))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(config.model.path, local_files_only=True)
    limit = positions_of(Path(config.model.path)) - config.rollout.max_new_tokens
    if limit < 1:
        raise ConfigError(
            f"rollout.max_new_tokens must be below the model's {model['max_position_embeddings']} positions, "
            f"got {config.rollout.max_new_tokens}: no room is left for a prompt"
        )
    control = _control_tokens(config, tokenizer)
    try:
        prompts, left_out, heldout, stored = _read_data(config, tokenizer, limit, control[:1])
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    shown = [*prompts, *heldout]
    probe = [token for prompt in shown[:64] for token in prompt.tokens.tolist()][:PROBE_TOKENS]
    longest = max((prompt.tokens.size for prompt in shown), default=0) + config.rollout.max_new_tokens
    return Prepared(
        config=config,
        prompts=tuple(prompts),
        left_out=left_out,
        max_model_len=max(longest, len(probe) + 1, stored.longest if stored is not None else 0),
        positions=positions_of(Path(config.model.path)),
        probe=tuple(probe),
        heldout=tuple(heldout),
        judge_length=judge_length,
        stored=stored,
        control=control,
    )


def _read_data(
    config: RunConfig, tokenizer: Any, limit: int, before: tuple[int, ...]
) -> tuple[list[Prompt], int, list[Prompt], StoredGroups | None]:
    """(prompts, how many were too long, held-out prompts, stored groups), each checked."""
    prompts, left_out, heldout, stored = list[Prompt](), 0, list[Prompt](), None
    if config.data.path:
        prompts, left_out = load_prompts(config.data, config.reward.name, tokenizer, limit, before)
        _check_references(config, config.data)
    if config.eval.every:
        data = config.data.model_copy(update={"path": config.eval.path})
        heldout, _ = load_prompts(data, config.reward.name, tokenizer, limit, before)
        _check_references(config, data)
        heldout = [replace(prompt, id=f"eval/{prompt.id}") for prompt in heldout[: config.eval.prompts]]
    if config.data.stored:
        stored = _usable(config, read_stored(config.data, tokenizer, config.run.seed, before))
        prompts = prompts or [stored.deal(0).prompt]
    if config.warmup.updates or config.algorithm.imitation:
        read_rows(Path(config.warmup.path), (config.warmup.prompt_column, config.warmup.response_column))
    return prompts, left_out, heldout, stored


def _usable(config: RunConfig, stored: StoredGroups) -> StoredGroups:
    """The stored groups that the algorithm can train on.

    Raises:
        ConfigError: there are none, or they are another model's.
    """
    name, algorithm = config.learner.algorithm, config.algorithm
    model = check_model(Path(config.model.path))
    usable = stored.with_siblings(algorithm.siblings)
    if not len(usable):
        raise ConfigError(
            f"learner.algorithm = {name!r} compares at least {algorithm.siblings} responses to a prompt, and no prompt "
            f"of {config.data.stored} (data.stored) has so many judged ones"
        )
    if algorithm.reads_sampler and not usable.recorded:
        raise ConfigError(
            f"learner.algorithm = {name!r} weighs each token by the sampler's log-probability, and "
            f"{config.data.stored} (data.stored) does not hold them: use the trajectories of a run, or an algorithm "
            "that imitates (raft, rest, quark)"
            + (', or set objective.mismatch = "none"' if algorithm.anchor is Anchor.STEP else "")
        )
    words, positions = model.get("vocab_size", 2**31), model.get("max_position_embeddings", 2**31)
    if usable.largest_token >= words or usable.longest > positions:
        raise ConfigError(
            f"{config.data.stored} (data.stored) is not this model's: its tokens go up to {usable.largest_token} and "
            f"its sequences to {usable.longest} tokens, the model knows {words} and {positions}"
        )
    return usable


def _control_tokens(config: RunConfig, tokenizer: Any) -> tuple[int, ...]:
    """Token ids of model.control_tokens, where the algorithm asks for them."""
    if Need.CONTROL not in config.algorithm.needs:
        return ()
    found = []
    for text in config.model.control_tokens:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise ConfigError(
                f"model.control_tokens must each be one token of the tokenizer, got {text!r}, which is {len(ids)}"
            )
        found.append(ids[0])
    return tuple(found)


def describe(prepared: Prepared, layout: Layout) -> str:
    """The plan of a run in words: sizes and where everything goes."""
    config, rollout = prepared.config, prepared.config.rollout
    cluster, passes = config.cluster, config.algorithm.passes
    updates = config.run.steps * config.learner.updates_per_step * passes
    lines = [f"{len(prepared.stored)} stored groups"] if prepared.stored is not None else []
    lines += [
        f"{len(prepared.prompts)} prompts of at most {max(p.tokens.size for p in prepared.prompts)} tokens"
        + (f", {prepared.left_out} longer ones left out" if prepared.left_out else ""),
        f"{rollout.groups_per_step} groups x {rollout.group_size} responses = "
        f"{rollout.groups_per_step * rollout.group_size} responses a step, over {cluster.learner_ranks} learner "
        f"ranks at ZeRO {config.learner.zero_stage}, in {config.learner.updates_per_step} updates of micro-batches "
        f"of {config.learner.micro_batch_tokens} tokens" + (f", {passes} passes" if passes > 1 else ""),
        f"{config.run.steps} steps = {updates} optimizer updates of "
        f"{config.learner.algorithm}, at most {rollout.max_staleness} versions stale: "
        f"{(rollout.max_staleness + 1) * rollout.groups_per_step} groups at a time",
        f"objective: {objective_line(config.algorithm)}",
        f"{layout.cpus:g} CPUs and {layout.gpus:g} GPUs:",
    ]
    lines += [f"  {' + '.join(b.actors):<32} {b.cpus:g} CPUs, {b.gpus:g} GPUs" for b in layout.bundles]
    return "\n".join(lines)


def write_config(config: RunConfig, folder: Path) -> None:
    """Writes the resolved config into the run folder."""
    (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")


def _check_references(config: RunConfig, data: DataSettings) -> None:
    with Graders() as graders:
        problems = bad_references(data.path, rows_of(data, config.reward.name), config.reward, graders)
    if problems:
        more = f"\nand {len(problems) - 1} more rows: winnow check names them" if len(problems) > 1 else ""
        raise ConfigError(problems[0] + more)

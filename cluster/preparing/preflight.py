"""Everything that can be found out before Ray starts: models, rewards, memory, data, lengths."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from actors.data.prompts import LoadedPrompts
from actors.data.stored import StoredGroups
from actors.errors import DataError
from actors.rollouts.chat import Chat, turn_ends
from actors.types import Prompt
from cluster.config.errors import ConfigError
from cluster.config.models import check_model, check_shards, positions_of
from cluster.config.run_config import RunConfig
from cluster.preparing.beside import check_beside
from cluster.preparing.copies import NO_REVISIONS, Copy, with_copies
from cluster.preparing.data import PreparedData, load_heldout, prepare_data
from cluster.preparing.graders import Graders
from cluster.preparing.memory import MemoryPlan, checked_memory, this_machine_memory
from cluster.preparing.models import check_adapter, check_ids, check_policy, load_tokenizer
from cluster.reporting.loggers import check_loggers
from cluster.reporting.terminal import say
from learner.methods.choices import Need
from rewards.programs.code import CodeSettings
from rewards.programs.sandbox import sandbox_problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE_TOKENS = 64
JUDGE_TOKENS = 8192  # most that a judge reads and says


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A run whose inputs have been checked."""

    config: RunConfig  # paths filled in
    prompts: tuple[Prompt, ...]
    shares: tuple[tuple[int, float], ...]  # of each path of the data: how many prompts are its, and its weight
    left_out: int  # prompts too long to use
    heldout: tuple[Prompt, ...]  # for evaluation
    stored: StoredGroups | None  # groups to train on that are not sampled
    max_model_len: int  # tokens of the longest prompt and response together
    positions: int  # most tokens that the model can hold
    adapter_parameters: int  # of the adapter that is trained in place of the weights; 0 without one
    probe: tuple[int, ...]  # ids of the fixed text on which generators and learner must agree
    judge_lengths: Mapping[str, int]  # reward -> most tokens of a question to its hosted judge and the answer
    control: tuple[int, ...]  # tokens of the reward quantiles, the best first, where the algorithm asks for them
    memory: MemoryPlan | None = None  # of this machine; None is unknown, as on a cluster, which is asked later
    copies: tuple[Copy, ...] = ()  # of what settings name by an address; their paths stand in `config`
    folder: Path | None = None  # of the run, where it has one yet


def prepare(
    config: RunConfig,
    memory: bool = True,
    say: Callable[[str], None] = say,
    revisions: Mapping[str, str] = NO_REVISIONS,
) -> Prepared:
    """Reads and checks model folders and data, and whether the learner's models fit into memory. What settings name by
    an address is fetched first.

    Args:
        config: the run.
        memory: False where memory has been checked before.
        say: is told what was fetched, and what an own reward gives no verdict on.
        revisions: addresses of the Hub with the commits that the run has begun with.

    Raises:
        ConfigError: something is missing or does not fit; the message says what to do.
    """
    check_loggers(config.run.loggers)
    config, copies = with_copies(config, say, revisions)
    positions = _check_policy(config)
    adapter = config.learner.adapter
    judge_lengths = _check_rewards(config)
    tokenizer = load_tokenizer(Path(config.model.path))
    config = _with_taught_ends(config, tokenizer)
    control = _control_tokens(config, tokenizer)
    data = prepare_data(config, tokenizer, positions - config.rollout.max_new_tokens, control[:1], say)
    check_ids(tokenizer, (*data.prompts, *data.heldout), Path(config.model.path))
    probe = _probe(data)
    needed = (
        _conversation_tokens(config, tokenizer, data, positions),
        len(probe) + 1,
        data.stored.max_tokens if data.stored is not None else 0,
    )
    check_beside(config, tokenizer, max(needed), positions)
    plan = None
    if memory and not (config.cluster.address or os.environ.get("RAY_ADDRESS")):
        plan = checked_memory(config, this_machine_memory(config.cluster.device), max(needed))
    return Prepared(
        config=config,
        prompts=data.prompts,
        shares=data.shares,
        left_out=data.left_out,
        heldout=data.heldout,
        stored=data.stored,
        max_model_len=max(needed),
        positions=positions,
        adapter_parameters=check_adapter(Path(config.model.path), adapter) if adapter.rank else 0,
        probe=probe,
        judge_lengths=judge_lengths,
        control=control,
        memory=plan,
        copies=copies,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedEvaluation:
    """Benchmarks and a model to answer them, both checked."""

    prepared: Prepared  # without prompts to train on
    sets: Mapping[str, LoadedPrompts]  # by the name of the benchmark, "" where there is one file


def prepare_evaluation(
    config: RunConfig, say: Callable[[str], None] = say, revisions: Mapping[str, str] = NO_REVISIONS
) -> PreparedEvaluation:
    """As `prepare`, of a run without its learner: reads and checks the model, and the data of the evaluation.

    Raises:
        ConfigError: something is missing or does not fit; the message says what to do.
    """
    config, copies = with_copies(config, say, revisions)
    config = config.without_learner()
    positions = _check_policy(config)
    judge_lengths = _check_rewards(config)
    _check_scoring_models(config)
    tokenizer = load_tokenizer(Path(config.model.path))
    config = _with_taught_ends(config, tokenizer)
    control = _control_tokens(config, tokenizer)
    try:
        sets = load_heldout(config, tokenizer, positions - config.rollout.max_new_tokens, control[:1], say)
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    heldout = tuple(prompt for each in sets.values() for prompt in each.prompts)
    check_ids(tokenizer, heldout, Path(config.model.path))
    data = PreparedData(prompts=(), shares=(), left_out=0, heldout=heldout, stored=None)
    prepared = Prepared(
        config=config,
        prompts=(),
        shares=(),
        left_out=0,
        heldout=heldout,
        stored=None,
        max_model_len=_conversation_tokens(config, tokenizer, data, positions),
        positions=positions,
        adapter_parameters=0,
        probe=(),
        judge_lengths=judge_lengths,
        control=control,
        copies=copies,
    )
    return PreparedEvaluation(prepared=prepared, sets=sets)


def _check_policy(config: RunConfig) -> int:
    """The most tokens that the policy can hold; its folder and those of policies beside it have been checked."""
    check_policy(Path(config.model.path), "model.path")
    positions = positions_of(Path(config.model.path))
    if config.samples:
        check_shards(Path(config.model.path), config.cluster.tensor_parallel, "model.path")
    beside = {"tuned_path": config.learner.tuned_path, "teacher_path": config.learner.teacher_folder}
    for name, path in beside.items() if config.trains else ():
        if path:
            check_policy(Path(path), f"learner.{name}")
    if positions <= config.rollout.max_new_tokens:
        raise ConfigError(
            f"rollout.max_new_tokens must be below the model's {positions} positions, "
            f"got {config.rollout.max_new_tokens}: no room is left for a prompt"
        )
    size = check_model(Path(config.model.path)).get("vocab_size")
    if isinstance(size, int) and (beyond := [one for one in config.rollout.stop_token_ids if one >= size]):
        raise ConfigError(f"rollout.stop_token_ids must be below the model's vocab_size = {size}, got {beyond}")
    return positions


def _with_taught_ends(config: RunConfig, tokenizer: "PreTrainedTokenizerBase") -> RunConfig:
    """Where a warm-up may teach conversations, what ends a turn in them ends a response as well: a base model does not
    have that token among its own ends, and would go on with the next turn. An environment sees to it itself."""
    if not config.warmup.updates or config.rollout.environment:
        return config
    stops = tuple(dict.fromkeys((*config.rollout.stop_token_ids, *turn_ends(config.data, tokenizer))))
    return config.model_copy(update={"rollout": config.rollout.model_copy(update={"stop_token_ids": stops})})


def _conversation_tokens(
    config: RunConfig, tokenizer: "PreTrainedTokenizerBase", data: PreparedData, positions: int
) -> int:
    """Most tokens of a prompt and its response; with an environment, of a conversation, whose chat template has been
    examined then."""
    rollout = config.rollout
    if not rollout.environment or not config.samples:
        return data.max_prompt_tokens + rollout.max_new_tokens
    try:
        keeps = Chat(config.data, tokenizer).keeps
    except DataError as problem:
        raise ConfigError(str(problem)) from problem
    if config.trains and config.algorithm.credit.pairs and not keeps:
        raise ConfigError(
            f"learner.algorithm = {config.learner.algorithm!r} trains on pairs of whole responses, and the chat "
            "template shows past turns otherwise than they were, so that a response has several streams: set "
            "data.chat_template to one that keeps them, or take another algorithm"
        )
    if rollout.episode_tokens > positions:
        raise ConfigError(
            f"rollout.episode_tokens must be at most the model's {positions} positions, got {rollout.episode_tokens}"
        )
    if rollout.episode_tokens and rollout.episode_tokens <= data.max_prompt_tokens:
        raise ConfigError(
            f"rollout.episode_tokens must be above the {data.max_prompt_tokens} tokens of the longest prompt, got "
            f"{rollout.episode_tokens}: no room is left for a response"
        )
    return rollout.episode_tokens or min(positions, data.max_prompt_tokens + 2 * rollout.max_new_tokens)


def _check_rewards(config: RunConfig) -> dict[str, int]:
    """reward -> most tokens of a question to its judge and the answer, of the judges that the run hosts; whether
    programs can be run has been checked."""
    for name, settings in config.reward.leaves(config.reward.name).items():
        if isinstance(settings, CodeSettings) and not settings.unsandboxed and (problem := sandbox_problem()):
            raise ConfigError(f"{problem} (or set reward.{name}.unsandboxed = true on a machine that may be lost)")
    for reward, folder in config.hosted_judges.items():
        check_shards(Path(folder), config.cluster.tensor_parallel, f"reward.{reward}.path")
    return {reward: min(positions_of(Path(folder)), JUDGE_TOKENS) for reward, folder in config.hosted_judges.items()}


def _check_scoring_models(config: RunConfig) -> None:
    """Whether the models that the responses of an evaluation are picked by can be read."""
    with Graders(1) as graders:
        for name in config.scoring_models:
            (problem,) = graders.problems(name, [""], config.reward)
            if problem:
                raise ConfigError(problem)


def _probe(data: PreparedData) -> tuple[int, ...]:
    """The first PROBE_TOKENS tokens of the prompts, end to end."""
    first = (*data.prompts, *data.heldout)[:PROBE_TOKENS]
    return tuple(token for prompt in first for token in prompt.tokens.tolist())[:PROBE_TOKENS]


def _control_tokens(config: RunConfig, tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
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

"""The data of a run: prompts, held-out prompts, stored groups and worked answers, each checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from actors.data.files import BadRow
from actors.data.prompts import LoadedPrompts, load_prompts
from actors.data.reading import read_data, read_worked
from actors.data.stored import StoredGroups, read_stored
from actors.errors import DataError
from actors.rollouts.worked import WorkedRenderer
from actors.settings import DataSettings
from actors.types import Prompt
from cluster.config.errors import ConfigError
from cluster.config.models import check_model
from cluster.config.run_config import RunConfig
from cluster.preparing.asking import asked_about, refused_messages
from cluster.preparing.graders import Graders
from cluster.preparing.references import bad_references
from cluster.preparing.trying import try_own_rewards
from learner.methods.choices import Anchor
from rewards import Case, Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedData:
    """What a run trains on and is evaluated with."""

    prompts: tuple[Prompt, ...]
    shares: tuple[tuple[int, float], ...]  # of each path of the data: how many prompts are its, and its weight
    left_out: int  # prompts too long to use
    heldout: tuple[Prompt, ...]  # for evaluation; empty where nothing is evaluated
    stored: StoredGroups | None  # groups to train on that are not sampled

    @property
    def max_prompt_tokens(self) -> int:
        """Tokens of the longest prompt; 0 without any."""
        return max((prompt.tokens.size for prompt in (*self.prompts, *self.heldout)), default=0)


def prepare_data(
    config: RunConfig,
    tokenizer: "PreTrainedTokenizerBase",
    max_prompt_tokens: int,
    before: tuple[int, ...],
    say: Callable[[str], None],
) -> PreparedData:
    """Reads and checks all data of a run.

    Args:
        config: the run.
        tokenizer: the model's.
        max_prompt_tokens: most tokens of a prompt that leave room for a response.
        before: token ids that stand before each prompt, such as a control token.
        say: is told what an own reward gives no verdict on.

    Raises:
        ConfigError: a file or a row cannot be used; it is named.
    """
    try:
        loaded = _prompts(config, config.data, tokenizer, max_prompt_tokens, before, say)
        prompts, shares = loaded.prompts, loaded.shares
        heldout: tuple[Prompt, ...] = ()
        if config.eval.every:
            sets = load_heldout(config, tokenizer, max_prompt_tokens, before, say)
            heldout = tuple(prompt for each in sets.values() for prompt in each.prompts)
        stored = None
        if config.data.stored:
            stored = _usable(config, read_stored(config.data, tokenizer, config.run.seed, before))
            if not prompts:
                prompts, shares = (stored.deal(0).prompt,), ((1, 1.0),)
        if config.warmup.updates or config.algorithm.imitation:
            worked, warmup, system = WorkedRenderer(config.data, tokenizer), config.warmup, config.data.system_column
            for row in read_worked(warmup.path, warmup.prompt_column, warmup.response_column, system):
                if fault := worked.fault(row):
                    raise DataError(f"{row.place}: {fault}")
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    return PreparedData(prompts=prompts, shares=shares, left_out=loaded.left_out, heldout=heldout, stored=stored)


def _prompts(
    config: RunConfig,
    data: DataSettings,
    tokenizer: "PreTrainedTokenizerBase",
    max_prompt_tokens: int,
    before: tuple[int, ...],
    say: Callable[[str], None],
) -> LoadedPrompts:
    """The prompts of a file; none without a file. Messages have been checked, and references too and own rewards tried,
    but where an environment may take references for what it likes."""
    if not data.paths:
        return LoadedPrompts(prompts=(), shares=(), left_out=0)
    loaded = load_prompts(data, config.reward.name, tokenizer, max_prompt_tokens, before)
    rows = [row for rows in read_data(data, config.reward.name).values() for row in rows]
    asked = ((row.place, asked_about(row, data, config.reward, "")) for row in rows)
    _refuse(refused_messages(asked, () if config.trains else tuple(config.scoring_models)))
    if config.rollout.environment:
        return loaded
    with Graders() as graders:
        _refuse(bad_references(rows, config.reward, graders))
        for line in try_own_rewards([_question(prompt, config) for prompt in loaded.prompts], graders):
            say(line)
    return loaded


def _refuse(bad: Sequence[BadRow]) -> None:
    """Raises the first of bad rows, where there are any."""
    if bad:
        more = f"\nand {len(bad) - 1} more rows: winnow check names them" if len(bad) > 1 else ""
        raise ConfigError(str(bad[0]) + more)


def _question(prompt: Prompt, config: RunConfig) -> Question:
    """What is asked of the reward of a prompt, without a response."""
    case = Case(
        response="",
        reference=prompt.reference,
        prompt=prompt.text,
        question=prompt.question,
        messages=prompt.messages,
    )
    return Question(reward=prompt.reward, case=case, settings=config.reward)


def heldout_sets(config: RunConfig) -> dict[str, DataSettings]:
    """The data of the evaluation by name: benchmarks, or with the name "" its one file, or the run's own."""
    own, rows = config.data, config.eval.rows
    if not config.eval.benchmarks:
        return {"": own.model_copy(update={"path": config.eval.path or own.path, "rows": rows})}
    return {
        name: own.model_copy(
            update={
                "path": one.path,
                "rows": one.rows or rows,
                "prompt_column": one.prompt_column or own.prompt_column,
                "answer_column": own.answer_column if one.answer_column is None else one.answer_column,
                "template": one.template or own.template,
            }
        )
        for name, one in config.eval.benchmarks.items()
    }


def benchmark_of(prompt_id: str) -> str:
    """The name of the file that a held-out prompt is of; "" where the evaluation has one file."""
    return prompt_id.removeprefix("eval/").rpartition("/")[0]


def load_heldout(
    config: RunConfig,
    tokenizer: "PreTrainedTokenizerBase",
    max_prompt_tokens: int,
    before: tuple[int, ...],
    say: Callable[[str], None],
) -> dict[str, LoadedPrompts]:
    """The first `eval.prompts` prompts of each file of the evaluation, with ids of their own, by its name.

    Raises:
        ConfigError: a reference cannot be graded against.
        DataError: a file or a row cannot be used; it is named.
    """
    found = {}
    for name, data in heldout_sets(config).items():
        loaded = _prompts(config, data, tokenizer, max_prompt_tokens, before, say)
        before_id = f"eval/{name}/" if name else "eval/"
        prompts = (replace(prompt, id=before_id + prompt.id) for prompt in loaded.prompts[: config.eval.prompts])
        found[name] = replace(loaded, prompts=tuple(prompts))
    return found


def _usable(config: RunConfig, stored: StoredGroups) -> StoredGroups:
    """The stored groups that the algorithm can train on.

    Raises:
        ConfigError: there are none, or they are another model's.
    """
    name, algorithm, model = config.learner.algorithm, config.algorithm, check_model(Path(config.model.path))
    usable = stored.with_siblings(algorithm.siblings)
    if not len(usable):
        raise ConfigError(
            f"learner.algorithm = {name!r} compares at least {algorithm.siblings} responses to a prompt, and no prompt "
            f"of {config.data.stored} (data.stored) has as many with a verdict"
        )
    if algorithm.reads_sampler and not usable.recorded:
        raise ConfigError(
            f"learner.algorithm = {name!r} weighs each token by the sampler's log-probability, and "
            f"{config.data.stored} (data.stored) does not hold them: use the trajectories of a run, or an algorithm "
            "that imitates (raft, rest, quark)"
            + (', or set objective.mismatch = "none"' if algorithm.anchor is Anchor.STEP else "")
        )
    words, positions = model.get("vocab_size", 2**31), model.get("max_position_embeddings", 2**31)
    if usable.largest_token >= words or usable.max_tokens > positions:
        raise ConfigError(
            f"{config.data.stored} (data.stored) is not this model's: its tokens go up to {usable.largest_token} and "
            f"its sequences to {usable.max_tokens} tokens, the model knows {words} and {positions}"
        )
    return usable

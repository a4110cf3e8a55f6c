"""The settings of data, generators, verifiers and the filter. Plain checked values; imports nothing heavy."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from actors.filtering.own import known_rules
from actors.filtering.rules import RULES, DropRule
from actors.rollouts.own import load_environment
from rewards.settings import PathText, Section

TRUNCATION = (
    "the engine would renormalise over the tokens it kept and the learner over all of them, which biases ratios. "
    "Use temperature instead"
)

SHORT = 64  # tokens of an answer that is short, at most
MOST_STOPS = 16  # texts, or tokens, that end a response


class WorldSettings(Section):
    """A built-in world of problems with a tiny model, written out as ordinary files at the start of a run."""

    name: Literal["", "addition"] = ""  # "" uses model.path and data.path instead
    digits: Annotated[int, Field(ge=1, le=8)] = 3  # largest number of digits of an operand
    slips: float | tuple[float, ...] = 0.3  # share of worked digit sums that are one off; a list: with 1, 2, ... digits

    @field_validator("slips", mode="before")
    @classmethod
    def _are_shares(cls, value: Any) -> Any:
        several = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(share, int | float) and 0 <= share <= 1 for share in several):
            raise ValueError(f"must be a number from 0 to 1 or a list of such, got {value!r}")
        return value

    @model_validator(mode="after")
    def _slips_are_of_each_length(self) -> Self:
        if isinstance(self.slips, tuple) and len(self.slips) != self.digits:
            raise ValueError(
                f"world.slips must be one number, or one for each number of digits up to world.digits = {self.digits}, "
                f"got {len(self.slips)}"
            )
        return self


OURS = frozenset(  # what winnow passes to a tokenizer beside data.chat_arguments, or leaves as it is
    {"conversation", "messages", "tools", "chat_template", "tokenize", "add_generation_prompt"}
    | {"continue_final_message", "padding", "truncation", "max_length", "return_tensors", "return_dict"}
    | {"return_assistant_tokens_mask", "tokenizer_kwargs", "self"}
)


class DataSettings(Section):
    """The prompts and their reference answers."""

    # A file (JSON lines, a JSON array, CSV, TSV, each also as .gz; Parquet), a folder or a pattern with *. Several in a
    # table, each with its weight: shares of the prompts that are dealt, such as {"a.jsonl" = 3, "b.jsonl" = 1}.
    path: PathText | dict[PathText, Annotated[float, Field(gt=0)]] = ""
    rows: str = ""  # which rows of each path, as start:end; from the end with a minus; unset: all
    # Text or chat messages; dots reach into objects, as in "extra.question". Several columns are joined by blank lines.
    prompt_column: str | tuple[str, ...] = "prompt"
    # Several columns become one JSON object, as "code" and "sql" want it; a table renames, {query = "SQL"}; with ""
    # there are no answers, for rewards that compare with none.
    answer_column: str | tuple[str, ...] | dict[str, str] = "answer"
    reward_column: str = ""  # where each row names its own reward; unset: reward.name for all
    system_column: str = ""  # where each row has its own system message; unset: data.system for all
    template: str = "{prompt}"  # what stands around each prompt
    chat: bool | None = None  # wrap in the tokenizer's chat template; unset: where it has one
    chat_template: PathText = ""  # a file with a chat template, or the name of one of the tokenizer's; unset: its own
    chat_arguments: dict[str, bool | int | float | str] = Field(
        default={}
    )  # for the chat template, such as {enable_thinking = false}
    system: str = ""  # system message of the chat template, where neither messages nor row bring one
    too_long_share: Annotated[float, Field(ge=0, le=1)] = 0.01  # refuse data with a larger share of too long prompts
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None  # of the order of the prompts; unset: run.seed
    stored: PathText = ""  # a Parquet file or folder of graded responses to train from, such as a run's `trajectories`
    stored_share: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the groups that come from there; 1 samples nothing

    @property
    def paths(self) -> dict[str, float]:
        """Each path with its weight; none where nothing is set."""
        return self.path if isinstance(self.path, dict) else {self.path: 1.0} if self.path else {}

    @property
    def slice(self) -> tuple[int | None, int | None]:
        """Where `rows` starts and ends."""
        start, _, end = (self.rows or ":").partition(":")
        return (int(start) if start else None, int(end) if end else None)

    @property
    def answer_parts(self) -> dict[str, str]:
        """Of an answer of several columns: the names in its JSON object, and the column of each."""
        if isinstance(self.answer_column, dict):
            return self.answer_column
        columns = (self.answer_column,) if isinstance(self.answer_column, str) else self.answer_column
        last = [column.rpartition(".")[2] for column in columns]
        return {name if last.count(name) == 1 else column: column for name, column in zip(last, columns, strict=True)}

    @field_validator("prompt_column", "answer_column")
    @classmethod
    def _names_a_column(
        cls, value: str | tuple[str, ...] | dict[str, str], info: ValidationInfo
    ) -> str | tuple[str, ...] | dict[str, str]:
        if not value and not (value == "" and info.field_name == "answer_column"):
            raise ValueError(f"must name a column, got {value!r}")
        return value

    @field_validator("chat_arguments")
    @classmethod
    def _are_for_the_template(cls, value: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
        if taken := sorted(OURS & set(value)):
            raise ValueError(f"must be arguments of the chat template; winnow itself says what {taken[0]!r} is")
        return value

    @field_validator("template")
    @classmethod
    def _has_the_prompt(cls, value: str) -> str:
        if "{prompt}" not in value:
            raise ValueError(f"must contain {{prompt}}, got {value!r}")
        return value

    @field_validator("rows")
    @classmethod
    def _is_a_slice(cls, value: str) -> str:
        return check_rows(value)


def check_rows(value: str) -> str:
    """A slice of rows as text, checked."""
    if value and not re.fullmatch(r"(-?[0-9]{1,18})?:(-?[0-9]{1,18})?", value):
        raise ValueError(f"must be start:end, such as 0:1000 or -500:, got {value!r}")
    return value


class RoundSettings(Section):
    """The responses of a group in rounds: a group that the filter would reject after one has another, one that it would
    keep is filled up to rollout.group_size. Of more than that, as many are trained on, against the mean of all."""

    size: int = 0  # responses of a round; 0: all rollout.group_size at once
    most: Annotated[int, Field(ge=1)] = 1  # rounds that a group has before it is given up
    # Correct responses, and wrong ones, with which a group has no further round; only of the kinds that the filter
    # would reject it for lacking. With half of rollout.group_size, as many of each are trained on, as far as there are.
    enough: Annotated[int, Field(ge=1)] = 1


class RolloutSettings(Section):
    """How responses are sampled, and how many at a time."""

    groups_per_step: Annotated[int, Field(ge=1)] = 64  # P, accepted groups in a training step
    group_size: Annotated[int, Field(ge=1)] = 8  # G, responses to a prompt
    # The next three save tokens where many prompts are solved or out of reach, and shift training to those between. The
    # metric `accuracy` is then of the chosen prompts; only an evaluation tells that of the data.
    choose: Literal["uniform", "likely-mixed", "predicted-mixed", "skip-alike"] = "uniform"  # which prompts come next
    cooldown: Annotated[int, Field(ge=0)] = 0  # versions for which a chosen prompt rests behind its newest verdict
    rounds: RoundSettings = RoundSettings()
    max_new_tokens: Annotated[int, Field(ge=1)] = 1024  # longest response
    # What ends a response, beside the end-of-text token of the model. It stays in tokens and text and is trained on.
    stop: tuple[str, ...] = ()  # texts, found in the decoded response, special tokens among it; one or several
    stop_token_ids: tuple[Annotated[int, Field(ge=0)], ...] = ()  # tokens of the model's vocabulary
    # Until then the engine takes the ends out of what it samples from, and its log-probabilities are of what is left.
    # The learner's are not: there, the ratio of learner and sampler is below 1 by the probability of an end.
    min_tokens: Annotated[int, Field(ge=0)] = 0  # shortest response; 0 lets the policy end at once
    temperature: Annotated[float, Field(ge=0.01, le=2)] = 1.0  # in the range that the engine samples with as it is
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0  # below 1 only for an algorithm on the nucleus, such as nlpo
    top_k: int = 0  # must stay 0, for the same reason
    min_p: float = 0.0  # must stay 0, for the same reason
    max_staleness: Annotated[int, Field(ge=0)] = 0  # S, versions that a trained token may be behind; 0 is on-policy
    longest_prompts_first: bool = False  # of the prompts that may be dispatched, those with most tokens go first
    timeout_seconds: Annotated[float, Field(gt=0)] = 1800.0  # a group that takes longer is tried again, once
    # The policy has a conversation in place of a single question. Its limits are the next three, and max_new_tokens for
    # all turns of a seat together, or of each conversation where an agent asks by the seat's address.
    environment: PathText = ""  # a Python file with a coroutine play(task, talk)
    max_turns: Annotated[int, Field(ge=1)] = 32  # that an episode may ask for; behind them turns are empty
    episode_tokens: Annotated[int, Field(ge=0)] = 0  # most tokens of a conversation; 0: prompt and 2 x max_new_tokens
    episode_seconds: Annotated[float, Field(gt=0)] = 600.0  # an episode that takes longer has no score

    @property
    def answers_are_short(self) -> bool:
        """Whether what samples at the same time ends at about the same time: single questions with answers of SHORT
        tokens at most. They then go through engine and Ray together, as waiting for each other costs less than that."""
        return self.max_new_tokens <= SHORT and not self.environment

    @field_validator("environment")
    @classmethod
    def _is_an_environment(cls, value: str) -> str:
        if value:
            load_environment(value)
        return value

    @field_validator("cooldown")
    @classmethod
    def _is_of_a_choice(cls, value: int, others: ValidationInfo) -> int:
        if value and others.data.get("choose") == "uniform":
            raise ValueError(
                f'must be 0 with rollout.choose = "uniform", got {value}: prompts come as the data has them'
            )
        return value

    @field_validator("rounds")
    @classmethod
    def _may_spare_something(cls, value: RoundSettings, others: ValidationInfo) -> RoundSettings:
        size, again = others.data.get("group_size", value.size + 1), value.most > 1
        if value.size and not 2 <= value.size < size + again:
            raise ValueError(
                f"rollout.rounds.size must be 0, or at least 2 and below rollout.group_size = {size}, or as large with "
                f"rollout.rounds.most above 1, got {value.size}"
            )
        if again and not value.size:
            raise ValueError(f"rollout.rounds.most = {value.most} needs rollout.rounds.size, the responses of a round")
        if value.enough > (size if again else 1):
            raise ValueError(
                f"rollout.rounds.enough must be at most rollout.group_size = {size}, and 1 where there is one round "
                f"(rollout.rounds.most), got {value.enough}"
            )
        return value

    @field_validator("stop", mode="before")
    @classmethod
    def _is_one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("stop", "stop_token_ids")
    @classmethod
    def _can_be_searched_for(cls, value: tuple[str | int, ...]) -> tuple[str | int, ...]:
        if "" in value:
            raise ValueError(f"must hold no empty text, got {list(value)}: every response would end at once")
        if len(value) > MOST_STOPS:
            raise ValueError(f"must hold at most {MOST_STOPS}, got {len(value)}: each is looked for after every token")
        return value

    @field_validator("min_tokens")
    @classmethod
    def _fits_into_the_response(cls, value: int, others: ValidationInfo) -> int:
        if value > (most := others.data.get("max_new_tokens", value)):
            raise ValueError(f"must be at most rollout.max_new_tokens = {most}, got {value}")
        return value

    @field_validator("top_k", "min_p")
    @classmethod
    def _is_not_truncated(cls, value: float) -> float:
        if value != 0:
            raise ValueError(f"must stay 0 for training, got {value}: {TRUNCATION}")
        return value


class Benchmark(Section):
    """One of several files of held-out prompts. What is unset is that of the data."""

    path: Annotated[PathText, Field(min_length=1)]
    rows: str = ""
    prompt_column: str = ""
    answer_column: str | tuple[str, ...] | dict[str, str] | None = None  # "": no answers, as there
    template: str = ""

    @field_validator("answer_column")
    @classmethod
    def _names_a_column(
        cls, value: str | tuple[str, ...] | dict[str, str] | None
    ) -> str | tuple[str, ...] | dict[str, str] | None:
        if not value and value not in ("", None):
            raise ValueError(f"must name a column, got {value!r}")
        return value

    @field_validator("rows")
    @classmethod
    def _is_a_slice(cls, value: str) -> str:
        return check_rows(value)

    @field_validator("template")
    @classmethod
    def _has_the_prompt(cls, value: str) -> str:
        if value and "{prompt}" not in value:
            raise ValueError(f"must contain {{prompt}}, got {value!r}")
        return value


def _as_benchmark(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


Files = PathText | dict[str, Annotated[Benchmark, BeforeValidator(_as_benchmark)]]
BENCHMARK_NAME = re.compile(r"[\w-]{1,64}")


class EvalSettings(Section):
    """Evaluation on held-out prompts."""

    every: Annotated[int, Field(ge=0)] = 0  # steps between evaluations, besides the first and the last; 0 is never
    # Several: {math500 = "m.jsonl", minerva = {path = "n.jsonl", prompt_column = "question"}}. A built-in world has its
    # own file.
    path: Files = ""  # as data.path, with its columns, or a table of several by name; unset: data.path
    rows: str = ""  # which rows of each, as data.rows
    prompts: Annotated[int, Field(ge=1)] = 128  # how many of the first of these
    samples: Annotated[int, Field(ge=1)] = 4  # responses to each, at rollout.temperature
    generators: Annotated[int, Field(ge=0)] = (
        0  # more, that evaluate while training goes on; 0: the run's, between steps
    )

    @property
    def benchmarks(self) -> dict[str, Benchmark]:
        """The files that have names; none where there is one file."""
        return self.path if isinstance(self.path, dict) else {}

    @field_validator("path")
    @classmethod
    def _has_names(cls, value: str | dict[str, Benchmark]) -> str | dict[str, Benchmark]:
        wrong = [name for name in value if not BENCHMARK_NAME.fullmatch(name)] if isinstance(value, dict) else []
        if wrong:
            raise ValueError(f"must have names of letters, digits, - and _, got {wrong[0]!r}")
        return value

    @field_validator("rows")
    @classmethod
    def _is_a_slice(cls, value: str) -> str:
        return check_rows(value)


class FilterSettings(Section):
    """Which graded groups go on to the learner."""

    drop: str = ""  # a key of actors.filtering.rules.RULES, or of RULES in `file`; "" is the algorithm's own rule
    file: PathText = ""  # a Python file with drop rules of your own; one that holds a single rule needs no `drop`
    patience: Annotated[int, Field(ge=1)] = (
        2048  # groups in a row rejected or lost, then the run stops with a checkpoint
    )
    # Of each set of siblings, the most that are trained on: those whose scores vary most, with the credits that they
    # have among all of the set. 0: rollout.group_size where rounds bring more, else all.
    most_siblings: int = 0

    @model_validator(mode="after")
    def _is_a_rule(self) -> Self:
        try:
            known = known_rules(self.file)
        except ValueError as problem:
            raise ValueError(f"filter.file: {problem}") from None
        own = [name for name in known if name not in RULES]
        if self.drop and self.drop not in known:
            raise ValueError(f"filter.drop must be one of {', '.join(known)}, got {self.drop!r}")
        if not self.drop and len(own) > 1:
            raise ValueError(f"filter.drop must be one of {', '.join(own)}: filter.file holds several rules")
        return self

    @property
    def rule(self) -> DropRule | None:
        """The chosen rule; None where it is the algorithm's own."""
        known = known_rules(self.file)
        own = [name for name in known if name not in RULES]
        name = self.drop or next(iter(own), "")
        return known[name] if name else None


# Of a GPU's memory, for an engine that has it alone: beside it stay NCCL's buffers, and weights on their way.
ALONE_SHARE = 0.85
SHARED_SHARE, MOST_SHARED = 0.35, 0.6  # with a learner rank on the same GPU, whose weights and optimizer stay there
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
GPU_SEQUENCES, CPU_SEQUENCES = 512, 256
GPU_BATCH_TOKENS = 8192  # vLLM would take 2048 for an engine inside another program, and this for a server


class GeneratorSettings(Section):
    """The vLLM engines."""

    max_sequences: Count | None = None  # responses that decode together in one engine; unset: 512, on the CPU 256
    batch_tokens: Count | None = None  # tokens of one pass on a GPU; unset: 8192
    memory_share: Share | None = None  # of a GPU's memory, for an engine; unset: 0.85, with cluster.colocate 0.35
    cpu_cache_gib: Annotated[int, Field(ge=1)] = 1  # key-value cache of an engine on the CPU, GiB
    compiled: bool = True  # capture CUDA graphs; no effect on the CPU

    def on_device(self, on_gpu: bool, colocate: bool = False) -> Self:
        """The settings with what is unset settled.

        Args:
            on_gpu: whether engines run on GPUs.
            colocate: whether each shares its GPU with a learner rank.
        """
        settled = {
            "max_sequences": GPU_SEQUENCES if on_gpu else CPU_SEQUENCES,
            "batch_tokens": GPU_BATCH_TOKENS,
            "memory_share": SHARED_SHARE if colocate else ALONE_SHARE,
        }
        return self.model_copy(update={name: size for name, size in settled.items() if getattr(self, name) is None})


class SyncSettings(Section):
    """How new weights reach the generators."""

    backend: Literal["auto", "nccl", "ipc", "gloo"] = "auto"  # auto: gloo on the CPU, ipc on a shared GPU, else nccl
    in_flight: Literal["continue", "finish", "keep"] = "continue"  # what responses that are being sampled do at a sync
    bucket_mib: Annotated[int, Field(ge=1)] = 256  # weights are gathered and sent in pieces of about this size
    # For each part of a sync; who takes longer is left out. Other ranks wait in a collective for at most half an hour.
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 300.0
    sha256: bool = False  # hash all weights on the host after each sync too, to debug the digest: seconds per GB

"""The nouns that travel through the pipeline. Frozen; no field is filled in later: a later stage makes a new type.

Prompt --generator--> Trajectory --verifier--> Verdict --> Group --filter--> learner

Those that are pickled for every group or response have no slots: Python pickles them at a third of the cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np

from actors.filtering.rules import DropRule, drop_none
from actors.settings import GeneratorSettings, RolloutSettings
from rewards import Outcome, RewardSettings, Verdict


class Finish(StrEnum):
    """Why a response ended, in the words of the engine that sampled it."""

    STOP = "stop"  # the policy ended it
    LENGTH = "length"  # cut at the largest number of new tokens
    ABORT = "abort"  # stopped from outside, a deadline for one; never trained


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """One problem, tokenized once.

    Example: ``Prompt(id="7", tokens=np.array([1, 2]), text="1+1=", reward="number", reference="2")``
    """

    id: str  # unique within the data, and what its sampling seeds derive from
    tokens: np.ndarray  # int32[P], what the policy sees
    text: str  # the same before tokenization, for people
    reward: str  # what reward.name may be
    reference: str  # what the reward compares with
    question: str = ""  # the text without templates, for rewards that ask about it; not kept in files


@dataclass(frozen=True, kw_only=True)
class Order:
    """One group to produce."""

    group: int  # id from the ledger
    prompt: Prompt
    visit: int  # how often this prompt was dispatched before, so that a second visit samples anew
    size: int = 0  # responses; 0 is rollout.group_size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trajectory:
    """One sampled response behind its prompt as a flat token stream; T counts the prompt's tokens too."""

    tokens: np.ndarray  # int32[T], the engine's own ids, never tokenized again
    sampled: np.ndarray  # bool[T], True where the policy chose the token (its end-of-text included)
    logprobs: np.ndarray  # float32[T], the sampler's log-probability where sampled, 0 elsewhere
    versions: np.ndarray  # int32[T], the weight version that chose the token, -1 where not sampled
    finish: Finish
    text: str  # the response for people and verifiers, special tokens left out

    @property
    def new_tokens(self) -> int:
        """Number of tokens that the policy chose."""
        return int(np.count_nonzero(self.sampled))

    @property
    def recorded(self) -> bool:
        """Whether the sampler's log-probabilities are known; stored data may lack them (NaN)."""
        return not np.isnan(self.logprobs).any()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """A prompt with its sibling responses and their verdicts: what is queued, filtered and counted."""

    id: int  # unique within the run, counts up with dispatch
    prompt: Prompt
    trajectories: tuple[Trajectory, ...]  # G siblings
    verdicts: tuple[Verdict, ...]  # G, in the same order
    span_rewards: tuple[np.ndarray, ...] = ()  # G arrays float32[T], NaN on tokens without; or none at all
    greedy: float | None = None  # score of a greedy response to the prompt, where the algorithm asks for one

    def __post_init__(self) -> None:
        if len(self.trajectories) != len(self.verdicts):
            raise ValueError(f"group {self.id}: {len(self.trajectories)} responses, {len(self.verdicts)} verdicts")


@dataclass(frozen=True, kw_only=True)
class Times:
    """When the responses of a group were there, and their verdicts."""

    generate: float = 0.0  # seconds from dispatch to the end of the longest response
    verify: float = 0.0  # longest wait of a response for its verdict, seconds
    generated_at: float = 0.0  # wall clock at the end of the last response
    verified_at: float = 0.0  # wall clock at the last verdict
    queue: int = 0  # most responses seen to wait for a free verifier

    @classmethod
    def of_group(cls, times: Sequence["Times"]) -> "Times":
        """The latest and longest of a group's responses."""
        return cls(
            generate=max(time.generate for time in times),
            verify=max(time.verify for time in times),
            generated_at=max(time.generated_at for time in times),
            verified_at=max(time.verified_at for time in times),
            queue=max(time.queue for time in times),
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the filter, the ledger and the driver know of a group; the arrays stay in the object store."""

    id: int
    prompt_id: str
    scores: tuple[float, ...]  # of the judged responses, J <= G
    outcomes: tuple[Outcome, ...]  # of all G responses, or of the first stage's where sampling stopped after it
    lengths: tuple[int, ...]  # sampled tokens of these responses
    scored_lengths: tuple[int, ...]  # sampled tokens of the J judged responses: what the learner would train on
    tokens: int  # prompt and sampled tokens of the judged responses: what a forward pass would cost
    truncated: int  # responses cut at the length limit
    checked: int  # responses that a second, cheap checker looked at too
    disagreed: int  # of these, how many it judged otherwise
    failure: str  # why the first response without a verdict has none; "" where all have one
    oldest_version: int  # lowest weight version among the judged sampled tokens, -1 without any
    extra_tokens: int  # sampled beside the responses: a greedy one, where the algorithm asks for it
    times: Times
    greedy_score: float | None = None  # of a greedy response to the prompt, where the algorithm asks for one

    @classmethod
    def of(cls, group: Group, times: Times, extra_tokens: int = 0) -> "Summary":
        """The summary of a group, with the times and tokens that its arrays do not hold."""
        second = [(v.parts["quick"] > 0.5, v.outcome is Outcome.CORRECT) for v in group.verdicts if "quick" in v.parts]
        judged = [(t, v) for t, v in zip(group.trajectories, group.verdicts, strict=True) if v.outcome.scored]
        versions = np.concatenate([t.versions[t.sampled] for t, _ in judged]) if judged else np.empty(0, np.int32)
        return cls(
            id=group.id,
            prompt_id=group.prompt.id,
            scores=tuple(v.score for _, v in judged if v.score is not None),
            outcomes=tuple(v.outcome for v in group.verdicts),
            lengths=tuple(t.new_tokens for t in group.trajectories),
            scored_lengths=tuple(t.new_tokens for t, _ in judged),
            tokens=sum(t.tokens.size for t, _ in judged),
            truncated=sum(t.finish is Finish.LENGTH for t in group.trajectories),
            oldest_version=int(versions.min()) if versions.size else -1,
            checked=len(second),
            disagreed=sum(quick is not correct for quick, correct in second),
            failure=next((v.why for v in group.verdicts if not v.outcome.scored), ""),
            extra_tokens=extra_tokens,
            times=times,
            greedy_score=group.greedy,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What a generator needs to start its engine."""

    model: str  # folder with config and tokenizer; its weights are not read where they come with the first sync
    dtype: Literal["float32", "bfloat16"]
    seed: int
    max_model_len: int  # tokens, prompt and response
    tensor_parallel: int
    backend: str  # weight transfer: "nccl", "ipc" or "gloo"; "" reads the weights of the folder instead
    on_cpu: bool
    engine: GeneratorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSpec:
    """What a generator needs to serve one run."""

    seed: int
    rollout: RolloutSettings
    reward: RewardSettings
    greedy: bool  # whether each group gets a greedy response beside the sampled ones
    drop: DropRule = drop_none  # the filter's; asked after the first stage whether the rest is worth sampling

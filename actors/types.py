"""The nouns that travel through the pipeline. Frozen; no field is filled in later: a later stage makes a new type.

Prompt --rollout--> Trajectory --verifier--> Verdict --> Group --filter--> learner

Those that are pickled for every group or response have no slots: Python pickles them at a third of the cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from actors.data.messages import Asked
from actors.filtering.rules import DropRule, drop_none
from actors.sampled import SampledTurn
from actors.settings import DataSettings, GeneratorSettings, RolloutSettings
from rewards import ChatMessage, Outcome, RewardSettings, Verdict

if TYPE_CHECKING:
    import pyarrow as pa
    import ray

GroupRef: TypeAlias = "ray.ObjectRef[pa.Buffer]"  # to the packed record batch of a group (`actors.arrow.packed`)

POLICY = "policy"  # the seat of the policy where an environment names no other
WHY = 300  # characters of a reason that a summary carries
SAMPLE = 100  # characters of a prompt and of a response that it carries


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
    question: str = ""  # the text without templates, for rewards that ask about it; "" where it is not known apart
    messages: tuple[ChatMessage, ...] = ()  # the same in its roles, a system message first; () where it is one message


@dataclass(frozen=True, kw_only=True, eq=False)
class RowPrompt(Prompt):
    """A prompt with what its row asks, to be rendered anew where tools come to it; a group in a file has none."""

    asked: Asked
    system: str = ""  # the row's own system message


class Purpose(StrEnum):
    """What responses are sampled for."""

    TRAINING = "training"  # the group goes to the filter
    EVALUATION = "evaluation"  # only its outcomes are counted
    GREEDY_BASELINE = "greedy_baseline"  # the likeliest response, whose score is the baseline of its siblings
    LABEL = "label"  # completions that say how good the beginning of a response is


@dataclass(frozen=True, kw_only=True)
class RolloutRequest:
    """One group to produce.

    Example: ``RolloutRequest(group=0, prompt=prompt, visit=0, purpose=Purpose.EVALUATION, responses=4)``
    """

    group: int  # id from the ledger; where a request is not for training, any number that the caller knows it by
    prompt: Prompt
    visit: int  # how often this prompt was dispatched before, so that a second visit samples anew
    purpose: Purpose = Purpose.TRAINING
    responses: int | None = None  # how many; None is rollout.group_size


@dataclass(frozen=True, kw_only=True)
class PromptVisit:
    """A prompt that was dealt, by name."""

    prompt_id: str
    visit: int  # passes over the data before it


class LeftRow(NamedTuple):
    """A row of data that an environment has made (`Talk.leave`)."""

    name: str  # of the file that it goes to
    row: str  # a JSON object


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trajectory:
    """What the policy saw and said in one rollout as a flat token stream; T counts the prompt's tokens too."""

    tokens: np.ndarray  # int32[T], the engine's own ids, never tokenized again
    sampled: np.ndarray  # bool[T], True where the policy chose the token (its end-of-text included)
    logprobs: np.ndarray  # float32[T], the sampler's log-probability where sampled, 0 elsewhere
    versions: np.ndarray  # int32[T], the weight version that chose the token, -1 where not sampled
    finish: Finish
    text: str  # the response for people and verifiers: all that the policy said, special tokens left out
    episode: int = 0  # which of the group's episodes it comes from, counted from 0
    seat: str = POLICY  # who says its turns, where an environment has the policy speak for several
    siblings: str = POLICY  # name of the set of responses in the group that it is compared with
    continues: bool = False  # whether it goes on with the response of the trajectory before it, on a stream of its own
    turns: tuple[SampledTurn, ...] = ()  # the stretches that an engine sampled; none of a single question
    left: tuple[LeftRow, ...] = ()  # what its episode has left for later training, on one of its trajectories

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
    """A prompt with its responses and their verdicts: what is queued, filtered and counted.

    A response is what one seat says in one episode: one trajectory, or several that lie one behind the other, of which
    all but the first continue it. Responses of one set of siblings lie together.
    """

    id: int  # unique within the run, counts up with dispatch
    prompt: Prompt
    trajectories: tuple[Trajectory, ...]  # of G responses; as many as these, or more where some are continued
    verdicts: tuple[Verdict, ...]  # of each trajectory's response
    span_rewards: tuple[np.ndarray, ...] = ()  # of each trajectory, float32[T], NaN on tokens without; or none at all
    greedy: float | None = None  # score of a greedy response to the prompt, where the algorithm asks for one

    def __post_init__(self) -> None:
        if len(self.trajectories) != len(self.verdicts):
            raise ValueError(f"group {self.id}: {len(self.trajectories)} responses, {len(self.verdicts)} verdicts")

    @property
    def responses(self) -> list[range]:
        """The places of each response's trajectories."""
        starts = [place for place, trajectory in enumerate(self.trajectories) if not trajectory.continues]
        return list(map(range, starts, [*starts[1:], len(self.trajectories)]))


@dataclass(frozen=True, kw_only=True)
class Times:
    """When the responses of a group were there, and their verdicts."""

    generate: float = 0.0  # seconds from dispatch to the end of the longest response
    verify: float = 0.0  # longest wait of a response for its verdict, seconds
    generated_at: float = 0.0  # wall clock at the end of the last response
    verified_at: float = 0.0  # wall clock at the last verdict
    queue: int = 0  # responses that waited for a free verifier when one of the group's ended, at most

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
class Episodes:
    """What went on in the episodes of a group, where the policy meets an environment of a person's own."""

    count: int
    seconds: float  # of all of them together
    turns: int  # that they asked for
    tool_calls: int  # texts of tools that they gave to the policy
    tool_failures: int  # calls of tools that gave no result
    user_tokens: int  # of what users and other seats said behind the beginning of a conversation
    tool_tokens: int  # of what tools said


@dataclass(frozen=True, slots=True, kw_only=True)
class SiblingSet:
    """One set of siblings of a group."""

    size: int  # responses in it
    scored: tuple[int, ...]  # which of the group's J scores are theirs

    @property
    def has_verdicts(self) -> bool:
        """Whether enough of them have a verdict for the drop rule to be asked."""
        return len(self.scored) >= min(2, self.size)


class Sample(NamedTuple):
    """A response for a person to look at, in one line."""

    prompt: str  # its end
    response: str  # its beginning
    outcome: Outcome

    @classmethod
    def of(cls, group: Group, place: int) -> "Sample":
        """The response at a place of the group's trajectories."""
        asked, said = group.prompt.question or group.prompt.text, group.trajectories[place].text
        prompt, response = " ".join(asked[-2 * SAMPLE :].split()), " ".join(said[: 2 * SAMPLE].split())
        prompt = prompt if len(prompt) <= SAMPLE else f"…{prompt[-SAMPLE:]}"
        response = response if len(response) <= SAMPLE else f"{response[:SAMPLE]}…"
        return cls(prompt, response, group.verdicts[place].outcome)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the filter, the ledger and the driver know of a group; the arrays stay in the object store."""

    id: int
    prompt_id: str
    scores: tuple[float, ...]  # of the scored responses, J <= G
    outcomes: tuple[Outcome, ...]  # of all G responses: rollout.group_size, or what rounds have brought
    lengths: tuple[int, ...]  # sampled tokens of these responses
    scored_lengths: tuple[int, ...]  # sampled tokens of the J scored responses: what the learner would train on
    seats: tuple[str, ...]  # of the J scored responses: who said them
    tokens: int  # prompt and sampled tokens of the scored responses: what a forward pass would cost
    truncated: int  # responses cut at the length limit
    checked: int  # responses that a second, cheap checker looked at too
    disagreed: int  # of these, how many it graded otherwise
    failure: str  # why the first response without a verdict has none; "" where all have one
    why_wrong: str  # why the first scored response that is not correct is not, cut to WHY characters; "" without any
    oldest_version: int  # lowest weight version among the sampled tokens of the scored responses, -1 without any
    extra_tokens: int  # sampled beside the responses: a greedy one, where the algorithm asks for it
    times: Times
    greedy_score: float | None = None  # of a greedy response to the prompt, where the algorithm asks for one
    unread: int = 0  # responses about which a judge gave no verdict that can be read
    siblings: tuple[int, ...] = ()  # number of the set of siblings of each of the G responses; none: all are siblings
    episodes: Episodes | None = None  # None where the policy is asked single questions
    sample: Sample | None = None  # its first response

    @property
    def sets(self) -> list[SiblingSet]:
        """The sets of siblings, in the order of their first responses."""
        if not self.siblings:
            return [SiblingSet(size=len(self.outcomes), scored=tuple(range(len(self.scores))))]
        scored = [number for number, end in zip(self.siblings, self.outcomes, strict=True) if end.scored]
        return [
            SiblingSet(
                size=self.siblings.count(number),
                scored=tuple(place for place, own in enumerate(scored) if own == number),
            )
            for number in sorted(set(self.siblings))
        ]

    @classmethod
    def of(cls, group: Group, times: Times, extra_tokens: int = 0, episodes: Episodes | None = None) -> "Summary":
        """The summary of a group, with the times, tokens and episodes that its arrays do not hold."""
        responses = group.responses
        last = [places.stop - 1 for places in responses]
        verdicts = [group.verdicts[place] for place in last]
        second = [(v.parts["quick"] > 0.5, v.outcome is Outcome.CORRECT) for v in verdicts if "quick" in v.parts]
        trained = [t for t, v in zip(group.trajectories, group.verdicts, strict=True) if v.score is not None]
        versions = np.concatenate([t.versions[t.sampled] for t in trained]) if trained else np.empty(0, np.int32)
        sizes = [trajectory.new_tokens for trajectory in group.trajectories]
        lengths = [sum(sizes[places.start : places.stop]) for places in responses]
        return cls(
            id=group.id,
            prompt_id=group.prompt.id,
            scores=tuple(v.score for v in verdicts if v.score is not None),
            outcomes=tuple(v.outcome for v in verdicts),
            lengths=tuple(lengths),
            scored_lengths=tuple(n for n, v in zip(lengths, verdicts, strict=True) if v.score is not None),
            seats=tuple(group.trajectories[p].seat for p, v in zip(last, verdicts, strict=True) if v.score is not None),
            tokens=sum(t.tokens.size for t in trained),
            truncated=sum(group.trajectories[place].finish is Finish.LENGTH for place in last),
            oldest_version=int(versions.min()) if versions.size else -1,
            checked=len(second),
            disagreed=sum(quick is not correct for quick, correct in second),
            failure=next((v.why for v in verdicts if v.score is None), ""),
            why_wrong=next(
                (v.why[:WHY] for v in verdicts if v.score is not None and v.outcome is not Outcome.CORRECT), ""
            ),
            extra_tokens=extra_tokens,
            times=times,
            greedy_score=group.greedy,
            unread=sum(verdict.unread for verdict in verdicts),
            siblings=_sets([group.trajectories[place].siblings for place in last]),
            episodes=episodes,
            sample=Sample.of(group, last[0]) if last else None,
        )


def _sets(names: Sequence[str]) -> tuple[int, ...]:
    """The number of each response's set of siblings; none where there is one set."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return tuple(numbers[name] for name in names) if len(numbers) > 1 else ()


class LayerSums(NamedTuple):
    """What `actors.transfer.digest` says of the weights of one decoder layer, or of those in none."""

    total: int  # sum of their bit patterns, modulo 2**64
    squares: int  # sum of the squares of their bit patterns, modulo 2**64


WeightSums: TypeAlias = dict[str, LayerSums]  # group of weights, such as "layer 3" -> its sums


class HeldWeights(NamedTuple):
    """Which weights a generator computes with."""

    version: str
    sums: WeightSums  # of every weight
    sha256: str = ""  # over every tensor as the engine holds it, where that was asked for; equal for equal weights


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What a generator or a judge needs to start its engine."""

    model: str  # folder with config and tokenizer; its weights are not read where they come with the first sync
    dtype: Literal["float32", "bfloat16"]
    seed: int
    max_model_len: int  # tokens, prompt and response
    tensor_parallel: int
    backend: str  # of weight transfer: "nccl", "ipc" or "gloo"; "" reads the weights of the folder instead
    on_cpu: bool
    engine: GeneratorSettings  # what is unset in them is settled by the engine
    rests: bool = False  # whether it shares its GPU with a learner rank, and gives memory back while that one trains


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSpec:
    """What a generator needs to serve one run."""

    seed: int
    rollout: RolloutSettings
    reward: RewardSettings
    greedy: bool  # whether each group gets a greedy response beside the sampled ones
    drop: DropRule = drop_none  # the filter's; asked after each round whether it would reject the group
    data: DataSettings = field(default_factory=DataSettings)  # the templates in which environments speak

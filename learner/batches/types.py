"""What an optimizer update is made of: the plan that the driver makes of it, and the arrays that a rank trains on."""

from dataclasses import dataclass

import numpy as np

from actors.types import POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The denominators of one optimizer update, over all ranks."""

    tokens: int  # trained tokens
    responses: int  # trained responses
    max_new_tokens: int  # the constant of aggregate "constant": rollout.max_new_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditedGroup:
    """A group as an update trains on it: what each of its J scored responses is worth, in the order of the group.

    Those of a set of siblings that the drop rule refuses are left out, and those that are spare where a set has more
    than are trained on: they are in no loss.
    """

    index: int  # of the group in the step's batch
    scores: tuple[float, ...]  # J, shaped: the penalty of length added, a greedy or a seat's baseline taken off
    credits: tuple[float, ...] | None  # J; None where advantages take more than scores: the rank makes them
    control: tuple[int, ...] | None = None  # J control tokens, where the policy is given the quantile of its score
    left_out: frozenset[int] = frozenset()  # which of the J are not trained on


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One rank's part of an optimizer update."""

    number: int  # of the pass over the step's batch, from 0
    totals: Totals
    groups: tuple[CreditedGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlan:
    """What one rank trains on in a step."""

    groups: tuple[int, ...]  # indices into the step's batch of the groups that the shares name, each once, ascending
    shares: tuple[Share, ...]  # one for each optimizer update, pass after pass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """What all ranks train on in a step."""

    ranks: tuple[RankPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One trajectory of a response, ready to train on; T tokens."""

    tokens: np.ndarray  # int32[T]
    trained: np.ndarray  # bool[T]
    sampler: np.ndarray | None  # float32[T], the sampler's log-probabilities; None for text that nobody sampled
    advantage: float  # 0 until the rank makes it, where it takes more than scores
    weight: float  # of each of its trained tokens in the loss
    score: float = 0.0  # shaped, as of `CreditedGroup`
    correct: bool = False
    group: int = 0  # id
    siblings: str = POLICY  # name of the set of responses in the group that it is compared with
    continues: bool = False  # whether it is more of the response of the sample before it
    hidden: int = 0  # leading tokens that only the policy sees: 1 with a control token
    span_rewards: np.ndarray | None = None  # float32[T], NaN on tokens without a span reward
    told: np.ndarray | None = None  # bool[T], tokens whose likelihood is raised though nobody sampled them
    told_weight: float = 0.0  # of each of them in the loss

    @property
    def inputs(self) -> int:
        """Tokens that a forward pass takes: those before the last trained one, and one at least."""
        return max(1, self.trained.size - 1 - int(self.trained[::-1].argmax()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Told:
    """H tokens of a micro-batch that were said to the policy, which predicts them beside its own."""

    states: np.ndarray  # int64[H], as of `TrainBatch`
    targets: np.ndarray  # int64[H], the tokens
    weights: np.ndarray  # float32[H], of -log p in the loss of the whole update


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainBatch:
    """One micro-batch: R rows of L tokens, each row several sequences end to end or trees of them, M trained tokens, N
    sequences. A sequence is there up to the token before its last trained one: what comes later predicts nothing."""

    tokens: np.ndarray  # int64[R, L]
    positions: np.ndarray  # int64[R, L], from 0 in each sequence
    ends: np.ndarray  # int64[R, L]: the token in column k is seen by those in the columns from k to ends[k] - 1
    states: np.ndarray  # int64[M], flat index (row * L + column) of the token before each trained one
    targets: np.ndarray  # int64[M], the trained tokens
    owners: np.ndarray  # int64[M], which of the N sequences the token belongs to
    members: tuple[int, ...]  # N, the index of each sequence in what was packed
    sampler: np.ndarray | None  # float32[M], the sampler's log-probabilities; None for text that nobody sampled
    advantages: np.ndarray  # float32[M]
    weights: np.ndarray  # float32[M], share of the token in the loss of the whole update
    padding: int  # of the R * L tokens, how many are padding
    shared: int = 0  # tokens that are not there a second time, as sequences have them in common
    told: "Told | None" = None  # tokens that are predicted beside the trained ones; None where there are none

    @property
    def turns(self) -> np.ndarray:
        """Which turn each trained token belongs to, int64[M], counted over all sequences: a turn is a stretch of a
        sequence's tokens that are all trained on."""
        places = self.positions.reshape(-1)[self.states]
        begins = (np.diff(self.owners) != 0) | (np.diff(places) != 1)
        return np.concatenate([[0], np.cumsum(begins)])

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """Values of trained tokens [M] as one array for each of the N sequences."""
        return np.split(values, np.cumsum(np.bincount(self.owners, minlength=len(self.members)))[:-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UpdateBatch:
    """One rank's packed part of one optimizer update."""

    totals: Totals
    samples: tuple[Sample, ...]
    batches: tuple[TrainBatch, ...]  # the samples, packed; `members` are indices into `samples`
    worked: tuple[TrainBatch, ...] = ()  # worked answers, where their likelihood is mixed in

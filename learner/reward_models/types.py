"""What travels between the driver and the ranks that train a reward model. Light: no torch."""

from dataclasses import dataclass
from enum import StrEnum


class RewardModelKind(StrEnum):
    """What a reward model scores."""

    OUTCOME = "outcome"  # whole responses; the reward `model` reads it
    PROCESS = "process"  # steps; the reward `process` reads it


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some rows of a data file."""

    path: str
    start: int | None = None
    end: int | None = None

    @property
    def slice(self) -> slice:
        """Which of its rows."""
        return slice(self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModelTask:
    """What a reward model is trained on."""

    kind: RewardModelKind
    train: Rows
    heldout: Rows | None  # None: nothing is held out
    prompt_column: str
    batch: int  # rows of an update
    system_column: str = ""  # of the rows' own system messages
    system: str = ""  # message of the system where neither prompt nor row has one


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How well a model agrees with some rows, over all ranks."""

    loss: float  # mean over pairs of a row and over rows, or over steps
    accuracy: float  # share of pairs, of a row and then over rows, in which the chosen response scores higher; of steps
    margin: float  # mean score of chosen responses or right steps less that of rejected or wrong ones; NaN without both
    score: float  # mean of all scores, before the sigmoid
    count: int  # rows, or steps


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardUpdateStats:
    """What one optimizer update saw, over all ranks."""

    agreement: Agreement  # before the update
    sequences: int
    computed: int  # tokens of all forward passes, padding among them
    padding: int
    grad_norm: float  # before clipping
    lr: float

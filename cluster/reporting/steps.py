"""What is known of a training step when it is over."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from actors.filtering.filter import AcceptedBatch
from learner.types import UpdateStats

Batch = TypeVar("Batch")
Stats = TypeVar("Stats")  # of training on a batch
Sync = TypeVar("Sync")  # of bringing weights to the generators


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What a sync cost and showed."""

    size: int  # bytes of weights
    seconds: float  # of sending
    probe_gap: float  # largest difference of log-probabilities on the probe text, nats
    probe_gap_mean: float  # mean difference over its tokens, of the generator where it is the largest, nats
    probe_doubts: int  # syncs so far whose probe was out of bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone(Generic[Batch, Stats, Sync]):
    """A step as the main loop saw it."""

    step: int  # counted from 1; also the version of the weights it made
    batch: Batch
    trained: Stats
    synced: Sync
    taken_at: float  # wall clock when the batch was there, seconds since 1970
    seconds_wait: float  # for the batch
    seconds_train: float
    seconds_sync: float


TrainedStep = StepDone[AcceptedBatch, list[UpdateStats], SyncReport]  # in a real run

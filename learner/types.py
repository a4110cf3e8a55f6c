"""What travels between the driver and the learner's ranks. Light, so that the driver loads neither torch nor vLLM."""

import socket
from dataclasses import dataclass, field
from typing import Any

from actors.settings import DataSettings
from actors.types import WeightSums
from learner.methods.algorithms import Algorithm
from learner.settings import LearnerSettings, ModelSettings, WarmupSettings

MARKER = "complete"  # the file in a checkpoint that is written last
STATE = "state"  # the folder in a checkpoint with what a run needs to go on


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSpec:
    """What all ranks of a learner share in one run."""

    model: ModelSettings
    learner: LearnerSettings
    algorithm: Algorithm
    data: DataSettings
    warmup: WarmupSettings  # the worked answers, for the warm-up and where the algorithm imitates them too
    temperature: float
    top_p: float  # of the sampler; below 1 only for an algorithm that restricts its ratio too
    seed: int
    score_weight: float = 1.0  # weight of the score on the last token, beside span rewards
    has_span_rewards: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which of a learner's ranks this is."""

    rank: int  # from 0
    ranks: int  # how many there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The learning rate by optimizer updates, and by nothing else."""

    lr: float
    updates: int  # in the whole run
    warmup: int  # updates over which the rate rises from zero
    end: float  # share of lr at the last update

    def factor(self, update: int) -> float:
        """Share of `lr` for the update number `update`, counted from 0; the last one has `end`."""
        if update < self.warmup:
            return (update + 1) / self.warmup
        way = (update - self.warmup) / max(1, self.updates - 1 - self.warmup)
        return 1.0 - (1.0 - self.end) * min(1.0, way)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStats:
    """What one optimizer update saw, summed over all ranks; means are over trained tokens."""

    loss: float
    tokens: int  # trained tokens
    computed: int  # tokens of all forward passes, padding among them
    padding: int
    shared: int  # tokens that were not computed again, as sequences have them in common
    rows: int  # of all micro-batches
    sequences: int  # in them
    entropy: float  # mean entropy of the policy's next-token distribution, nats
    clip_fraction: float  # share of tokens whose ratio lies outside the clip range
    ratio_p99: float  # 99th percentile of |ratio - 1| + 1 against the policy at the start of the step, worst rank
    mismatch_kl: float  # estimate of KL(sampler || learner), nats per token
    capped: float  # share of tokens whose learner/sampler weight was capped
    # Estimate of KL(policy || starting policy) on some rows of each rank's first micro-batch, nats; None where that
    # policy is not kept.
    kl_start: float | None
    loss_told: float | None  # mean -log p of the tokens that were told, nats; None where none are trained on
    kl_teacher: float | None  # estimate of KL(policy || teacher), nats per token; None where no model teaches
    grad_norm: float
    lr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a learner says of itself when a training opens."""

    parameters: int  # of the policy
    notes: tuple[str, ...]  # what a person should know of how this model is trained, a sentence each


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What came of writing a folder."""

    files: dict[str, int]  # path below the folder -> bytes; of all ranks
    problem: str = ""  # why it is not whole, "" where it is


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerState:
    """What a training session remembers beyond weights, optimizers and random states; all ranks remember the same."""

    baseline_mean: float  # of the moving baseline: the mean of all scores so far
    baseline_count: int  # how many scores
    steps_since_reference: int  # steps since the policy became its reference, or since the start
    worked: int = 0  # updates' worth of worked answers that have been trained on


@dataclass(frozen=True, slots=True, kw_only=True)
class Receivers:
    """Who gets the next weights."""

    generators: tuple[Any, ...]  # actor handles
    workers_each: int  # vLLM workers in a generator: its tensor parallel size
    backend: str  # a key of learner.transfer.BACKENDS
    bucket_bytes: int
    timeout_seconds: float  # for a whole sync

    @property
    def step_seconds(self) -> float:
        """For one step of a sync: for a group to meet, or a bucket to arrive."""
        return self.timeout_seconds / 3

    @property
    def leaving_seconds(self) -> float:
        """For receivers to come out of a transfer that was cut; more than `step_seconds`."""
        return self.timeout_seconds / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LostReceiver:
    """A generator that did not live through a sync."""

    index: int  # its place in Receivers.generators
    why: str  # its last error, or that it did not answer


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStats:
    """What one sync cost, and what it sent."""

    size: int  # bytes of weights
    seconds: float
    sums: WeightSums = field(default_factory=dict)  # the digest of what was sent; empty where receivers were lost
    lost: tuple[LostReceiver, ...] = ()  # the others do not have the weights either then: the sync is to be repeated


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])

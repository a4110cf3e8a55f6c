"""What the stages of a run cost on GPUs that are not here: a table of what was measured of the control plane, what data
sheets say and what is assumed, and the arithmetic that makes seconds and bytes of it. No GPU was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cluster.preparing.ratio import BANDWIDTH, BANDWIDTH_SHARE, OPERATIONS, OPERATIONS_SHARE
from tests.bench.scale_layout import LONGEST, PROMPT_TOKENS, Planned
from tests.bench.scale_stages import Costs, Workload

MEASURED, SHEET, ASSUMED = "measured here", "data sheet", "assumed"
MEAN_LOG, SPREAD_LOG = 8.0, 0.8  # of the logarithm of a response's tokens: a mean of about 4,000, one in 70 cut
REJECTED = 0.3  # share of the groups that the filter refuses
CHECKPOINT_EVERY = 50  # steps
DRIVER_CALLS, SENDER_CALLS = 3, 1  # to each engine in a sync: pause, finish, resume; receive
GRAIN = 0.1  # seconds within which ends of responses are looked at together; a step takes a minute and more


class Cost(NamedTuple):
    """A row of the table."""

    value: float
    unit: str
    source: str
    about: str


COSTS = {
    "group": Cost(1.2e-3, "s", MEASURED, "the driver's process for a group (`python -m tests.bench.control`)"),
    "engine_choice": Cost(7.5e-8, "s", MEASURED, "the driver for a group and each engine that it chooses among"),
    "plan": Cost(3.2e-5, "s", MEASURED, "the driver for a group: chooser and plan of the step"),
    "call": Cost(4.5e-4, "s", MEASURED, "the driver for a call to an actor, with its reply (Ray)"),
    "ask": Cost(4.1e-4, "s", MEASURED, "learner rank 0 for a call to an engine in a sync, with its reply (Ray)"),
    "filter": Cost(7.5e-4, "s", MEASURED, "the filter's process for a group (`python -m tests.bench.control`)"),
    "record": Cost(1.4e-7, "s", MEASURED, "a writing thread of the filter for a token: Arrow to Parquet with zstd"),
    "writers": Cost(16, "", ASSUMED, "of these threads on a node of 192 CPUs, each as fast as one alone"),
    "verdict": Cost(3.2e-3, "s", MEASURED, "a verifier for a response, `math`"),
    "pack": Cost(1.5e-5, "s", MEASURED, "a learner rank to pack a response (`python -m tests.bench.learning`)"),
    "token": Cost(15.9, "bytes", MEASURED, "a token of a packed group: id, log-probability, version, mask, text"),
    "disk_token": Cost(7.9, "bytes", MEASURED, "a token in Parquet; random ids and log-probabilities"),
    "flops": Cost(OPERATIONS, "FLOP/s", SHEET, "an H100 in bfloat16, as `--plan` has it"),
    "hbm": Cost(BANDWIDTH, "bytes/s", SHEET, "an H100's memory, as `--plan` has it"),
    "nvlink": Cost(4.5e11, "bytes/s", SHEET, "NVLink of an H100, each way"),
    "nic": Cost(5e10, "bytes/s", SHEET, "InfiniBand of 400 Gb/s for each GPU, each way"),
    "pcie": Cost(6.4e10, "bytes/s", SHEET, "PCIe 5 with 16 lanes, each way"),
    "flops_share": Cost(OPERATIONS_SHARE, "", ASSUMED, "of the operations that learner and prefill reach"),
    "hbm_share": Cost(BANDWIDTH_SHARE, "", ASSUMED, "of the memory's bandwidth that decoding reaches"),
    "link_share": Cost(0.7, "", ASSUMED, "of NVLink, InfiniBand and PCIe that collectives and copies reach"),
    "pass": Cost(2e-3, "s", ASSUMED, "an engine's pass beside reading and computing"),
    "reduce": Cost(2e-5, "s", ASSUMED, "an all-reduce of an engine over several GPUs; two in a layer and pass"),
    "hop": Cost(2e-5, "s", ASSUMED, "a bucket to go from node to node in a broadcast, a quarter of it between GPUs"),
    "object": Cost(1e9, "bytes/s", ASSUMED, "Ray's objects into a node"),
    "disk": Cost(2e9, "bytes/s", ASSUMED, "a node's writes of checkpoints"),
}


def cost(name: str) -> float:
    """The value of a row."""
    return COSTS[name].value


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Bytes that go over each kind of link."""

    sync: float  # bytes of a sync, into each engine and out of rank 0
    sync_seconds: float
    calls: int  # to actors in a step and its sync, of the driver and of learner rank 0
    exchanged: float  # bytes of a step that a rank sends to others: gradients and weights
    checkpoint: float  # bytes of one


class Arithmetic:
    """Seconds and bytes of a planned run."""

    def __init__(self, run: Planned) -> None:
        sizes, cluster = run.memory.sizes, run.config.cluster
        assert sizes is not None
        assert run.memory.engine is not None
        self._run, self._sizes, self._engine = run, sizes, run.memory.engine
        self.generators, self.width, self.ranks = (
            cluster.fewest_generators,
            cluster.tensor_parallel,
            cluster.learner_ranks,
        )
        self.weights = 2 * sizes.parameters  # bytes
        self._lengths = np.array([response_tokens(np.random.default_rng(seed)) for seed in range(2000)])
        self._flops = cost("flops") * cost("flops_share")
        shared = cost("nvlink") if self.ranks + self.generators * self.width <= 8 else cost("nic")
        self._link = shared * cost("link_share")

    @property
    def seats(self) -> int:
        """Responses of mean length that an engine has room for."""
        room = self._engine.room * self._run.memory.tokens / (PROMPT_TOKENS + np.exp(MEAN_LOG + SPREAD_LOG**2 / 2))
        return max(1, min(self._engine.sequences, int(room)))

    def decoding(self, count: int, cached: float) -> float:
        """Seconds of an engine's pass over so many responses with these tokens in its cache: weights, keys and values
        are read once, or all is computed, whichever takes longer."""
        read = (self.weights + 2 * self._sizes.key_value_elements * cached) / (cost("hbm") * cost("hbm_share"))
        computed = 2 * self._sizes.parameters * count / self._flops
        reduced = 2 * self._sizes.layers * cost("reduce") if self.width > 1 else 0.0
        return max(read, computed) / self.width + cost("pass") + reduced

    def training(self, tokens: Sequence[int]) -> float:
        """Seconds of a step from the tokens of each rank; the longest rank counts. Exchanges overlap with computing."""
        config, sizes = self._run.config, self._sizes
        budget = config.learner.micro_batch_tokens
        micro_batches = max(1, int(np.ceil(max(tokens) / budget)))
        operations = 6 + 2 * bool(config.model.checkpointing)
        attention = 2 * sizes.layers * sizes.heads * sizes.head_dim * (PROMPT_TOKENS + self.response) / 2
        computed = max(tokens) * (operations * (sizes.parameters + attention)) / self._flops
        exchanged = self.exchanged(micro_batches) / self._link
        moved = 0.0
        if config.learner.offload == "weights":
            moved = micro_batches * 3 * self.weights / self.ranks / (cost("pcie") * cost("link_share"))
        optimizer = 28 * sizes.parameters / self.ranks / (cost("hbm") * cost("hbm_share"))
        return max(computed, exchanged, moved) + optimizer

    def exchanged(self, micro_batches: int) -> float:
        """Bytes of a step that a rank sends: ZeRO 2 scatters gradients of each micro-batch and gathers the new weights
        once; ZeRO 3 gathers the weights for each forward and backward pass too."""
        if self.ranks == 1:
            return 0.0
        each = 3 if self._run.config.learner.zero_stage == 3 else 1
        return (each * micro_batches + (each == 1)) * self.weights

    @property
    def response(self) -> float:
        """Mean tokens of a response."""
        return float(self._lengths.mean())

    @property
    def at_a_time(self) -> float:
        """Mean tokens of the responses that are decoded at a time: the longer one is, the more often it is there."""
        return float((self._lengths**2).mean() / self._lengths.mean())

    @property
    def batch_tokens(self) -> float:
        """Mean tokens of a step, prompts among them."""
        rollout = self._run.config.rollout
        return rollout.groups_per_step * rollout.group_size * (PROMPT_TOKENS + self.response)

    def links(self) -> Links:
        """What goes over the links."""
        config, calls = self._run.config, (DRIVER_CALLS + SENDER_CALLS) * self.generators + 4 * self.ranks + 2
        buckets = self.weights / (config.sync.bucket_mib * 2**20)
        nodes = -(-self.generators * self.width // 8)
        filling = buckets * cost("hop") * (nodes + self.generators * self.width / 4)
        gathers = 2 if config.learner.zero_stage == 3 else 1
        asked = SENDER_CALLS * self.generators * cost("ask")
        micro_batches = int(np.ceil(self.batch_tokens / self.ranks / config.learner.micro_batch_tokens))
        return Links(
            sync=self.weights,
            sync_seconds=gathers * self.weights / self._link + filling + asked,
            calls=calls,
            exchanged=self.exchanged(micro_batches),
            checkpoint=14.0 * self._sizes.parameters,
        )

    def checkpoint_seconds(self) -> float:
        """For which training waits at a checkpoint: rank 0 writes the weights, all but the last two shards of 4 GiB
        before it goes on; the others copy their shares meanwhile."""
        return max(0.0, self.weights - 2 * 4 * 2**30) / cost("disk")

    def costs(self) -> Costs:
        """For the simulation."""
        config, links = self._run.config, self.links()
        rollout = config.rollout
        responses = rollout.groups_per_step * rollout.group_size / self.ranks
        fetched = self.batch_tokens * cost("token") / -(-self.ranks // 8)
        each = cost("group") + self.generators * cost("engine_choice") + cost("plan")
        return Costs(
            engines=self.generators,
            seats=self.seats,
            decoding=self.decoding,
            prefill=2 * self._sizes.parameters * PROMPT_TOKENS / self._flops / self.width,
            verifiers=self._run.layout.verifiers,
            verdict=cost("verdict"),
            dispatch=each / 2,
            reply=each / 2,
            filtering=cost("filter"),
            recording=cost("record") / cost("writers"),
            prepare=fetched / cost("object") + responses * cost("pack"),
            training=self.training,
            ranks=self.ranks,
            step_calls=2 * self.ranks * cost("call"),
            sync_calls=(DRIVER_CALLS * self.generators + 2 * self.ranks) * cost("call"),
            transfer=links.sync_seconds,
            between=self.checkpoint_seconds() / CHECKPOINT_EVERY,
            grain=GRAIN,
        )


def workload(run: Planned) -> Workload:
    """What a planned run samples."""
    rollout = run.config.rollout
    return Workload(
        groups_per_step=rollout.groups_per_step,
        group_size=rollout.group_size,
        max_staleness=rollout.max_staleness,
        prompt=PROMPT_TOKENS,
        response=response_tokens,
        rejected=REJECTED,
    )


def response_tokens(draw: np.random.Generator) -> int:
    """Of one response: lognormal, cut at the longest."""
    return int(min(LONGEST, max(16.0, draw.lognormal(MEAN_LOG, SPREAD_LOG))))

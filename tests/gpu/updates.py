"""Updates of the real ZeRO engine against plain arithmetic: the gradient of many micro-batches, and the step it makes.

Every rank runs in a process of its own, on a GPU of its own or on the CPU; the same code on both.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from actors.transfer.stores import LOOPBACK, listen, open_store, port_of
from learner.batches.packing import pack
from learner.batches.types import Sample, TrainBatch
from learner.checks.agreement import write_model
from learner.checks.links import in_processes
from learner.methods.algorithms import algorithm_of
from learner.models.policy import Policy, load_policy
from learner.settings import LearnerSettings, ModelSettings
from learner.types import Place, Schedule
from tests.builders import learner_spec

SEQUENCES, TOKENS = 64, 48  # each sequence is a micro-batch of its own
LR, DECAY, BETAS, EPSILON = 1e-3, 0.01, (0.9, 0.98), 1e-8
LIMIT = 600.0  # seconds for the ranks of one variant
FLOAT32_ERROR = 1e-4  # of a gradient in float32 against another sum of the same numbers
ROOM = 1.5  # times the error of bfloat16 itself, which is measured
STEP_ERROR = 0.02  # of an update's size: float32 weights of some tenths resolve 1e-3 to 1e-5 of it and more

Weights = dict[str, np.ndarray]  # numpy, which goes through a pipe as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to compute the same update."""

    dtype: str
    stage: int
    checkpointing: bool = False
    accumulation: str = ""  # dtype that DeepSpeed adds gradients up in, "bf16" or "fp32"; "" as the engine says

    @property
    def name(self) -> str:
        more = ("_checkpointed" if self.checkpointing else "") + (f"_{self.accumulation}" if self.accumulation else "")
        return f"{self.dtype}_zero{self.stage}{more}"


FLOAT32 = [Variant(dtype="float32", stage=stage) for stage in range(4)]
BFLOAT16 = [Variant(dtype="bfloat16", stage=stage) for stage in range(4)]
MORE = [Variant(dtype="bfloat16", stage=stage, checkpointing=True) for stage in (2, 3)]
WORSE = Variant(dtype="bfloat16", stage=2, accumulation="bf16")
VARIANTS = (*FLOAT32, *BFLOAT16, *MORE, WORSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """What rank 0 saw of one update."""

    gradient: Weights  # whole, before clipping
    before: Weights  # whole float32 weights
    after: Weights
    norm: float  # of the gradient, as the engine reports it


def measure(device: str, ranks: int = 1, variants: Sequence[Variant] = VARIANTS) -> dict[str, float]:
    """Errors of each variant's gradient against float32 on the CPU, and of the step against AdamW by hand.

    Raises:
        AssertionError: a gradient or a step is further off than its arithmetic explains.
    """
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_model(folder)
        wanted = by_hand(folder, "float32")
        noise = error(by_hand(folder, "bfloat16"), wanted)  # of bfloat16, with sums that lose nothing
        figures = {"error_of_bfloat16": noise}
        for variant in variants:
            door = listen(LOOPBACK)
            port = port_of(door)
            store = open_store(LOOPBACK, port, ranks + 1, LIMIT, door)
            asked = [(rank, ranks, port, device, folder, variant) for rank in range(ranks)]
            found: Updated = in_processes(_rank, asked, LIMIT)[0]
            del store
            off, step = error(found.gradient, wanted), step_error(found)
            figures |= {f"gradient_{variant.name}": off, f"step_{variant.name}": step}
            norm = length(found.gradient)
            assert abs(found.norm - norm) < 1e-2 * norm, f"{variant.name} reports a norm of {found.norm}, not {norm}"
            assert step < STEP_ERROR, f"{variant.name}: the step is off by {step} of its size"
            if variant is WORSE:
                continue  # it shows what is lost without sums in float32; how much depends on the device
            bound = FLOAT32_ERROR if variant.dtype == "float32" else ROOM * noise
            assert off < bound, f"{variant.name}: the gradient is off by {off:.2e}, and {bound:.2e} is explained"
        return figures


def measure_over_ranks(device: str, ranks: int = 2) -> dict[str, float]:
    """The same with the micro-batches divided over ranks, each on a GPU of its own."""
    return measure(device, ranks, [*FLOAT32[1:], *BFLOAT16[1:]])


def by_hand(folder: Path, dtype: str) -> Weights:
    """The gradient of all sequences by torch alone on the CPU, each sequence's added up in float64."""
    policy = load_policy(folder, ModelSettings.model_validate({"dtype": dtype}).on_device(False), TOKENS)
    sums = {name: np.zeros(p.shape) for name, p in policy.lm.named_parameters()}
    for batch in micro_batches():
        policy.zero_grad()
        logp = policy(
            *(torch.from_numpy(each) for each in (batch.tokens, batch.positions, batch.states, batch.targets)), 1.0
        )[0]
        loss(batch, logp).backward()
        for name, parameter in policy.lm.named_parameters():
            assert parameter.grad is not None
            sums[name] += parameter.grad.double().numpy()
    return sums


def error(found: Weights, wanted: Weights) -> float:
    """The length of the difference over that of what is wanted, over all weights together."""
    return length({name: found[name] - wanted[name] for name in wanted}) / length(wanted)


def length(weights: Weights) -> float:
    """The norm of all weights together."""
    return math.sqrt(sum(float(np.square(value, dtype=np.float64).sum()) for value in weights.values()))


def step_error(found: Updated) -> float:
    """The length of the difference between the step and AdamW's first one by hand from the same gradient, over that of
    the step."""
    clipped = min(1.0, 1.0 / (length(found.gradient) + 1e-6))
    wanted, taken = {}, {}
    for name, before in found.before.items():
        slope = found.gradient[name].astype(np.float64) * clipped
        # The bias corrections cancel in the first step.
        wanted[name] = -LR * (slope / (np.abs(slope) + EPSILON) + DECAY * before)
        taken[name] = found.after[name].astype(np.float64) - before
    return error(taken, wanted)


def micro_batches() -> list[TrainBatch]:
    """A micro-batch for each sequence."""
    draw = np.random.default_rng(0)
    samples = [
        Sample(
            tokens=draw.integers(0, 14, TOKENS).astype(np.int32),
            trained=np.arange(TOKENS) >= 8,
            sampler=None,
            advantage=1.0,
            weight=float(draw.normal()) / (SEQUENCES * TOKENS),
        )
        for _ in range(SEQUENCES)
    ]
    return [batch for sample in samples for batch in pack([sample], TOKENS)]


def loss(batch: TrainBatch, logp: torch.Tensor) -> torch.Tensor:
    """A weighted sum of log-probabilities; weights have both signs."""
    return -(logp * torch.from_numpy(batch.weights).to(logp.device)).sum()


def _rank(line: Connection, rank: int, ranks: int, port: int, device: str, folder: Path, variant: Variant) -> None:
    """The main function of a rank's process: rank 0 sends an `Updated`."""
    torch.set_num_threads(1)
    if device == "cuda":
        torch.cuda.set_device(rank)
    with _accumulating(variant.accumulation):
        line.send(_update(Place(rank=rank, ranks=ranks), port, folder, variant))


def _update(place: Place, port: int, folder: Path, variant: Variant) -> Updated | None:
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_grad

    from learner.engine import Engine, Measured, join_learners

    join_learners(place, LOOPBACK, port)
    told = {"dtype": variant.dtype, "checkpointing": variant.checkpointing}
    model = ModelSettings.model_validate(told).on_device(torch.cuda.is_available())
    learner = LearnerSettings(zero_stage=variant.stage, micro_batch_tokens=TOKENS, weight_decay=DECAY)  # type: ignore[arg-type]
    spec = learner_spec(model, learner.on_device(torch.cuda.is_available()), algorithm_of("raft"))
    schedule = Schedule(lr=LR, updates=10, warmup=0, end=1.0)
    engine = Engine(partial(load_policy, folder, model, TOKENS), spec, schedule)
    own = micro_batches()[place.rank :: place.ranks]
    before, gradient = whole(engine.module, safe_get_full_fp32_param), {}
    step = engine._engine._take_model_step  # when DeepSpeed has summed the gradients, and not yet clipped them

    def and_keep_the_gradient(*arguments: Any) -> None:
        gradient.update(whole(engine.module, safe_get_full_grad))
        step(*arguments)

    engine._engine._take_model_step = and_keep_the_gradient
    engine.update(own, lambda _, batch, out: Measured(loss=loss(batch, out[0]), sums={"zero": 0.0}))
    found = Updated(
        gradient=gradient, before=before, after=whole(engine.module, safe_get_full_fp32_param), norm=engine.grad_norm
    )
    return found if place.rank == 0 else None


def whole(policy: Policy, get: Callable[[torch.nn.Parameter], torch.Tensor | None]) -> Weights:
    """What DeepSpeed has of each parameter, whole and in float32 on the CPU; without ZeRO the parameter's own."""
    found = {}
    for name, parameter in policy.lm.named_parameters():
        value = get(parameter)
        if value is None:
            value = parameter.grad if get.__name__.endswith("grad") else parameter
        assert value is not None
        found[name] = value.detach().float().cpu().numpy().copy()
    return found


@contextmanager
def _accumulating(dtype: str) -> Iterator[None]:
    """Has DeepSpeed add gradients up in this dtype instead of the engine's."""
    from learner import engine

    plain = engine.deepspeed_config

    def changed(*arguments: Any) -> dict[str, Any]:
        return plain(*arguments) | {"data_types": {"grad_accum_dtype": dtype}}

    engine.deepspeed_config = changed if dtype else plain
    try:
        yield
    finally:
        engine.deepspeed_config = plain

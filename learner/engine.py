"""A learner rank's DeepSpeed ZeRO engine over one module: owns its weights, optimizer and count of updates. The one
home of DeepSpeed's training interface.

Losses arrive as weighted sums over the whole update (see `learner/batches`); every rank runs the same number of forward
and backward passes, the missing ones with a micro-batch that trains nothing.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from actors.transfer.stores import open_store
from learner.batches.packing import Packing, empty_batch
from learner.batches.types import TrainBatch
from learner.models.examination import examine
from learner.models.export import Export
from learner.models.inputs import inputs_of
from learner.models.policy import Critic, Head, Policy
from learner.reward_models.scorer import Scorer, settle_rows
from learner.settings import REDUCE_BUCKET, LearnerSettings, ModelSettings
from learner.types import LearnerSpec, Place, Schedule
from learner.writing import Writer
from learner.zero_state import restore_engine, save_engine

MEETING_SECONDS = 300.0  # for all ranks to come
COLLECTIVE_SECONDS = 1800.0  # for all to come into a collective; rank 0 may send weights for 3 x sync.timeout_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What an objective makes of one micro-batch."""

    loss: torch.Tensor  # the micro-batch's share of the whole update's loss
    sums: dict[str, torch.Tensor | float]  # to be summed over micro-batches and ranks; the same names every time


# (number of the micro-batch, the micro-batch, what the module gave for it) -> its share of the loss
Objective = Callable[[int, TrainBatch, tuple[Any, ...]], Measured]


class Engine:
    """A ZeRO engine over one module. All ranks call every method together, in the same order; after `close` none.

    Args:
        build: loads the module; where ZeRO shards weights it is called so that no rank holds the whole module.
        spec: of the run.
        schedule: the learning rate of each update.
    """

    def __init__(self, build: Callable[[], Policy | Critic], spec: LearnerSpec, schedule: Schedule) -> None:
        import deepspeed

        model, learner = spec.model, spec.learner
        self._grad_clip, self._temperature = learner.grad_clip, spec.temperature
        config = deepspeed_config(model, learner)
        with _sharded_loading(config) if learner.zero_stage == 3 else nullcontext():
            module = build()
        if learner.zero_stage == 3:
            gather_heads_once(module)
        optimizer = torch.optim.AdamW(
            module.trainable(), lr=schedule.lr, weight_decay=learner.weight_decay, betas=(0.9, 0.98), fused=True
        )
        self._unsharded = learner.stage_with(model.settled_dtype) == 0
        self._grad_norm = 0.0
        if self._unsharded:  # DeepSpeed clips here without telling the norm
            optimizer.register_step_pre_hook(self._clip)
        self._schedule, self._scheduler = schedule, torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.factor)
        self._engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimizer, lr_scheduler=self._scheduler, config=config, dist_init_required=False
        )
        self._zero3 = learner.zero_stage == 3
        self._micro_batch_tokens = learner.micro_batch_tokens
        if isinstance(self.module, Policy):
            examine(self.module, sharded=self._zero3)
        elif isinstance(self.module, Scorer):
            settle_rows(self.module)

    @property
    def packing(self) -> Packing:
        """How the module takes its sequences."""
        module = self.module
        return Packing(
            tokens=self._micro_batch_tokens, alone=not module.packs, one_row=module.one_row, width=module.width
        )

    @property
    def module(self) -> Any:
        """The module inside DeepSpeed's engine."""
        return self._engine.module

    @property
    def device(self) -> torch.device:
        """Where the module computes."""
        return self._engine.device

    @property
    def lr(self) -> float:
        """Of the next update."""
        return float(self._engine.get_lr()[0])

    @property
    def grad_norm(self) -> float:
        """Of the last update's whole gradient, before clipping."""
        return self._grad_norm if self._unsharded else float(self._engine.get_global_grad_norm())

    def update(
        self,
        batches: Sequence[TrainBatch],
        objective: Objective,
        restrict: Sequence[torch.Tensor | None] = (),
        told: bool = False,
    ) -> dict[str, float]:
        """One optimizer update from this rank's share of the batches; the objective's sums over all ranks.

        Args:
            batches: this rank's micro-batches; ranks may differ in number.
            objective: gives each micro-batch's share of the loss.
            restrict: the support of each micro-batch, where the policy is restricted to one.
            told: whether the module predicts tokens that were told too, behind the M trained ones.
        """
        sums: dict[str, torch.Tensor | float] = {}
        self._engine.train()
        for number, batch in enumerate(in_step(batches, self.device)):
            support = restrict[number] if number < len(restrict) else None
            measured = objective(number, batch, self._forward(batch, support, told))
            # DeepSpeed averages over ranks
            self._engine.backward(measured.loss * dist.get_world_size(), scale_wrt_gas=False)
            for name, value in measured.sums.items():
                sums[name] = sums.get(name, 0.0) + value
        self._engine.step()
        packed = torch.tensor([float(value) for value in sums.values()], dtype=torch.float64)
        return dict(zip(sums, all_reduced(packed, self.device).tolist(), strict=True))

    @torch.no_grad()
    def infer(
        self, batches: Sequence[TrainBatch], restrict: float | None = None
    ) -> list[tuple[torch.Tensor | None, ...]]:
        """What the module gives for each of this rank's micro-batches under the current weights.

        Args:
            batches: this rank's micro-batches; ranks may differ in number.
            restrict: probability of the nucleus to which a policy is restricted.
        """
        self._engine.eval()
        found = [self._forward(batch, restrict) for batch in in_step(batches, self.device)]
        return found[: len(batches)]

    @torch.no_grad()
    def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probability of each token of a fixed text but the first, at temperature 1."""
        self._engine.eval()
        ids = torch.tensor(list(tokens), device=self.device)
        states = torch.arange(len(tokens) - 1, device=self.device)
        return self._engine(ids[None, :-1], states[None], states, ids[1:], 1.0)[0].tolist()

    @torch.no_grad()
    def logprobs(self, batch: TrainBatch, rows: int | None = None) -> torch.Tensor:
        """Log-probabilities of the M trained tokens of one micro-batch, float32[M]; with `rows` only of the tokens in
        its first rows."""
        self._engine.eval()
        return self._engine(**inputs_of(self.module, batch, self.device, rows), temperature=self._temperature)[0]

    def exported(self) -> list[Export]:
        """What generators and checkpoints get of a policy, under checkpoint names; the parts sharded as ZeRO has
        them."""
        return list(self.module.exported())

    @contextmanager
    def gathered(self, parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
        """Within it these parameters are whole on every rank; a collective."""
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(parameters), enabled=self._zero3):
            yield

    def save(self, folder: Path, writer: Writer) -> None:
        """Has optimizer and trained weights written into a folder, each rank its share; returns when they are
        copied."""
        save_engine(self._engine, folder, writer)

    def restore(self, folder: Path, writer: Writer) -> None:
        """Goes on from what was saved, before the first update; the learning rate is that of its own schedule at the
        update that comes next."""
        restore_engine(self._engine, folder, writer)
        schedule, scheduler = self._schedule, self._scheduler
        scheduler.base_lrs = [schedule.lr] * len(scheduler.base_lrs)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = schedule.lr * schedule.factor(scheduler.last_epoch)

    def close(self) -> None:
        """Frees the engine's buffers and hooks; the engine cannot be used any more."""
        self._engine.destroy()

    def _clip(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, self._grad_clip))

    def _forward(
        self, batch: TrainBatch, restrict: torch.Tensor | float | None = None, told: bool = False
    ) -> tuple[Any, ...]:
        more = {} if restrict is None else {"restrict": restrict}
        return self._engine(
            **inputs_of(self.module, batch, self.device, told=told), temperature=self._temperature, **more
        )


class FrozenPolicy:
    """A policy that is only asked for log-probabilities; sharded like the engine's where that shards weights. All
    ranks call every method together, in the same order.

    Args:
        build: loads the policy.
        spec: of the run.
    """

    def __init__(self, build: Callable[[], Policy], spec: LearnerSpec) -> None:
        import deepspeed

        self._temperature, self._sharded = spec.temperature, spec.learner.zero_stage == 3
        config = {
            **deepspeed_config(spec.model, spec.learner),
            "zero_optimization": {"stage": spec.learner.zero_stage},
        }
        if self._sharded:
            with _sharded_loading(config):
                policy = build()
            gather_heads_once(policy)
            self._policy, *_ = deepspeed.initialize(model=policy, config=config, dist_init_required=False)
            self.device = self._policy.device
        else:
            self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            self._policy = build().to(self.device)
        self._policy.eval()
        examine(self.module, sharded=self._sharded)

    @property
    def module(self) -> Policy:
        """The policy itself."""
        policy: Policy = getattr(self._policy, "module", self._policy)
        return policy

    @property
    def packs(self) -> bool:
        """Whether it takes several sequences in a row."""
        return self.module.packs

    @property
    def shares(self) -> bool:
        """Whether it takes trees of sequences."""
        return self.module.shares

    def exported(self) -> list[Export]:
        """As of `Engine`."""
        return list(self.module.exported())

    @contextmanager
    def gathered(self, parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
        """As of `Engine`."""
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(parameters), enabled=self._sharded):
            yield

    @torch.no_grad()
    def logprobs(self, batch: TrainBatch, rows: int | None = None) -> torch.Tensor:
        """Log-probabilities of the M trained tokens of one micro-batch, float32[M]; with `rows` only of the tokens in
        its first rows."""
        return self._policy(**inputs_of(self.module, batch, self.device, rows), temperature=self._temperature)[0]

    @torch.no_grad()
    def copy_from(self, engine: Engine) -> None:
        """Takes over the weights of an engine's policy; a collective."""
        import deepspeed

        for own, new in zip(self.exported(), engine.exported(), strict=True):
            if not own.parts:  # a buffer, which nobody trains
                continue
            (kept,) = own.parts
            with deepspeed.zero.GatheredParameters([kept, *new.parts], modifier_rank=0, enabled=self._sharded):
                kept.copy_(new.tensor())


@contextmanager
def _sharded_loading(config: dict[str, Any]) -> Iterator[None]:
    """While it lasts transformers shards weights as it reads them, so no rank holds the whole model."""
    from transformers.integrations import HfDeepSpeedConfig  # type: ignore[attr-defined]
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    keep = HfDeepSpeedConfig(config)
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        del keep


def gather_heads_once(module: torch.nn.Module) -> None:
    """Has ZeRO 3 gather the output matrix once for each forward pass, however many chunks it is used in."""
    from deepspeed.utils import set_z3_leaf_modules

    if any(isinstance(part, Head) for part in module.modules()):
        set_z3_leaf_modules(module, [Head])


def in_step(batches: Sequence[TrainBatch], device: torch.device) -> Iterator[TrainBatch]:
    """This rank's micro-batches, filled up with empty ones to the largest number that any rank has, and to one at
    least; a collective."""
    count = all_reduced(torch.tensor([max(1, len(batches))]), device, dist.ReduceOp.MAX)
    yield from batches
    for _ in range(int(count.item()) - len(batches)):
        yield empty_batch()


def all_reduced(tensor: torch.Tensor, device: torch.device, op: Any = dist.ReduceOp.SUM) -> torch.Tensor:
    """The tensor summed (or whatever `op` says) over all ranks, on their device."""
    tensor = tensor.to(device)
    dist.all_reduce(tensor, op=op)
    return tensor


def deepspeed_config(model: ModelSettings, learner: LearnerSettings) -> dict[str, Any]:
    """What DeepSpeed is told; the caller owns accumulation, so an update may have any number of micro-batches.

    Gradients of bfloat16 weights are added up in float32: an update is a sum of many micro-batches, and eight binary
    digits would lose the small ones.
    """
    stage = learner.stage_with(model.settled_dtype)
    zero: dict[str, Any] = {
        "stage": stage,
        "overlap_comm": stage >= 2,  # with backward passes; below, nothing is exchanged before the step
        "reduce_bucket_size": REDUCE_BUCKET,
    }
    if learner.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if learner.offload == "weights":
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": learner.grad_clip if stage else 0.0,
        "bf16": {"enabled": model.dtype == "bfloat16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW runs on both sides, and needs no compiler
        "steps_per_print": 2**31,
    }


def join_learners(place: Place, address: str, port: int, door: socket.socket | None = None) -> None:
    """Makes the default process group of all learner ranks, NCCL on GPUs and gloo on the CPU.

    Args:
        place: of this rank.
        address: where they meet, with the port.
        port: see address.
        door: of rank 0: the socket of `actors.transfer.stores.listen` that listens there.
    """
    import deepspeed

    rank, ranks = place.rank, place.ranks
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK="0", MASTER_ADDR=address, MASTER_PORT=str(port))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "gloo":  # an optional shortcut between CPU ranks that DeepSpeed compiles at the first start
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    store = open_store(address, port, ranks, MEETING_SECONDS, door)
    patience = timedelta(seconds=COLLECTIVE_SECONDS)
    dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=patience)
    deepspeed.init_distributed(dist_backend=backend, rank=rank, world_size=ranks, auto_mpi_discovery=False)

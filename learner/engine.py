"""One learner rank's DeepSpeed ZeRO engine: owns weights, optimizer and the count of updates. The one home of
DeepSpeed's training interface.

Losses arrive as weighted sums over the whole update (see `learner/batching.py`); every rank runs the same number of
forward and backward passes, the missing ones with a micro-batch that trains nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from learner.algorithms import Loss
from learner.batching import TrainBatch, empty_batch
from learner.model import Policy, load_policy
from learner.settings import LearnerSettings, ModelSettings
from learner.types import Schedule, UpdateStats


class Engine:
    """A ZeRO engine over one policy. All ranks call every method together, in the same order."""

    def __init__(
        self, path: Path | str, model: ModelSettings, learner: LearnerSettings, schedule: Schedule, temperature: float
    ) -> None:
        import deepspeed

        self._settings, self._temperature = learner, temperature
        config = deepspeed_config(model, learner)
        with _sharded_loading(config) if learner.zero_stage == 3 else nullcontext():
            policy = load_policy(path, model, learner.logit_chunk)
        optimizer = torch.optim.AdamW(
            policy.parameters(), lr=schedule.lr, weight_decay=learner.weight_decay, betas=(0.9, 0.98)
        )
        self._unsharded = learner.zero_stage == 0 and model.dtype == "float32"
        self._grad_norm = 0.0
        if self._unsharded:  # DeepSpeed clips here without telling the norm
            optimizer.register_step_pre_hook(self._clip)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.factor)
        self._engine, *_ = deepspeed.initialize(
            model=policy, optimizer=optimizer, lr_scheduler=scheduler, config=config, dist_init_required=False
        )
        self._zero3 = learner.zero_stage == 3

    @property
    def policy(self) -> Policy:
        return self._engine.module

    @property
    def device(self) -> torch.device:
        return self._engine.device

    def update(
        self,
        batches: Sequence[TrainBatch],
        loss: Loss,
        old: Sequence[torch.Tensor] | None = None,
        start_policy: "FrozenPolicy | None" = None,
    ) -> UpdateStats:
        """One optimizer update from this rank's share of the batches.

        Args:
            batches: this rank's micro-batches; ranks may differ in number.
            loss: the algorithm's token loss.
            old: log-probabilities at the start of the step per micro-batch, from `logprobs`; None when this is the
                first update of the step, whose ratio is then exactly 1.
            start_policy: what `kl_start` is measured against; None leaves it 0.
        """
        sums = torch.zeros(len(_SUMS), dtype=torch.float64)
        ratios = [torch.zeros(1)]
        lr = self._engine.get_lr()[0]
        self._engine.train()
        for number, batch in enumerate(self._in_step(batches)):
            logp, entropy = self._forward(batch)
            start = old[number] if old is not None and number < len(old) else logp.detach()
            token = self._tensors(batch)
            gap = start - token.get("old_logprobs", start)  # 0 where no sampler was involved
            mismatch = gap.clamp(-20.0, 20.0).exp()
            trust = mismatch.clamp(max=self._settings.mismatch_cap)
            total = (loss(logp, start, token["advantages"]) * trust * token["weights"]).sum()
            self._engine.backward(total * dist.get_world_size(), scale_wrt_gas=False)  # DeepSpeed averages over ranks
            live = token["weights"] > 0
            drift = torch.zeros_like(start)
            if start_policy is not None and number == 0:
                drift = logp.detach() - start_policy.logprobs(batch)
                sums[_SUMS.index("drift_tokens")] += live.sum()
            ratio = (logp.detach() - start).exp()[live]
            low, high = 1.0 - self._settings.clip_low, 1.0 + self._settings.clip_high
            sums += torch.stack(
                [
                    total.detach().double(),
                    live.sum().double(),
                    torch.tensor(float(batch.tokens.size)),
                    torch.tensor(float(batch.padding)),
                    entropy[live].double().sum(),
                    ((ratio < low) | (ratio > high)).double().sum(),
                    (mismatch - 1.0 - gap)[live].double().sum(),
                    (mismatch > self._settings.mismatch_cap)[live].double().sum(),
                    ((-drift).clamp(-20.0, 20.0).exp() - 1.0 + drift)[live].double().sum(),
                    torch.tensor(0.0),
                ]
            ).cpu()
            ratios.append((ratio - 1.0).abs().cpu())
        self._engine.step()
        p99 = torch.from_numpy(np.quantile(torch.cat(ratios).numpy(), 0.99, keepdims=True)) + 1.0
        return self._stats(_all_reduce(sums, self.device), _all_reduce(p99, self.device, dist.ReduceOp.MAX), lr)

    @torch.no_grad()
    def logprobs(self, batches: Sequence[TrainBatch]) -> list[torch.Tensor]:
        """Log-probabilities of the trained tokens of this rank's micro-batches under the current weights."""
        self._engine.eval()
        scored = [self._forward(batch)[0] for batch in self._in_step(batches)]
        return scored[: len(batches)]

    @torch.no_grad()
    def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probability of each token of a fixed text but the first, at temperature 1."""
        self._engine.eval()
        ids = torch.tensor([list(tokens)], device=self.device)
        positions = torch.arange(len(tokens), device=self.device)[None]
        logp, _ = self._engine(ids, positions, torch.arange(1, len(tokens), device=self.device), 1.0)
        return logp.tolist()

    def parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The policy's parameters under their checkpoint names; tied ones once."""
        return self.policy.lm.named_parameters()

    @contextmanager
    def gathered(self, parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
        """Within it these parameters are whole on every rank; a collective."""
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(parameters), enabled=self._zero3):
            yield

    def close(self) -> None:
        """Frees the engine's buffers and hooks; the engine cannot be used any more."""
        self._engine.destroy()

    def _clip(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, self._settings.grad_clip))

    def _in_step(self, batches: Sequence[TrainBatch]) -> Iterator[TrainBatch]:
        """This rank's batches, filled up to the largest number that any rank has."""
        count = _all_reduce(torch.tensor([len(batches)]), self.device, dist.ReduceOp.MAX)
        yield from batches
        for _ in range(int(count.item()) - len(batches)):
            yield empty_batch()

    def _forward(self, batch: TrainBatch) -> tuple[torch.Tensor, torch.Tensor]:
        arrays = (torch.from_numpy(array).to(self.device) for array in (batch.tokens, batch.positions, batch.targets))
        return self._engine(*arrays, self._temperature)

    def _tensors(self, batch: TrainBatch) -> dict[str, torch.Tensor]:
        arrays = {name: getattr(batch, name) for name in ("old_logprobs", "advantages", "weights")}
        return {name: torch.from_numpy(a).to(self.device) for name, a in arrays.items() if a is not None}

    def _stats(self, sums: torch.Tensor, p99: torch.Tensor, lr: float) -> UpdateStats:
        total = dict(zip(_SUMS, sums.tolist(), strict=True))
        tokens = max(1.0, total["tokens"])
        return UpdateStats(
            loss=total["loss"],
            tokens=int(total["tokens"]),
            computed=int(total["computed"]),
            padding=int(total["padding"]),
            entropy=total["entropy"] / tokens,
            clip_fraction=total["clipped"] / tokens,
            ratio_p99=p99.item(),
            mismatch_kl=total["mismatch_kl"] / tokens,
            capped=total["capped"] / tokens,
            kl_start=total["drift"] / max(1.0, total["drift_tokens"]),
            grad_norm=self._grad_norm if self._unsharded else float(self._engine.get_global_grad_norm()),
            lr=lr,
        )


_SUMS = (
    "loss",
    "tokens",
    "computed",
    "padding",
    "entropy",
    "clipped",
    "mismatch_kl",
    "capped",
    "drift",
    "drift_tokens",
)


class FrozenPolicy:
    """A policy that is only asked for log-probabilities; sharded like the engine's where that shards weights."""

    def __init__(self, path: Path | str, model: ModelSettings, learner: LearnerSettings, temperature: float) -> None:
        import deepspeed

        self._temperature = temperature
        config = {**deepspeed_config(model, learner), "zero_optimization": {"stage": learner.zero_stage}}
        if learner.zero_stage == 3:
            with _sharded_loading(config):
                policy = load_policy(path, model, learner.logit_chunk)
            self._policy, *_ = deepspeed.initialize(model=policy, config=config, dist_init_required=False)
            self._device = self._policy.device
        else:
            self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            self._policy = load_policy(path, model, learner.logit_chunk).to(self._device)
        self._policy.eval()

    @torch.no_grad()
    def logprobs(self, batch: TrainBatch) -> torch.Tensor:
        """Log-probabilities of the trained tokens of one micro-batch, float32[M]."""
        arrays = (torch.from_numpy(array).to(self._device) for array in (batch.tokens, batch.positions, batch.targets))
        return self._policy(*arrays, self._temperature)[0]


@contextmanager
def _sharded_loading(config: dict[str, Any]) -> Iterator[None]:
    """While it lasts transformers shards weights as it reads them, so no rank holds the whole model."""
    from transformers.integrations import HfDeepSpeedConfig
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    keep = HfDeepSpeedConfig(config)
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        del keep


def _all_reduce(tensor: torch.Tensor, device: torch.device, op: Any = dist.ReduceOp.SUM) -> torch.Tensor:
    tensor = tensor.to(device)
    dist.all_reduce(tensor, op=op)
    return tensor


def deepspeed_config(model: ModelSettings, learner: LearnerSettings) -> dict[str, Any]:
    """What DeepSpeed is told; the caller owns accumulation, so an update may have any number of micro-batches."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0 if learner.zero_stage == 0 and model.dtype == "float32" else learner.grad_clip,
        "bf16": {"enabled": model.dtype == "bfloat16"},
        "zero_optimization": {"stage": learner.zero_stage, "overlap_comm": False},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
    }


def join_learners(rank: int, ranks: int, address: str, port: int) -> None:
    """Makes the default process group of all learner ranks, NCCL on GPUs and gloo on the CPU."""
    import deepspeed

    os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK="0", MASTER_ADDR=address, MASTER_PORT=str(port))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "gloo":  # an optional shortcut between CPU ranks that DeepSpeed compiles at the first start
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=backend, rank=rank, world_size=ranks, auto_mpi_discovery=False)

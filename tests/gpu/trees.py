"""Groups whose prompt is long beside their answers, by joined calls of varlen attention: the log-probabilities and the
gradient of separate sequences, and the time and memory that sharing saves."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import Qwen2Config

from learner.batches.packing import pack
from learner.batches.types import Sample, TrainBatch
from learner.batches.values import gather
from learner.models.examination import examine
from learner.models.inputs import inputs_of
from learner.models.joined import TorchHalves, errors_of, problem_of_halves
from learner.models.policy import Policy
from tests.gpu.passes import GIB, new_policy, qwen

FAR = 0.1  # of the length of a gradient in half precision, by which shared and separate sequences may differ
NATS = 0.05  # by which the mean of log-probabilities may


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a model and of its groups."""

    config: Qwen2Config
    groups: int
    siblings: int
    prompt: int  # tokens
    answer: int
    budget: int  # tokens of a micro-batch


REAL = Size(config=qwen(28, 1536, 8960, 12, 2), groups=4, siblings=8, prompt=2048, answer=128, budget=16_384)
SMALL = Size(config=qwen(2, 32, 64, 4, 2, vocabulary=64), groups=2, siblings=3, prompt=80, answer=4, budget=256)


def measure(device: str, size: Size = REAL) -> dict[str, float]:
    """Errors of joined calls from float32; a pass over all groups, shared and apart.

    Raises:
        AssertionError: joined calls cannot be trusted here, or the passes do not agree.
    """
    figures: dict[str, float] = {}
    where = torch.device(device)
    if device == "cuda":
        problem = problem_of_halves(TorchHalves(), where, torch.bfloat16)
        assert problem == "", problem
        for part, (joined, masks) in errors_of(TorchHalves(), where, torch.bfloat16).items():
            figures |= {f"{part}_joined": joined, f"{part}_masks": masks}
    policy = new_policy(device, size.config, 1024, checkpointing=True)
    examine(policy)
    assert policy.shares, policy.apart_because
    policy.train()
    given = _samples(size)
    passes = {
        name: _passed(policy, pack(given, size.budget, one_row=policy.one_row, width=width), len(given), where)
        for name, width in (("apart", 0), ("shared", policy.width))
    }
    for name, found in passes.items():
        figures |= {f"tokens_{name}": found.tokens, f"seconds_{name}": found.seconds, f"peak_gib_{name}": found.gib}
    shared, apart = passes["shared"], passes["apart"]
    figures["nats"] = float(np.abs(shared.logprobs - apart.logprobs).mean())
    figures["gradient"] = float((shared.gradient - apart.gradient).norm() / apart.gradient.norm())
    assert shared.tokens < apart.tokens / 2
    assert figures["nats"] < NATS, f"log-probabilities differ by {figures['nats']} nats in the mean"
    assert figures["gradient"] < FAR, f"gradients differ by {figures['gradient']} of their length"
    return figures


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Passed:
    """A forward and backward pass over all groups."""

    tokens: int
    seconds: float
    gib: float
    logprobs: np.ndarray
    gradient: torch.Tensor


def _passed(policy: Policy, batches: Sequence[TrainBatch], samples: int, device: torch.device) -> Passed:
    """The second of two, as the first one makes room and compiles."""
    for _ in range(2):
        policy.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started, found = time.monotonic(), []
        for batch in batches:
            logp = policy(**inputs_of(policy, batch, device), temperature=1.0)[0]
            logp.mean().mul(logp.numel() / 1000).backward()
            found.append(logp.detach())
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.monotonic() - started
    gradient = torch.cat([p.grad.flatten().float().cpu() for p in policy.parameters() if p.grad is not None])
    return Passed(
        tokens=sum(batch.tokens.size for batch in batches),
        seconds=seconds,
        gib=torch.cuda.max_memory_allocated() / GIB if device.type == "cuda" else 0.0,
        logprobs=np.concatenate(gather(batches, found, samples)),
        gradient=gradient,
    )


def _samples(size: Size) -> list[Sample]:
    draw, found = np.random.default_rng(0), []
    for _ in range(size.groups):
        prompt = draw.integers(0, 60, size.prompt)
        for _ in range(size.siblings):
            tokens = np.concatenate([prompt, draw.integers(0, 60, size.answer)]).astype(np.int32)
            trained = np.arange(tokens.size) >= size.prompt
            found.append(Sample(tokens=tokens, trained=trained, sampler=None, advantage=1.0, weight=1.0))
    return found

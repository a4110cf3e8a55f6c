"""Varlen attention over packed rows against masks and against each sequence alone: outputs, gradients, time, memory."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from learner.models.varlen import VARLEN, VarlenAttention, bounds_of

TIMES = 2.0  # errors of attention by masks in the same dtype, from float32, that varlen attention's may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of an attention and of the rows that it is asked about."""

    heads: int
    groups: int  # heads of keys and values
    width: int  # numbers of a head
    lengths: Sequence[int]  # of the sequences that are compared
    timed: Sequence[Sequence[int]]  # lengths of the sequences of each row that is timed


REAL = Size(
    heads=28,
    groups=4,
    width=128,
    lengths=(700, 1, 333, 1014),
    timed=((1024,) * 8, (8192, 8192), (16384,)),
)
QUICK = Size(heads=REAL.heads, groups=REAL.groups, width=REAL.width, lengths=REAL.lengths, timed=((8192,),))
SMALL = Size(heads=4, groups=2, width=16, lengths=(9, 1, 5, 17), timed=())
States = tuple[torch.Tensor, ...]  # query [1, heads, T, D], key and value [1, groups, T, D]
Attention = Callable[[States, Sequence[int]], torch.Tensor]  # -> [1, T, heads, D]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a forward and backward pass."""

    seconds: float
    gib: float  # at the peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """How far ways to attend are from float32 with masks, and what they cost."""

    errors: Mapping[str, Mapping[str, float]]  # way -> output or gradient -> relative error
    costs: Mapping[str, float]  # seconds and GiB at the peak of a forward and backward pass, by way and row

    @property
    def problem(self) -> str:
        """Which way is further from float32 than attention by masks in the same dtype explains; "" where none is."""
        for way, found in self.errors.items():
            for part, off in found.items():
                explained = TIMES * self.errors["masks"][part]
                if not off <= explained:
                    return f"{way}: {part} is off by {off:.2e}, and {explained:.2e} is explained"
        return ""


def attend(device: str, size: Size = REAL) -> Attended:
    """Attends in bfloat16 over one row of sequences: told where they begin, by masks, and each of them alone.

    Args:
        device: "cuda" takes the kernel that runs take; "cpu", where there is none, a loop in its place.
        size: of the row, and of rows whose costs are measured.
    """
    varlen = VarlenAttention(by_hand) if device == "cpu" else _of_the_run()
    ways: dict[str, Attention] = {"varlen": partial(by_bounds, varlen), "masks": by_masks, "alone": one_by_one}
    states = states_of(size, size.lengths, device, torch.bfloat16)
    exact = _results(by_masks, tuple(each.detach().float().requires_grad_() for each in states), size.lengths)
    costs: dict[str, float] = {}
    for lengths in size.timed:
        for name in ("varlen", "masks"):
            cost = _cost(ways[name], states_of(size, lengths, device, torch.bfloat16), lengths)
            row = f"{name}_{len(lengths)}x{max(lengths)}"
            costs |= {f"seconds_{row}": cost.seconds, f"peak_gib_{row}": cost.gib}
    errors = {name: _errors(_results(way, states, size.lengths), exact) for name, way in ways.items()}
    return Attended(errors=errors, costs=costs)


def _of_the_run() -> VarlenAttention:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return cast(VarlenAttention, ALL_ATTENTION_FUNCTIONS[VARLEN])


def states_of(size: Size, lengths: Sequence[int], device: str, dtype: torch.dtype) -> States:
    """Random states of one row of these sequences."""
    torch.manual_seed(0)
    shapes = [(1, heads, sum(lengths), size.width) for heads in (size.heads, size.groups, size.groups)]
    return tuple(torch.randn(shape, device=device).to(dtype).requires_grad_() for shape in shapes)


def by_bounds(attention: VarlenAttention, states: States, lengths: Sequence[int]) -> torch.Tensor:
    """What a model of transformers asks for when it is told where sequences begin."""
    bounds = bounds_of(np.repeat(np.cumsum(lengths), lengths)[None], states[0].device)
    module = torch.nn.Module()
    told = {"cu_seq_lens_q": bounds.starts, "max_length_q": bounds.max_tokens, "scaling": states[0].shape[-1] ** -0.5}
    return attention(module, *states, None, **told)[0]


def by_masks(states: States, lengths: Sequence[int]) -> torch.Tensor:
    """PyTorch's attention with a mask over the whole row."""
    whose = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(states[0].device)
    at = torch.arange(sum(lengths), device=states[0].device)
    mask = (whose[:, None] == whose[None, :]) & (at[:, None] >= at[None, :])
    query, key, value = _repeated(states)
    found = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return found.transpose(1, 2)


def one_by_one(states: States, lengths: Sequence[int]) -> torch.Tensor:
    """Each sequence by itself, its softmax written out."""
    found, first = [], 0
    for length in lengths:
        query, key, value = (each[:, :, first : first + length] for each in _repeated(states))
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        later = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
        weights = scores.float().masked_fill(later, -torch.inf).softmax(-1).to(value.dtype)
        found.append((weights @ value).transpose(1, 2))
        first += length
    return torch.cat(found, 1)


def _repeated(states: States) -> States:
    query, *others = states
    return (query, *(each.repeat_interleave(query.shape[1] // each.shape[1], 1) for each in others))


def by_hand(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *bounds: torch.Tensor, **options: Any
) -> torch.Tensor:
    """Stands where there is no kernel, on the CPU: the same by a loop over the sequences."""
    lengths = bounds[0].diff().tolist()
    states = tuple(each.transpose(0, 1)[None] for each in (query, key, value))
    return one_by_one(states, lengths)[0]


def _results(way: Attention, states: States, lengths: Sequence[int]) -> dict[str, torch.Tensor]:
    """Output, and gradients of a weighted sum of it."""
    out = way(states, lengths)
    weights = torch.linspace(-1, 1, out.numel(), device=out.device).reshape(out.shape)
    gradients = torch.autograd.grad((out.float() * weights).sum(), states)
    return {"output": out.detach(), **dict(zip(("query", "key", "value"), gradients, strict=True))}


def _errors(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> dict[str, float]:
    """Of each part the length of the difference over that of what is exact."""
    return {
        part: float((found[part].float() - wanted.float()).norm() / wanted.float().norm())
        for part, wanted in exact.items()
    }


def _cost(way: Attention, states: States, lengths: Sequence[int]) -> Cost:
    """Of a forward and backward pass on a GPU, after one that is not counted."""
    _results(way, states, lengths)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    _results(way, states, lengths)
    torch.cuda.synchronize()
    return Cost(seconds=time.monotonic() - started, gib=torch.cuda.max_memory_allocated() / 2**30)

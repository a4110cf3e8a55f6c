"""Varlen attention over packed rows against masks and against each sequence alone: outputs, gradients, time, memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from learner.models.varlen import VarlenAttention, bounds_of, kernel_on_gpu

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
SMALL = Size(heads=4, groups=2, width=16, lengths=(9, 1, 5, 17), timed=())
States = tuple[torch.Tensor, ...]
Attention = Callable[[States, Sequence[int]], torch.Tensor]

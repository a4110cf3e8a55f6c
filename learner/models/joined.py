"""Attention over trees of sequences by several calls of a varlen kernel, joined by the logs of their sums.

A token of a tree sees its own segment up to itself, and whole the segments that lie before it in its sequences: one
call for the former, one more for each level of the tree. With scores s, one call has made o_i = sum exp(s) v / exp(l_i)
over what it saw, and l_i = log sum exp(s). All of it together is

    l = log(sum_i exp(l_i)),  o = sum_i exp(l_i - l) o_i

Backward, a kernel makes its probabilities of scores and the log-sum that it is given. Given l and o in place of its own
it gives the share of its tokens in the gradient of the whole, so that the gradients of all calls add up to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

SEGMENTS = ((9, 27), (5, 21), (3, 17), (4, 21), (6, 27))  # of the row on which it is tried: tokens, and their end
TIMES = 4.0  # errors of masks in the same dtype, from float32, that joined calls may have
ROUNDING = 1e-5  # of float32, as a share of the whole
HEADS, GROUPS, WIDTH = 4, 2, 64  # of queries, of keys and values, numbers of a head


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spans:
    """Which queries see which keys in one call: those of the n-th span of queries those of the n-th of keys."""

    starts: torch.Tensor  # int32[N + 1], of the spans of queries, and where the last one ends
    starts_of_keys: torch.Tensor  # int32[N + 1]
    most: int  # queries of a span
    most_keys: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Join:
    """A further call: tokens that see segments before their own whole."""

    queries: torch.Tensor  # int64, their places in the row
    keys: torch.Tensor  # int64
    spans: Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """Tokens of a row that have one end, as they lie in the same sequences; what goes on from them lies behind."""

    start: int
    stop: int  # where what goes on from it starts
    end: int


def joins_of(ends: np.ndarray, device: torch.device) -> tuple[Join, ...]:
    """The further calls for a row with these ends, int64[T] as of `TrainBatch`, one for each level of its trees."""
    starts = np.flatnonzero(np.append(True, ends[1:] != ends[:-1]))
    levels: dict[int, list[_Segment]] = {}
    above: list[_Segment] = []  # those from which the segment that is looked at goes on
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), ends.size], strict=True):
        while above and above[-1].end <= start:
            above.pop()
        segment = _Segment(start=start, stop=stop, end=int(ends[start]))
        if segment.end > stop:
            levels.setdefault(len(above), []).append(segment)
            above.append(segment)
    return tuple(_join(levels[level], device) for level in sorted(levels))


def _join(segments: Sequence[_Segment], device: torch.device) -> Join:
    queries = [np.arange(segment.stop, segment.end) for segment in segments]
    keys = [np.arange(segment.start, segment.stop) for segment in segments]
    (starts, most), (starts_of_keys, most_keys) = (_starts(spans, device) for spans in (queries, keys))
    return Join(
        queries=torch.from_numpy(np.concatenate(queries)).to(device),
        keys=torch.from_numpy(np.concatenate(keys)).to(device),
        spans=Spans(starts=starts, starts_of_keys=starts_of_keys, most=most, most_keys=most_keys),
    )


def _starts(spans: Sequence[np.ndarray], device: torch.device) -> tuple[torch.Tensor, int]:
    sizes = [span.size for span in spans]
    return torch.from_numpy(np.cumsum([0, *sizes]).astype(np.int32)).to(device), max(sizes)


class Halves(Protocol):
    """A varlen kernel in its two halves. Queries are [Q, heads, D], keys and values [K, heads or fewer, D]."""

    def forward(
        self, states: Sequence[torch.Tensor], spans: Spans, causal: bool, scale: float | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(output [Q, heads, D], log-sums float32[heads, Q])."""

    def backward(
        self,
        slope: torch.Tensor,
        states: Sequence[torch.Tensor],
        made: tuple[torch.Tensor, torch.Tensor],
        spans: Spans,
        causal: bool,
        scale: float | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gradients of query, key and value, from that of the output, the output and the log-sums."""


class TorchHalves:
    """Those of PyTorch's kernel, for half precision on GPUs."""

    def forward(
        self, states: Sequence[torch.Tensor], spans: Spans, causal: bool, scale: float | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As of `Halves`."""
        import torch.nn.attention.varlen  # its operators are there from then on

        query, key, value = states
        out, sums, _ = torch.ops.torch_attn._varlen_attn(
            query,
            key,
            value,
            spans.starts,
            spans.starts_of_keys,
            spans.most,
            spans.most_keys,
            causal,
            scale,
            [-1, 0 if causal else -1],
            query.shape[1] != key.shape[1],
        )
        return out, sums

    def backward(
        self,
        slope: torch.Tensor,
        states: Sequence[torch.Tensor],
        made: tuple[torch.Tensor, torch.Tensor],
        spans: Spans,
        causal: bool,
        scale: float | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As of `Halves`."""
        found: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = torch.ops.torch_attn._varlen_attn_backward(
            slope,
            *states,
            *made,
            spans.starts,
            spans.starts_of_keys,
            spans.most,
            spans.most_keys,
            causal,
            torch.zeros(2, dtype=torch.uint64, device=slope.device),  # of dropout, of which there is none
            scale,
            [-1, 0 if causal else -1],
        )
        return found


def attend_joined(
    states: Sequence[torch.Tensor], own: Spans, joins: Sequence[Join], scale: float | None, halves: Halves
) -> torch.Tensor:
    """What each token of a row of trees sees, [T, heads, D].

    Args:
        states: query [T, heads, D], key and value [T, heads or fewer, D].
        own: the segments, each of whose tokens sees those before it.
        joins: of `joins_of`.
        scale: of the scores; None is the kernel's own.
        halves: the kernel.
    """
    found: torch.Tensor = _Joined.apply(*states, own, tuple(joins), scale, halves)
    return found


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        query, key, value, own, joins, scale, halves = given
        out, sums = halves.forward((query, key, value), own, True, scale)
        out, sums = out.float(), sums.clone()
        for join in joins:
            states = query[join.queries], key[join.keys], value[join.keys]
            more, their_sums = halves.forward(states, join.spans, False, scale)
            known = sums[:, join.queries]
            both = torch.logaddexp(known, their_sums)
            out[join.queries] = out[join.queries] * _share(known - both) + more.float() * _share(their_sums - both)
            sums[:, join.queries] = both
        out = out.to(query.dtype)
        ctx.save_for_backward(query, key, value, out, sums)
        ctx.told = own, joins, scale, halves
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *states, out, sums = ctx.saved_tensors
        own, joins, scale, halves = ctx.told
        slope = slopes[0].contiguous()
        found = [each.float() for each in halves.backward(slope, states, (out, sums), own, True, scale)]
        for join in joins:
            places = join.queries, join.keys, join.keys
            theirs = [each[at] for each, at in zip(states, places, strict=True)]
            made = out[join.queries], sums[:, join.queries].contiguous()
            more = halves.backward(slope[join.queries], theirs, made, join.spans, False, scale)
            for whole, at, part in zip(found, places, more, strict=True):
                whole.index_add_(0, at, part.float())
        typed = (each.to(state.dtype) for each, state in zip(found, states, strict=True))
        return (*typed, None, None, None, None)


def _share(logs: torch.Tensor) -> torch.Tensor:
    """Logs float32[heads, Q] as factors of an output, [Q, heads, 1]."""
    return logs.exp().T[..., None]


def errors_of(halves: Halves, device: torch.device, dtype: torch.dtype) -> dict[str, tuple[float, float]]:
    """How far a tree of three levels, whose states are random, is from attention by masks in float32: of the output
    and the gradients of its states, the length of the difference as a share of the whole, by joined calls and by masks
    in the dtype."""
    ends = np.repeat([end for _, end in SEGMENTS], [size for size, _ in SEGMENTS])
    starts, most = _starts([np.arange(size) for size, _ in SEGMENTS], device)
    own, joins = Spans(starts=starts, starts_of_keys=starts, most=most, most_keys=most), joins_of(ends, device)
    draw = torch.Generator().manual_seed(0)
    shapes = [(ends.size, heads, WIDTH) for heads in (HEADS, GROUPS, GROUPS)]
    states = [torch.randn(shape, generator=draw).to(device, dtype) for shape in shapes]
    place = torch.arange(ends.size, device=device)
    seen = (place[None] <= place[:, None]) & (place[:, None] < torch.from_numpy(ends).to(device)[None])

    def by_masks(*given: torch.Tensor) -> torch.Tensor:
        query, *others = (each.transpose(0, 1) for each in given)
        key, value = (each.repeat_interleave(HEADS // GROUPS, 0) for each in others)
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(0, 1)

    def results(way: Any, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        leaves = [each.detach().requires_grad_() for each in given]
        with torch.enable_grad():
            out = way(*leaves)
            slope = torch.linspace(-1, 1, out.numel(), device=device).reshape(out.shape)
            return [out.detach().float(), *torch.autograd.grad((out.float() * slope).sum(), leaves)]

    exact = results(by_masks, [each.float() for each in states])
    ways = (lambda *given: attend_joined(given, own, joins, None, halves)), by_masks
    found = [
        [
            float((part.float() - wanted).norm() / wanted.norm())
            for part, wanted in zip(results(way, states), exact, strict=True)
        ]
        for way in ways
    ]
    return dict(zip(("output", "query", "key", "value"), zip(*found, strict=True), strict=True))


def problem_of_halves(halves: Halves, device: torch.device, dtype: torch.dtype) -> str:
    """Why joined calls of a kernel cannot be trusted on a device; "" where they can."""
    try:
        errors = errors_of(halves, device, dtype)
    except (NotImplementedError, AttributeError, TypeError, RuntimeError) as problem:
        return f"two calls of varlen attention cannot be joined here ({type(problem).__name__})"
    wrong = {part: off for part, (off, noise) in errors.items() if not off <= TIMES * max(noise, ROUNDING)}
    named = ", ".join(f"{off:.1e} of its {part}" for part, off in wrong.items())
    return f"joined calls of varlen attention are off by {named}" if wrong else ""

"""Attention kernels by hand, of the signatures of PyTorch's, which are for GPUs only."""

import itertools
from collections.abc import Iterator, Sequence

import torch

from learner.models.joined import Spans


def by_hand(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    starts_of_keys: torch.Tensor,
    most: int,
    most_keys: int,
    *,
    scale: float | None = None,
    window_size: Sequence[int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:
    """varlen_attn as its documentation has it, with a softmax for each head of each sequence."""
    sizes = starts.diff()
    assert starts.dtype == torch.int32
    assert starts.tolist() == starts_of_keys.tolist()
    assert (int(sizes.max()), int(starts[-1])) == (most, query.shape[0])
    assert most == most_keys
    assert enable_gqa == (query.shape[1] != key.shape[1])
    left, right = window_size
    group, found = query.shape[1] // key.shape[1], torch.empty_like(query)
    for first, end in itertools.pairwise(starts.tolist()):
        at = torch.arange(end - first)
        ahead = at[None, :] - at[:, None]  # of each query, how far each key lies ahead
        seen = ((ahead <= right) | (right < 0)) & ((-ahead <= left) | (left < 0))
        for head in range(query.shape[1]):
            q, k, v = query[first:end, head], key[first:end, head // group], value[first:end, head // group]
            scores = (q @ k.T) * (q.shape[1] ** -0.5 if scale is None else scale)
            found[first:end, head] = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v
    return found


class HalvesByHand:
    """A varlen kernel in its two halves as flash attention has them, with a softmax for each span."""

    def forward(
        self, states: Sequence[torch.Tensor], spans: Spans, causal: bool, scale: float | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        query, *_ = states
        out, sums = torch.empty_like(query), torch.empty(query.shape[1], query.shape[0])
        for place, _, scores, value in self._spans(states, spans, causal, scale):
            sums[:, place] = scores.logsumexp(-1)
            out[place] = (scores.softmax(-1) @ value).transpose(0, 1)
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
        """From the output and the log-sums that it is given alone."""
        (query, key, _), (out, sums) = states, made
        found = tuple(torch.zeros_like(each) for each in states)
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        for place, keys, scores, value in self._spans(states, spans, causal, scale):
            weights = (scores - sums[:, place, None]).exp()
            above, delta = slope[place].transpose(0, 1), (slope[place] * out[place]).sum(-1).T
            of_scores = factor * weights * (above @ value.transpose(-1, -2) - delta[..., None])
            keys_of = key[keys].transpose(0, 1).repeat_interleave(query.shape[1] // key.shape[1], 0)
            found[0][place] = (of_scores @ keys_of).transpose(0, 1)
            for at, of_heads in (
                (1, of_scores.transpose(-1, -2) @ query[place].transpose(0, 1)),
                (2, weights.transpose(-1, -2) @ above),
            ):
                found[at][keys] += of_heads.unflatten(0, (key.shape[1], -1)).sum(1).transpose(0, 1)
        return found

    def _spans(
        self, states: Sequence[torch.Tensor], spans: Spans, causal: bool, scale: float | None
    ) -> Iterator[tuple[slice, slice, torch.Tensor, torch.Tensor]]:
        """Of each span: its queries, its keys, the scores [heads, Q, K] and the values for each head."""
        query = states[0]
        sizes = spans.starts.diff(), spans.starts_of_keys.diff()
        assert [int(each.max()) for each in sizes] == [spans.most, spans.most_keys]
        assert (int(spans.starts[-1]), int(spans.starts_of_keys[-1])) == (query.shape[0], states[1].shape[0])
        for of_queries, of_keys in zip(
            itertools.pairwise(spans.starts.tolist()), itertools.pairwise(spans.starts_of_keys.tolist()), strict=True
        ):
            place, keys = slice(*of_queries), slice(*of_keys)
            key, value = (
                each[keys].transpose(0, 1).repeat_interleave(query.shape[1] // each.shape[1], 0) for each in states[1:]
            )
            scores = query[place].transpose(0, 1) @ key.transpose(-1, -2)
            scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
            later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            yield place, keys, scores.masked_fill(later, -torch.inf) if causal else scores, value

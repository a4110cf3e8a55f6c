"""Puts the rewards of steps and spans, which a verifier gives for characters, on the tokens that the policy sampled."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from tokenizers.decoders import DecodeStream

from actors.rollouts.episode import Response
from actors.types import Trajectory
from rewards import SpanReward


def on_tokens(responses: Sequence[Response], tokenizer: Any) -> tuple[np.ndarray, ...]:
    """The rewards of spans and turns on the tokens of each trajectory, float32[T]; none at all where there are none."""
    if not any(response.verdict.span_rewards or response.rewards for response in responses):
        return ()
    found = []
    for response in responses:
        before = 0  # characters of the response in the trajectories before
        for number, trajectory in enumerate(response.trajectories):
            spans = [replace(s, start=s.start - before, end=s.end - before) for s in response.verdict.span_rewards]
            nothing = np.full(trajectory.tokens.size, np.nan, np.float32)
            of_spans = placed(trajectory, spans, tokenizer) if spans else nothing
            found.append(_sum(of_spans, response.rewards[number]) if response.rewards else of_spans)
            before += len(trajectory.text)
    return tuple(found)


def _sum(spans: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """The sum of two kinds of rewards, NaN where there is neither."""
    both = np.nan_to_num(spans) + np.nan_to_num(turns)
    return np.where(np.isnan(spans) & np.isnan(turns), np.nan, both).astype(np.float32)


def placed(trajectory: Trajectory, span_rewards: Sequence[SpanReward], tokenizer: Any) -> np.ndarray:
    """float32[T]: the sum of the span rewards on each token, NaN where there is none.

    A token has a reward when its text reaches into it. The sampled ids are decoded one by one, never tokenized again.

    Args:
        trajectory: what the policy saw and said, in one turn or several.
        span_rewards: in characters of its text, in which the turns lie one behind the other.
        tokenizer: the model's, a fast one of transformers.
    """
    rewards_T = np.full(trajectory.tokens.size, np.nan, np.float32)
    before = 0  # characters of the turns that are done
    for places in _turns(trajectory.sampled):
        edges = token_edges(trajectory.tokens[places].tolist(), tokenizer)
        for span in span_rewards:
            for place, (start, end) in zip(places, pairwise(edges), strict=True):
                if before + start < span.end and before + end > span.start:
                    rewards_T[place] = np.nan_to_num(rewards_T[place]) + span.value
        before += edges[-1]
    return rewards_T


def _turns(sampled: np.ndarray) -> list[np.ndarray]:
    """Positions of the sampled tokens, int64, one array for each stretch of them."""
    places = np.flatnonzero(sampled)
    return [turn for turn in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if turn.size]


def token_edges(ids: Sequence[int], tokenizer: Any) -> list[int]:
    """Characters of the decoded text before each token and, last, after all of them. Special tokens have no characters,
    and of several tokens that make one character the last one has it."""
    stream = DecodeStream(skip_special_tokens=True)
    pieces = (stream.step(tokenizer.backend_tokenizer, token) or "" for token in ids)
    return [0, *accumulate(len(piece) for piece in pieces)]

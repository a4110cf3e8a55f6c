"""Puts the rewards of steps and spans, which a verifier gives for characters, on the tokens that the policy sampled."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from tokenizers.decoders import DecodeStream

from actors.types import Trajectory
from rewards import SpanReward


def placed(trajectory: Trajectory, span_rewards: Sequence[SpanReward], tokenizer: Any) -> np.ndarray:
    """float32[T]: the sum of the span rewards on each token, NaN where there is none.

    A token has a reward when its text reaches into it. The sampled ids are decoded one by one, never tokenized again.

    Args:
        trajectory: the response.
        span_rewards: in characters of its text.
        tokenizer: the model's, a fast one of transformers.
    """
    rewards_T = np.full(trajectory.tokens.size, np.nan, np.float32)
    first = trajectory.tokens.size - trajectory.new_tokens
    edges = token_edges(trajectory.tokens[first:].tolist(), tokenizer)
    for span in span_rewards:
        for number, (start, end) in enumerate(pairwise(edges)):
            if start < span.end and end > span.start:
                rewards_T[first + number] = np.nan_to_num(rewards_T[first + number]) + span.value
    return rewards_T


def token_edges(ids: Sequence[int], tokenizer: Any) -> list[int]:
    """Characters of the decoded text before each token and, last, after all of them; special tokens have none, and the
    last of the tokens that make one character has it all."""
    stream = DecodeStream(skip_special_tokens=True)
    pieces = (stream.step(tokenizer.backend_tokenizer, token) or "" for token in ids)
    return [0, *accumulate(len(piece) for piece in pieces)]

"""Puts the rewards of steps and spans, which a verifier gives for characters, on the tokens that the policy sampled."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from tokenizers.decoders import DecodeStream

from actors.types import Trajectory
from rewards import Mark


def placed(trajectory: Trajectory, marks: Sequence[Mark], tokenizer: Any) -> np.ndarray:
    """float32[T]: the sum of the marks on each token, NaN where there is none.

    A token has a mark when its text reaches into it. The sampled ids are decoded one by one, never tokenized again.

    Args:
        trajectory: the response.
        marks: in characters of its text.
        tokenizer: the model's, a fast one of transformers.
    """
    dense = np.full(trajectory.tokens.size, np.nan, np.float32)
    first = trajectory.tokens.size - trajectory.new_tokens
    edges = token_edges(trajectory.tokens[first:].tolist(), tokenizer)
    for mark in marks:
        for number, (start, end) in enumerate(pairwise(edges)):
            if start < mark.end and end > mark.start:
                dense[first + number] = np.nan_to_num(dense[first + number]) + mark.value
    return dense


def token_edges(ids: Sequence[int], tokenizer: Any) -> list[int]:
    """Characters of the decoded text before each token and, last, after all of them; special tokens have none, and the
    last of the tokens that make one character has it all."""
    stream = DecodeStream(skip_special_tokens=True)
    pieces = (stream.step(tokenizer.backend_tokenizer, token) or "" for token in ids)
    return [0, *accumulate(len(piece) for piece in pieces)]

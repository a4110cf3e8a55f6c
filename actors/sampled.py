"""The proof that a trained token is one that an engine sampled, behind exactly the tokens that the engine was shown.

Where a turn comes into the token stream of an environment, a hash is taken of what vLLM says that it was shown for it
and of what it sampled. The hash goes with the turn wherever the stream goes, and the learner makes it anew from the
stream that it is about to train on. A single question is one turn behind its prompt, and has no hash.
"""

import hashlib
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class SampledTurn(NamedTuple):
    """One turn of the policy, in a token stream."""

    start: int  # its first token
    end: int  # the token behind its last one
    after: str  # who spoke before it, such as "user" or "tool"; "opening" in front of a stream's first turn
    digest: int  # see `digest_of`


def digest_of(shown: Sequence[int], sampled: Sequence[int]) -> int:
    """The hash of a turn, 64 bits with a sign: of the token ids before it, its own, and where it begins."""
    tokens = hashlib.blake2b(array("i", shown), digest_size=8)
    tokens.update(array("i", sampled))
    return _digest(tokens, len(shown))


def check_turns(tokens: np.ndarray, sampled: np.ndarray, turns: Sequence[SampledTurn]) -> None:
    """Makes the hashes of a stream's turns anew, some microseconds for a thousand tokens.

    Args:
        tokens: int32[T].
        sampled: bool[T], True on tokens that are trained on.
        turns: of the stream, in order.

    Raises:
        RuntimeError: a token of it is trained on that no engine sampled, or an engine was shown something else.
    """
    known, done = hashlib.blake2b(digest_size=8), 0
    for number, turn in enumerate(turns, start=1):
        known.update(tokens[done : turn.end].astype(np.int32, copy=False).tobytes())
        if turn.start < done or turn.end > tokens.size or _digest(known.copy(), turn.start) != turn.digest:
            raise RuntimeError(
                f"turn {number} of a stream of {tokens.size} tokens is not what the engine sampled behind what it was "
                "shown (the hash of that is another): the stream was changed on its way to the learner"
            )
        done = turn.end
    spoken = sum(turn.end - turn.start for turn in turns)
    if spoken != np.count_nonzero(sampled) or not all(sampled[turn.start : turn.end].all() for turn in turns):
        raise RuntimeError(f"{np.count_nonzero(sampled)} tokens of a stream count as sampled; its turns have {spoken}")


def _digest(tokens: "hashlib.blake2b", start: int) -> int:
    tokens.update(start.to_bytes(4, "little"))
    return int.from_bytes(tokens.digest(), "little", signed=True)

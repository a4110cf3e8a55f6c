"""Small builders of the nouns, so that a test says only what it is about."""

from collections.abc import Sequence

import numpy as np

from actors.types import Finish, Group, Prompt, Summary, Trajectory
from rewards import Outcome, Verdict


def prompt(id: str = "0", tokens: Sequence[int] = (1, 2, 3), reference: str = "5") -> Prompt:
    return Prompt(id=id, tokens=np.array(tokens, np.int32), text="2+3=", reward="number", reference=reference)


def trajectory(new: Sequence[int] = (4, 5), *, before: Sequence[int] = (1, 2, 3), version: int = 0) -> Trajectory:
    tokens = np.array([*before, *new], np.int32)
    sampled = np.arange(tokens.size) >= len(before)
    return Trajectory(
        tokens=tokens,
        sampled=sampled,
        logprobs=np.where(sampled, -0.5, 0.0).astype(np.float32),
        versions=np.where(sampled, version, -1).astype(np.int32),
        finish=Finish.STOP,
        text="".join(map(str, new)),
    )


def verdict(score: float | None) -> Verdict:
    if score is None:
        return Verdict(outcome=Outcome.TIMEOUT, score=None, why="took too long")
    return Verdict(outcome=Outcome.CORRECT if score > 0 else Outcome.WRONG, score=score, why="so it is")


def group(scores: Sequence[float | None], lengths: Sequence[int] | None = None, *, id: int = 0, seed: int = 0) -> Group:
    """A group with these scores; tokens are random, lengths of the responses are 1, 2, 3, ... unless given."""
    draw = np.random.default_rng([seed, id])
    lengths = lengths or range(1, len(scores) + 1)
    return Group(
        id=id,
        prompt=prompt(str(id)),
        trajectories=tuple(trajectory(draw.integers(1, 60, size).tolist()) for size in lengths),
        verdicts=tuple(map(verdict, scores)),
    )


def summary(scores: Sequence[float | None], lengths: Sequence[int] | None = None, *, id: int = 0) -> Summary:
    return Summary.of(group(scores, lengths, id=id), seconds_generate=2.0, seconds_verify=0.5)

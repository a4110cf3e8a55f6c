"""From groups to packed arrays. Pure numpy; the only place where denominators are made.

The weights of all trained tokens of an update, over all ranks, carry the whole aggregation, so a gradient is a plain
weighted sum and does not depend on how the batch is cut into micro-batches, ranks or order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.types import Group, Summary
from learner.algorithms import Algorithm

ROW_TOKENS = 256  # rows are at least this long, if the budget allows, so that short sequences fill them up


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The denominators of one optimizer update, over all ranks."""

    tokens: int  # trained tokens
    responses: int  # trained responses
    longest: int  # the constant of aggregate "constant": rollout.max_new_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePlan:
    """Which groups one optimizer update trains on, and which rank takes which."""

    totals: Totals
    ranks: tuple[tuple[int, ...], ...]  # for each rank, indices into the step's batch of groups


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One response with its prompt, ready to train on; T tokens."""

    tokens: np.ndarray  # int32[T]
    trained: np.ndarray  # bool[T]
    old_logprobs: np.ndarray | None  # float32[T], the sampler's; None for text that nobody sampled
    advantage: float
    weight: float  # of each of its trained tokens in the loss


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainBatch:
    """One micro-batch: R rows of L tokens, each row several whole sequences end to end, and M trained tokens."""

    tokens: np.ndarray  # int64[R, L]
    positions: np.ndarray  # int64[R, L], from 0 in each sequence: attention does not cross sequences
    targets: np.ndarray  # int64[M], flat index (row * L + column) of each trained token
    old_logprobs: np.ndarray | None  # float32[M], the sampler's; None for text that nobody sampled
    advantages: np.ndarray  # float32[M]
    weights: np.ndarray  # float32[M], share of the token in the loss of the whole update
    padding: int  # of the R * L tokens, how many are padding


def plan_updates(
    summaries: Sequence[Summary], algorithm: Algorithm, *, updates: int, ranks: int, longest: int
) -> list[UpdatePlan]:
    """Cuts a step's batch into optimizer updates, and each update over ranks by tokens, longest first.

    Args:
        summaries: of the groups of the batch, in the order of the batch.
        algorithm: decides which responses count.
        updates: optimizer updates in the step; at most the number of groups.
        ranks: learner ranks.
        longest: `rollout.max_new_tokens`.
    """
    plans = []
    for members in (range(start, len(summaries), updates) for start in range(updates)):
        counted = [_counted_lengths(summaries[index], algorithm) for index in members]
        totals = Totals(
            tokens=max(1, sum(map(sum, counted))), responses=max(1, sum(map(len, counted))), longest=longest
        )
        shares = balance([summaries[index].tokens for index in members], ranks)
        plans.append(UpdatePlan(totals=totals, ranks=tuple(tuple(members[i] for i in share) for share in shares)))
    return plans


def balance(costs: Sequence[int], ranks: int) -> list[list[int]]:
    """Deals items to ranks, the costliest first and each to the rank with least: indices per rank."""
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        rank = loads.index(min(loads))
        shares[rank].append(index)
        loads[rank] += costs[index]
    return shares


def sequences_of(group: Group, algorithm: Algorithm, totals: Totals) -> list[Sample]:
    """The trained responses of a group with their advantages and token weights."""
    judged = [(t, v.score) for t, v in zip(group.trajectories, group.verdicts, strict=True) if v.score is not None]
    credits = algorithm.credit(np.array([score for _, score in judged]))
    return [
        Sample(
            tokens=trajectory.tokens,
            trained=trajectory.sampled,
            old_logprobs=trajectory.logprobs,
            advantage=float(credit),
            weight=token_weight(algorithm.aggregate, trajectory.new_tokens, totals),
        )
        for (trajectory, _), credit in zip(judged, credits, strict=True)
        if _counts(algorithm, credit, trajectory.new_tokens)
    ]


def token_weight(aggregate: str, length: int, totals: Totals) -> float:
    """Weight of each trained token of a response of `length` tokens; see `learner.algorithms.AGGREGATIONS`."""
    return {
        "token-mean": 1.0 / totals.tokens,
        "seq-mean-token-mean": 1.0 / (totals.responses * length),
        "seq-mean-token-sum": 1.0 / totals.responses,
        "constant": 1.0 / (totals.responses * totals.longest),
    }[aggregate]


def pack(sequences: Sequence[Sample], micro_batch_tokens: int) -> list[TrainBatch]:
    """Packs whole sequences into rows, longest first into the fullest row that has room, and rows into micro-batches
    of at most `micro_batch_tokens` tokens (a longer sequence has a micro-batch of its own)."""
    if not sequences:
        return []
    width = max(max(s.tokens.size for s in sequences), min(ROW_TOKENS, micro_batch_tokens))
    rows: list[list[Sample]] = []
    room: list[int] = []
    for sequence in sorted(sequences, key=lambda s: -s.tokens.size):
        fitting = [row for row in range(len(rows)) if room[row] >= sequence.tokens.size]
        row = min(fitting, key=room.__getitem__, default=len(rows))
        if row == len(rows):
            rows.append([])
            room.append(width)
        rows[row].append(sequence)
        room[row] -= sequence.tokens.size
    height = max(1, micro_batch_tokens // width)
    return [_batch(rows[start : start + height]) for start in range(0, len(rows), height)]


def empty_batch() -> TrainBatch:
    """A micro-batch that trains nothing: it keeps a rank in step with ranks that have more to do."""
    return TrainBatch(
        tokens=np.zeros((1, 2), np.int64),
        positions=np.arange(2)[None],
        targets=np.ones(1, np.int64),
        old_logprobs=None,
        advantages=np.zeros(1, np.float32),
        weights=np.zeros(1, np.float32),
        padding=2,
    )


def _counts(algorithm: Algorithm, credit: float, length: int) -> bool:
    return length > 0 and (algorithm.counts == "all" or credit != 0.0)


def _counted_lengths(summary: Summary, algorithm: Algorithm) -> list[int]:
    credits = algorithm.credit(np.array(summary.scores))
    return [
        length
        for length, credit in zip(summary.judged_lengths, credits, strict=True)
        if _counts(algorithm, credit, length)
    ]


def _batch(rows: Sequence[Sequence[Sample]]) -> TrainBatch:
    width = max(sum(s.tokens.size for s in row) for row in rows)
    tokens, positions = np.zeros((2, len(rows), width), np.int64)
    targets, members, used = [], [], 0
    for number, row in enumerate(rows):
        start = 0
        for sequence in row:
            size = sequence.tokens.size
            tokens[number, start : start + size] = sequence.tokens
            positions[number, start : start + size] = np.arange(size)
            targets.append(number * width + start + np.flatnonzero(sequence.trained))
            members.append(sequence)
            start += size
        positions[number, start:] = np.arange(width - start)
        used += start
    counts = [target.size for target in targets]
    return TrainBatch(
        tokens=tokens,
        positions=positions,
        targets=np.concatenate(targets),
        old_logprobs=_concatenated([s.old_logprobs[s.trained] for s in members if s.old_logprobs is not None]),
        advantages=np.repeat([s.advantage for s in members], counts).astype(np.float32),
        weights=np.repeat([s.weight for s in members], counts).astype(np.float32),
        padding=tokens.size - used,
    )


def _concatenated(arrays: Sequence[np.ndarray]) -> np.ndarray | None:
    return np.concatenate(arrays).astype(np.float32) if arrays else None

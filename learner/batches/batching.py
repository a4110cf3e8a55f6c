"""From groups to packed arrays. Pure numpy; the only place where denominators are made.

The weights of all trained tokens of an update, over all ranks, carry the whole aggregation, so a gradient is a plain
weighted sum and does not depend on how the batch is cut into micro-batches, ranks or order.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from actors.types import Group, Summary
from learner.methods.algorithms import Algorithm
from learner.methods.credit import overlong

PADDING = 0.03  # of the tokens of a micro-batch, at most
ROW_TOKENS = 256  # rows of short sequences are up to this long, or up to four of the longest, so they fill up


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The denominators of one optimizer update, over all ranks."""

    tokens: int  # trained tokens
    responses: int  # trained responses
    max_new_tokens: int  # the constant of aggregate "constant": rollout.max_new_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePlan:
    """Which groups one optimizer update trains on, and which rank takes which."""

    number: int  # of the pass over the step's batch, from 0
    totals: Totals
    ranks: tuple[tuple[int, ...], ...]  # for each rank, indices into the step's batch of groups


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One response with its prompt, ready to train on; T tokens."""

    tokens: np.ndarray  # int32[T]
    trained: np.ndarray  # bool[T]
    sampler: np.ndarray | None  # float32[T], the sampler's log-probabilities; None for text that nobody sampled
    advantage: float
    weight: float  # of each of its trained tokens in the loss
    score: float = 0.0  # shaped, its baseline taken off
    correct: bool = False
    group: int = 0  # id
    hidden: int = 0  # leading tokens that only the policy sees: 1 with a control token
    span_rewards: np.ndarray | None = None  # float32[T], rewards of steps and spans on their tokens, NaN on the others


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainBatch:
    """One micro-batch: R rows of L tokens, each row several whole sequences end to end, M trained tokens, N
    sequences."""

    tokens: np.ndarray  # int64[R, L]
    positions: np.ndarray  # int64[R, L], from 0 in each sequence: attention does not cross sequences
    targets: np.ndarray  # int64[M], flat index (row * L + column) of each trained token
    owners: np.ndarray  # int64[M], which of the N sequences the token belongs to
    members: tuple[int, ...]  # N, the index of each sequence in what was packed
    sampler: np.ndarray | None  # float32[M], the sampler's log-probabilities; None for text that nobody sampled
    advantages: np.ndarray  # float32[M]
    weights: np.ndarray  # float32[M], share of the token in the loss of the whole update
    padding: int  # of the R * L tokens, how many are padding

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """Values of trained tokens [M] as one array for each of the N sequences."""
        return np.split(values, np.cumsum(np.bincount(self.owners, minlength=len(self.members)))[:-1])


def plan_updates(
    summaries: Sequence[Summary], algorithm: Algorithm, *, updates: int, ranks: int, max_new_tokens: int
) -> list[UpdatePlan]:
    """Cuts a step's batch into optimizer updates, pass after pass, and each update over ranks by tokens, longest first.

    Args:
        summaries: of the groups of the batch, in the order of the batch.
        algorithm: decides which responses count, and the number of passes.
        updates: optimizer updates in a pass; at most the number of groups.
        ranks: learner ranks.
        max_new_tokens: `rollout.max_new_tokens`.
    """
    plans = []
    for number in range(algorithm.passes):
        row = algorithm.at_pass(number)
        for members in (range(start, len(summaries), updates) for start in range(updates)):
            counted = [_counted_lengths(summaries[index], row, max_new_tokens) for index in members]
            totals = Totals(
                tokens=max(1, sum(map(sum, counted))),
                responses=max(1, sum(map(len, counted))),
                max_new_tokens=max_new_tokens,
            )
            shares = balance([summaries[index].tokens for index in members], ranks)
            dealt = tuple(tuple(members[i] for i in share) for share in shares)
            plans.append(UpdatePlan(number=number, totals=totals, ranks=dealt))
    return plans


def balance(costs: Sequence[int], ranks: int) -> list[list[int]]:
    """Deals items to ranks, the costliest first and each to the rank with least: indices per rank."""
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [(0, rank) for rank in range(ranks)]
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        load, rank = loads[0]
        shares[rank].append(index)
        heapq.heapreplace(loads, (load + costs[index], rank))
    return shares


def sequences_of(
    group: Group, algorithm: Algorithm, totals: Totals, control: Callable[[float], int] | None = None
) -> list[Sample]:
    """The trained responses of a group with their advantages and token weights; pairs lie side by side.

    Args:
        group: graded responses.
        algorithm: as it is in this pass.
        totals: of the update.
        control: the token that stands for the quantile of a score, where the policy is given one.
    """
    rewards_by_span = group.span_rewards or (None,) * len(group.verdicts)
    rows = zip(group.trajectories, group.verdicts, rewards_by_span, strict=True)
    judged = [(t, v.score, span_rewards) for t, v, span_rewards in rows if v.score is not None]
    scores = _shaped([s for _, s, _ in judged], [t.new_tokens for t, *_ in judged], algorithm, totals.max_new_tokens)
    if algorithm.baseline == "greedy":  # where the greedy response has no verdict its siblings' mean stands for it
        scores -= scores.mean() if group.greedy is None else group.greedy
    credits = _credits(scores, [t.new_tokens for t, *_ in judged], algorithm)
    samples = []
    for (trajectory, score, span_rewards), shaped, credit in zip(judged, scores, credits, strict=True):
        if not _counts(algorithm, credit, trajectory.new_tokens):
            continue
        tokens = trajectory.tokens
        if control is not None:  # it was sampled under the token of the best quantile and is trained under its own
            tokens = np.concatenate([[control(score)], tokens[1:]]).astype(np.int32)
        samples.append(
            Sample(
                tokens=tokens,
                trained=trajectory.sampled,
                sampler=trajectory.logprobs if trajectory.recorded else None,
                advantage=float(credit),
                weight=token_weight(algorithm.aggregate, trajectory.new_tokens, totals),
                score=float(shaped),
                correct=score > 0,
                group=group.id,
                hidden=int(control is not None),
                span_rewards=span_rewards,
            )
        )
    return _side_by_side(samples) if algorithm.pairs else samples


def _side_by_side(samples: Sequence[Sample]) -> list[Sample]:
    for_, against = ([s for s in samples if (s.advantage > 0) is good] for good in (True, False))
    return [sample for pair in zip(for_, against, strict=True) for sample in pair]


def token_weight(aggregate: str, length: int, totals: Totals) -> float:
    """Weight of each trained token of a response of `length` tokens; see `learner.methods.algorithms.AGGREGATIONS`."""
    return {
        "token-mean": 1.0 / totals.tokens,
        "seq-mean-token-mean": 1.0 / (totals.responses * length),
        "seq-mean-token-sum": 1.0 / totals.responses,
        "constant": 1.0 / (totals.responses * totals.max_new_tokens),
    }[aggregate]


def pack(sequences: Sequence[Sample], micro_batch_tokens: int, together: int = 1) -> list[TrainBatch]:
    """Packs whole sequences into rows, longest first into the fullest row that has room, and rows into micro-batches
    of at most `micro_batch_tokens` tokens (a longer sequence has a micro-batch of its own). Then the sequences of each
    micro-batch are dealt anew to rows as short as they can be with a share of at most `PADDING` of padding.

    Args:
        sequences: what to pack.
        micro_batch_tokens: the budget.
        together: so many sequences in a row stay together in one row; 2 for pairs.
    """
    if not sequences:
        return []
    units = [range(start, start + together) for start in range(0, len(sequences), together)]
    sizes = [sum(sequences[index].tokens.size for index in unit) for unit in units]
    batches = []
    for rows in _micro_batches(_rows(sizes, micro_batch_tokens), sizes, micro_batch_tokens):
        rows = _dealt_anew(rows, sizes, micro_batch_tokens)
        batches.append(rows_of(sequences, [[index for number in row for index in units[number]] for row in rows]))
    return batches


def _rows(sizes: Sequence[int], micro_batch_tokens: int) -> list[list[int]]:
    """Rows of about the same length, the max_new_tokens sequences first and each into the fullest row that has room."""
    max_new_tokens = max(sizes)
    width = min(max(max_new_tokens, min(ROW_TOKENS, 4 * max_new_tokens)), micro_batch_tokens)
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        fitting = [row for row in range(len(rows)) if room[row] >= sizes[number]]
        row = min(fitting, key=room.__getitem__, default=len(rows))
        if row == len(rows):
            rows.append([])
            room.append(width)
        rows[row].append(number)
        room[row] -= sizes[number]
    return rows


def _micro_batches(
    rows: Sequence[list[int]], sizes: Sequence[int], micro_batch_tokens: int
) -> Iterator[list[list[int]]]:
    """Rows of like length together, as many as the budget allows."""
    chosen: list[list[int]] = []
    for row in sorted(rows, key=lambda row: -_length(row, sizes)):
        if chosen and (len(chosen) + 1) * _length(chosen[0], sizes) > micro_batch_tokens:
            yield chosen
            chosen = []
        chosen.append(row)
    yield chosen


def _dealt_anew(rows: list[list[int]], sizes: Sequence[int], micro_batch_tokens: int) -> list[list[int]]:
    """The same sequences in the shortest rows found that keep to `PADDING` and to the budget: attention costs the
    square of a row's length. One row has no padding, so there always are some."""
    members = [number for row in rows for number in row]
    costs = [sizes[number] for number in members]
    total, found = sum(costs), [members]
    even = range(min(len(members), int(total / ((1.0 - PADDING) * max(costs)))), 1, -1)
    dealt = ([[members[place] for place in row] for row in balance(costs, count)] for count in even)
    for candidate in itertools.chain([rows], dealt):
        max_new_tokens = max(_length(row, sizes) for row in candidate)
        area = max_new_tokens * len(candidate)
        if area <= max(micro_batch_tokens, total) and area - total <= PADDING * area:
            found = min(found, candidate, key=lambda rows: max(_length(row, sizes) for row in rows))
            if candidate is not rows:
                break
    return found


def _length(row: Sequence[int], sizes: Sequence[int]) -> int:
    return sum(sizes[number] for number in row)


def empty_batch() -> TrainBatch:
    """A micro-batch that trains nothing: it keeps a rank in step with ranks that have more to do."""
    return TrainBatch(
        tokens=np.zeros((1, 2), np.int64),
        positions=np.arange(2)[None],
        targets=np.ones(1, np.int64),
        owners=np.zeros(1, np.int64),
        members=(-1,),
        sampler=None,
        advantages=np.zeros(1, np.float32),
        weights=np.zeros(1, np.float32),
        padding=2,
    )


def _counts(algorithm: Algorithm, credit: float, length: int) -> bool:
    return length > 0 and (algorithm.counts == "all" or credit != 0.0)


def _shaped(scores: Sequence[float], lengths: Sequence[int], algorithm: Algorithm, max_new_tokens: int) -> np.ndarray:
    return np.array(scores) + overlong(np.array(lengths), max_new_tokens, algorithm.overlong)


def _credits(scores: np.ndarray, lengths: Sequence[int], algorithm: Algorithm) -> np.ndarray:
    """The credit of each response; one without a token has no partner where responses are paired."""
    said = np.array(lengths) > 0
    if not algorithm.pairs or said.all():
        return algorithm.credit(scores)
    credits = np.zeros(scores.shape)
    credits[said] = algorithm.credit(scores[said])
    return credits


def _counted_lengths(summary: Summary, algorithm: Algorithm, max_new_tokens: int) -> list[int]:
    scores = _shaped(summary.scores, summary.scored_lengths, algorithm, max_new_tokens)
    credits = _credits(scores, summary.scored_lengths, algorithm)
    return [
        length
        for length, credit in zip(summary.scored_lengths, credits, strict=True)
        if _counts(algorithm, credit, length)
    ]


def rows_of(sequences: Sequence[Sample], rows: Sequence[Sequence[int]]) -> TrainBatch:
    """One micro-batch with these sequences, by index, in each of its rows; the rest of a shorter row is padding."""
    width = max(sum(sequences[index].tokens.size for index in row) for row in rows)
    tokens, positions = np.zeros((2, len(rows), width), np.int64)
    targets, members, used = [], [], 0
    for number, row in enumerate(rows):
        start = 0
        for index in row:
            size = sequences[index].tokens.size
            tokens[number, start : start + size] = sequences[index].tokens
            positions[number, start : start + size] = np.arange(size)
            targets.append(number * width + start + np.flatnonzero(sequences[index].trained))
            members.append(index)
            start += size
        positions[number, start:] = np.arange(width - start)
        used += start
    counts = [target.size for target in targets]
    chosen = [sequences[index] for index in members]
    return TrainBatch(
        tokens=tokens,
        positions=positions,
        targets=np.concatenate(targets),
        owners=np.repeat(np.arange(len(members)), counts),
        members=tuple(members),
        sampler=_sampler(chosen),
        advantages=np.repeat([s.advantage for s in chosen], counts).astype(np.float32),
        weights=np.repeat([s.weight for s in chosen], counts).astype(np.float32),
        padding=tokens.size - used,
    )


def _sampler(samples: Sequence[Sample]) -> np.ndarray | None:
    known = [s.sampler[s.trained] for s in samples if s.sampler is not None]
    return np.concatenate(known).astype(np.float32) if len(known) == len(samples) else None

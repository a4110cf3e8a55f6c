"""How sequences are packed into rows, rows into micro-batches, and items dealt to ranks. Pure numpy."""

import bisect
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from learner.batches.sharing import Layout, Sharing, Tree, laid_out, units_of
from learner.batches.types import Sample, Told, TrainBatch

PADDING = 0.03  # of the tokens of a micro-batch, at most
ROW_TOKENS = 256  # a row holds max(longest, min(ROW_TOKENS, 4 * longest)) tokens, and never more than the budget
ROOMY, EVEN = 8, 16  # how many numbers of rows are tried as they leave room, and how many numbers of units in a row
AGAIN = 128  # tokens that could be computed in the time that one more micro-batch takes; 75 were measured on a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How sequences become micro-batches."""

    tokens: int  # of a micro-batch, at most
    alone: bool = False  # whether each sequence has a row of its own: models that do not keep them apart need it
    one_row: bool = False  # whether a micro-batch is a single row, for varlen attention
    # Of a row at which attention costs as much as everything else, which tells where equal beginnings are worth it; 0
    # shares none.
    width: int = 0


Rows = list[list[int]]  # for each row of a micro-batch, the numbers of the units in it


def balance(costs: Sequence[int], count: int) -> list[list[int]]:
    """Deals items to ranks or rows, the costliest first and each to the one with the lowest sum of costs so far: the
    indices that each gets."""
    dealt: list[list[int]] = [[] for _ in range(count)]
    sums = [(0, place) for place in range(count)]
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        total, place = sums[0]
        dealt[place].append(index)
        heapq.heapreplace(sums, (total + costs[index], place))
    return dealt


def pack(
    samples: Sequence[Sample],
    micro_batch_tokens: int,
    together: int = 1,
    alone: bool = False,
    one_row: bool = False,
    width: int = 0,
) -> list[TrainBatch]:
    """Packs sequences into rows, and rows into micro-batches of at most `micro_batch_tokens` tokens. A longer sequence
    has a micro-batch of its own.

    Args:
        samples: what to pack.
        micro_batch_tokens: the budget.
        together: consecutive samples that stay together in one row: 2 for pairs.
        alone: whether each sample has a row of its own, for models that do not keep sequences of a row apart; samples
            that stay together then share a micro-batch.
        one_row: whether the micro-batch is a single row without padding, for varlen attention, to which the length of
            a row is nothing; `alone` goes before.
        width: as of `Packing`: where equal beginnings are laid out once; 0 is nowhere.
    """
    if not samples:
        return []
    sequences = [sample.tokens[: sample.inputs] for sample in samples]
    sharing = Sharing(tokens=micro_batch_tokens, width=width, one_level=one_row) if width and not alone else None
    units = units_of(sequences, together, sharing)
    if alone:
        longest = [max(sequences[index].size for (index,) in unit) for unit in units]
        return [
            batch_of(samples, [[index] for number in chosen for (index,) in units[number]])
            for chosen in _of_like_length(longest, micro_batch_tokens // together)
        ]
    laid = [[laid_out([sequences[index] for index in tree], one_row) for tree in unit] for unit in units]
    sizes = [sum(layout.tokens.size for layout in of_unit) for of_unit in laid]
    micro_batches = (
        [[row] for row in _filled(sizes, micro_batch_tokens)] if one_row else packed(sizes, micro_batch_tokens, width)
    )
    return [
        batch_of_trees(
            samples,
            [[pair for number in row for pair in zip(units[number], laid[number], strict=True)] for row in rows],
        )
        for rows in micro_batches
    ]


def packed(sizes: Sequence[int], budget: int, equal_width: int = 0) -> list[Rows]:
    """The rows of each micro-batch. Two goals, in this order:

    1. Few micro-batches: units go into rows, the longest first and each into the fullest row that has room, and rows
       of like length into micro-batches, as many as the budget allows.
    2. Short rows, as attention costs the square of a row's length: the units of each micro-batch move to the shortest
       rows found that keep its padding within PADDING and its tokens within the budget. Tried are all units in one
       row (no padding, so there always is an answer), the rows of the first goal, and the units dealt to rows of about
       the same length, with the largest of a few numbers of rows for which that works (`_row_counts`).

    Where it is known what attention costs, a micro-batch whose rows are long is cut into several, each of units of like
    length with a row for each, if that is less to compute.

    Example: four units of 8 tokens and a budget of 32. The first goal gives one row of 32 tokens, the second four rows
    of 8: attention then sees 4 * 8^2 = 256 pairs of tokens in place of 32^2 = 1024.

    Args:
        sizes: tokens of each unit: a sequence, or sequences that stay together.
        budget: tokens of a micro-batch, its padding counted.
        equal_width: tokens of a row at which attention costs as much as everything else; 0 where that is not known.
    """

    def length(row: Sequence[int]) -> int:
        return sum(sizes[number] for number in row)

    def width(rows: Rows) -> int:
        return max(map(length, rows))

    def allowed(rows: Rows) -> bool:
        area, total = width(rows) * len(rows), sum(map(length, rows))
        return area <= max(budget, total) and area - total <= PADDING * area

    def cost(several: Sequence[Rows]) -> int:
        return sum(len(rows) * width(rows) * (equal_width + width(rows)) + AGAIN * equal_width for rows in several)

    micro_batches: list[Rows] = []
    longest = max(sizes)
    filled_rows = _filled(sizes, min(max(longest, min(ROW_TOKENS, 4 * longest)), budget))
    for row in sorted(filled_rows, key=lambda row: -length(row)):
        if not micro_batches or (len(micro_batches[-1]) + 1) * length(micro_batches[-1][0]) > budget:
            micro_batches.append([])
        micro_batches[-1].append(row)
    found = []
    for filled in micro_batches:
        units = [number for row in filled for number in row]
        costs = [sizes[number] for number in units]
        counts = _row_counts(costs, budget)
        dealt = ([[units[place] for place in row] for row in balance(costs, count)] for count in counts)
        even = next(filter(allowed, dealt), None)
        options = [[units], *([filled] if allowed(filled) else []), *([even] if even is not None else [])]
        whole = [min(options, key=width)]
        cut = _cut(sorted(units, key=lambda number: -sizes[number]), allowed) if equal_width else whole
        found += cut if cost(cut) < cost(whole) else whole
    return found


def _cut(units: Sequence[int], allowed: Callable[[Rows], bool]) -> list[Rows]:
    """Micro-batches with a row for each unit, the longest first, as many to a micro-batch as are allowed together."""
    several: list[Rows] = []
    for number in units:
        if several and allowed([*several[-1], [number]]):
            several[-1].append([number])
        else:
            several.append([[number]])
    return several


def _row_counts(sizes: Sequence[int], budget: int) -> list[int]:
    """Numbers of rows that are worth a try for units of these sizes, the largest first: ROOMY + 2 EVEN at most.

    None is among them that cannot keep within PADDING and the budget. Of what is left there are:

    * the largest numbers that leave dealing the most room, each the largest of those that allow rows of one length
    * those with which all rows have as many units, or one more: EVEN numbers of units, from the fewest on
    """
    number, total = len(sizes), sum(sizes)
    area = min(int(total / (1.0 - PADDING)), max(budget, total))  # of all rows, at most
    counts = np.arange(2, min(number, area // max(sizes)) + 1)
    if not counts.size:
        return []
    possible = counts[_shortest(sizes, counts) * counts <= area][::-1]
    roomy = possible[(area // (possible + 1) < area // possible) | (possible == number)][:ROOMY]
    in_row = np.arange(1, EVEN + 1) + (number - 1) // (counts[-1] + 1)
    even = np.intersect1d(np.concatenate([number // in_row, -(-number // in_row)]), possible)
    return np.union1d(roomy, even)[::-1].tolist()


def _shortest(sizes: Sequence[int], counts: np.ndarray) -> np.ndarray:
    """Below which length rows cannot be, however the units are dealt to each of these numbers of rows.

    One of c rows has a c-th of all tokens. And of the c * j + 1 largest units one row has j + 1, so that it is as long
    as the smallest j + 1 of these together, for each j.
    """
    sums = np.cumsum([0, *sorted(sizes, reverse=True)])
    terms = (len(sizes) - 1) // counts + 1  # of each number: j from 0 on
    starts = np.cumsum(terms) - terms
    j = np.arange(terms.sum()) - np.repeat(starts, terms)
    largest = np.repeat(counts, terms) * j + 1
    return np.maximum(np.maximum.reduceat(sums[largest] - sums[largest - j - 1], starts), -(-sums[-1] // counts))


def _of_like_length(sizes: Sequence[int], budget: int) -> Rows:
    """The numbers of the units of each micro-batch in which a unit has the width of the longest: the longest first, as
    many as the budget allows, and one at least."""
    found: Rows = []
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        if not found or (len(found[-1]) + 1) * sizes[found[-1][0]] > budget:
            found.append([])
        found[-1].append(number)
    return found


def _filled(sizes: Sequence[int], width: int) -> Rows:
    """Rows of at most `width` tokens, the longest units first and each into the fullest row that has room; a longer
    unit has a row of its own."""
    rows: Rows = []
    room: list[tuple[int, int]] = []  # (tokens for which a row has room, its number), ascending
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        place = bisect.bisect_left(room, (sizes[number], 0))
        if place == len(room):
            rows.append([])
            left, row = width, len(rows) - 1
        else:
            left, row = room.pop(place)
        rows[row].append(number)
        bisect.insort(room, (left - sizes[number], row))
    return rows


def batch_of(samples: Sequence[Sample], rows: Sequence[Sequence[int]]) -> TrainBatch:
    """One micro-batch with these samples, by index, end to end in each of its rows; the rest of a shorter row is
    padding.

    Raises:
        ValueError: a sample trains on its first token, which nothing predicts.
    """
    return batch_of_trees(
        samples,
        [[([index], laid_out([samples[index].tokens[: samples[index].inputs]])) for index in row] for row in rows],
    )


def batch_of_trees(samples: Sequence[Sample], rows: Sequence[Sequence[tuple[Tree, Layout]]]) -> TrainBatch:
    """One micro-batch with these trees in each of its rows."""
    used = [sum(layout.tokens.size for _, layout in row) for row in rows]
    width = max(used)
    tokens, positions, ends = np.zeros((3, len(rows), width), np.int64)
    members: list[int] = []
    states, targets = [], []
    told: list[Told] = []  # of each sample that was told something
    for number, row in enumerate(rows):
        start = 0
        for tree, layout in row:
            place = slice(start, start + layout.tokens.size)
            tokens[number, place], positions[number, place] = layout.tokens, layout.positions
            ends[number, place] = layout.ends + start
            for index, path in zip(tree, layout.paths, strict=True):
                trained = _trained(samples[index])
                states.append(number * width + start + path[trained - 1])
                targets.append(samples[index].tokens[trained])
                if (mask := samples[index].told) is not None and mask.any():
                    places = np.flatnonzero(mask)
                    state = number * width + start + path[places - 1]
                    weights = np.full(places.size, samples[index].told_weight, np.float32)
                    told.append(Told(states=state, targets=samples[index].tokens[places], weights=weights))
            members += tree
            start = place.stop
        positions[number, start:], ends[number, start:] = np.arange(width - start), width
    counts = [of_sample.size for of_sample in targets]
    chosen = [samples[index] for index in members]
    return TrainBatch(
        tokens=tokens,
        positions=positions,
        ends=ends,
        states=np.concatenate(states),
        targets=np.concatenate(targets).astype(np.int64),
        owners=np.repeat(np.arange(len(members)), counts),
        members=tuple(members),
        sampler=_sampler(chosen),
        advantages=np.repeat([s.advantage for s in chosen], counts).astype(np.float32),
        weights=np.repeat([s.weight for s in chosen], counts).astype(np.float32),
        padding=tokens.size - sum(used),
        shared=sum(sample.inputs for sample in chosen) - sum(used),
        told=_joined(told) if told else None,
    )


def _joined(told: Sequence[Told]) -> Told:
    """What all samples of a micro-batch were told."""
    return Told(
        states=np.concatenate([one.states for one in told]),
        targets=np.concatenate([one.targets for one in told]).astype(np.int64),
        weights=np.concatenate([one.weights for one in told]),
    )


def _trained(sample: Sample) -> np.ndarray:
    """Where the trained tokens of a sample lie."""
    if sample.trained[:1].any():
        raise ValueError("the first token of a sequence cannot be trained on: no token lies before it")
    return np.flatnonzero(sample.trained)


def _sampler(samples: Sequence[Sample]) -> np.ndarray | None:
    known = [s.sampler[s.trained] for s in samples if s.sampler is not None]
    return np.concatenate(known).astype(np.float32) if len(known) == len(samples) else None


def empty_batch() -> TrainBatch:
    """A micro-batch that trains nothing: it keeps a rank in step with ranks that have more to do."""
    return TrainBatch(
        tokens=np.zeros((1, 2), np.int64),
        positions=np.arange(2)[None],
        ends=np.full((1, 2), 2),
        states=np.zeros(1, np.int64),
        targets=np.zeros(1, np.int64),
        owners=np.zeros(1, np.int64),
        members=(-1,),
        sampler=None,
        advantages=np.zeros(1, np.float32),
        weights=np.zeros(1, np.float32),
        padding=2,
    )

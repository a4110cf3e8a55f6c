"""Equal beginnings of sequences are computed once: a tree of sequences in place of one after another. Pure numpy.

A tree is laid out depth first: what sequences have in common lies once, before everything that goes on from it. What
sees a token is then the token itself and all that lies after it up to one place, its end (`TrainBatch.ends`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

JOINED = 64  # tokens that each sequence of a tree must save where attention is two calls; an estimate, not measured

Tree = list[int]  # the samples in it, by index, ascending
Unit = list[Tree]  # what stays together in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """When equal beginnings are worth a tree."""

    tokens: int  # of a tree, at most
    width: int  # of a row at which attention costs as much as everything else a layer computes
    one_level: bool = False  # whether a tree is one common beginning and what goes on from it, for varlen attention


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """A tree of N sequences that is laid out; T tokens."""

    tokens: np.ndarray  # int32[T]
    positions: np.ndarray  # int64[T], of each token in its sequences
    ends: np.ndarray  # int64[T], the first place after a token where nothing sees it any more
    paths: Sequence[np.ndarray]  # of each sequence int64, where its tokens lie


def units_of(sequences: Sequence[np.ndarray], together: int, sharing: Sharing | None) -> list[Unit]:
    """What is packed: sequences that stay together, and trees of them where that is less to compute.

    Sequences are looked at in the order of their tokens, so that those with the longest common beginning are
    neighbours, and each joins the tree before it where the whole tree costs less than both apart: a token costs
    `Sharing.width` and the tokens of its row. So a tree stops growing where its width costs more than its beginning.

    Args:
        sequences: int32[T] each.
        together: consecutive ones that stay together: 2 for pairs.
        sharing: when a tree is worth it; None makes none.
    """
    units = [list(range(start, start + together)) for start in range(0, len(sequences), together)]
    if sharing is None:
        return [[[index] for index in unit] for unit in units]
    found: list[_Candidate] = []
    for unit in sorted(units, key=lambda unit: sequences[unit[0]].tobytes()):
        new = _of_unit(sequences, unit, sharing)
        both = _joined(sequences, found[-1], new, sharing) if found else None
        if both is not None and both.cost < found[-1].cost + new.cost and both.size <= sharing.tokens:
            found[-1] = both
        else:
            found.append(new)
    return [[sorted(one.members)] if one.is_tree else [[index] for index in one.members] for one in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """Sequences in the order of their tokens, as a tree or apart."""

    members: list[int]
    total: int  # tokens of all of them
    saved: int  # tokens that each has in common with the one before it, summed
    least: int  # tokens that all have in common
    is_tree: bool
    size: int  # tokens, laid out
    cost: int  # of a token that one token sees; in tokens for varlen attention, to which wide rows are nothing


def _of_unit(sequences: Sequence[np.ndarray], unit: list[int], sharing: Sharing) -> _Candidate:
    """Sequences that stay together: a tree where that is less to compute."""
    sizes = [sequences[index].size for index in unit]
    apart = _Candidate(
        members=unit,
        total=sum(sizes),
        saved=0,
        least=sizes[0],
        is_tree=False,
        size=sum(sizes),
        cost=sum(size if sharing.one_level else size * (sharing.width + size) for size in sizes),
    )
    if len(unit) == 1:
        return apart
    common = [_common(sequences[one], sequences[other]) for one, other in pairwise(unit)]
    tree = _tree(unit, apart.total, sum(common), min(common), sharing)
    return tree if tree.cost < apart.cost else replace(apart, saved=tree.saved, least=tree.least)


def _joined(sequences: Sequence[np.ndarray], one: _Candidate, other: _Candidate, sharing: Sharing) -> _Candidate:
    """A tree of all sequences of both."""
    between = _common(sequences[one.members[-1]], sequences[other.members[0]])
    return _tree(
        [*one.members, *other.members],
        one.total + other.total,
        one.saved + between + other.saved,
        min(one.least, between, other.least),
        sharing,
    )


def _tree(members: list[int], total: int, saved: int, least: int, sharing: Sharing) -> _Candidate:
    size = total - (least * (len(members) - 1) if sharing.one_level else saved)
    cost = size + JOINED * len(members) if sharing.one_level else size * (sharing.width + size)
    return _Candidate(members=members, total=total, saved=saved, least=least, is_tree=True, size=size, cost=cost)


def laid_out(sequences: Sequence[np.ndarray], one_level: bool = False) -> Layout:
    """A tree of sequences, depth first.

    Example: [1, 2, 3, 4] and [1, 2, 5] become the tokens [1, 2, 3, 4, 5] at the positions [0, 1, 2, 3, 2], with the
    ends [5, 5, 4, 4, 5]: 1 and 2 are seen to the end, 3 and 4 not by 5.

    Args:
        sequences: int32[T] each, one at least.
        one_level: whether only what all have in common lies once.
    """
    if len(sequences) == 1:  # most often, where nothing is shared
        places = np.arange(sequences[0].size)
        return Layout(tokens=sequences[0], positions=places, ends=np.full(places.size, places.size), paths=[places])
    in_turn = sorted(range(len(sequences)), key=lambda index: sequences[index].tobytes())
    common = [_common(sequences[one], sequences[other]) for one, other in pairwise(in_turn)]
    if one_level:
        common = [min(common)] * len(common) if common else []
    size = sum(sequence.size for sequence in sequences) - sum(common)
    tokens, positions, ends = np.empty(size, np.int32), np.empty(size, np.int64), np.full(size, size)
    paths: list[np.ndarray] = [np.empty(0, np.int64)] * len(sequences)
    path, start = np.empty(0, np.int64), 0
    for index, shared in zip(in_turn, [0, *common], strict=True):
        new = sequences[index][shared:]
        place = slice(start, start + new.size)
        ends[path[shared:]] = start
        tokens[place], positions[place] = new, np.arange(shared, shared + new.size)
        path = np.concatenate([path[:shared], np.arange(start, start + new.size)])
        paths[index] = path
        start += new.size
    return Layout(tokens=tokens, positions=positions, ends=ends, paths=paths)


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """How many tokens two sequences have in common at their beginning."""
    size = min(one.size, other.size)
    different = one[:size] != other[:size]
    first = int(different.argmax()) if size else 0
    return first if size and different[first] else size

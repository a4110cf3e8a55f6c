"""What a rank makes of its plan: the packed updates of one step."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from actors.arrow import group_of, unpacked
from learner.batches.packing import Packing, pack
from learner.batches.planning import is_computed
from learner.batches.samples import samples_of_group
from learner.batches.types import RankPlan, Share, TrainBatch, UpdateBatch
from learner.methods.algorithms import Algorithm


def update_batches(
    plan: RankPlan,
    groups: Sequence[pa.Buffer],
    algorithm: Algorithm,
    packing: Packing,
    answers: Iterator[Sequence[TrainBatch]],
) -> list[UpdateBatch]:
    """An optimizer update for each share of the plan. Later passes over the same samples share their updates.

    Args:
        plan: of this rank.
        groups: the graded groups of `plan.groups`, in that order, each a packed record batch.
        algorithm: what trains.
        packing: how sequences become micro-batches.
        answers: micro-batches of worked answers for one update after another; read where the algorithm imitates them.
    """
    by_index = dict(zip(plan.groups, groups, strict=True))
    updates: list[UpdateBatch] = []
    in_pass = len(plan.shares) // algorithm.passes
    for number, share in enumerate(plan.shares):
        if share.number > 0 and not algorithm.thresholds:  # the same as in the pass before
            updates.append(updates[number - in_pass])
            continue
        worked = tuple(next(answers)) if algorithm.imitation else ()
        updates.append(_update_batch(share, by_index, algorithm, packing, worked))
    return updates


def _update_batch(
    share: Share,
    groups: Mapping[int, pa.Buffer],
    algorithm: Algorithm,
    packing: Packing,
    worked: tuple[TrainBatch, ...],
) -> UpdateBatch:
    computed = [credited for credited in share.groups if is_computed(credited, algorithm)]
    own = [(group_of(unpacked(groups[credited.index])), credited) for credited in computed]
    samples = [
        sample
        for group, credited in own
        for sample in samples_of_group(group, credited, algorithm, share.totals)
        if credited.credits is None or sample.advantage or algorithm.learns_without_credit
    ]
    together = 2 if algorithm.credit.pairs else 1
    batches = pack(samples, packing.tokens, together, packing.alone, packing.one_row, packing.width)
    return UpdateBatch(
        totals=share.totals,
        samples=tuple(samples),
        batches=tuple(batches),
        worked=worked,
    )

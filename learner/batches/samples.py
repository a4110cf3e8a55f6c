"""From graded groups to samples: the responses that an update trains on, each with its weight.

The weights of all trained tokens of an update, over all ranks, carry the whole aggregation, so a gradient is a plain
weighted sum and does not depend on how the batch is cut into micro-batches, ranks or order.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from actors.sampled import check_turns
from actors.types import Group
from learner.batches.planning import counted
from learner.batches.types import CreditedGroup, Sample, Totals
from learner.methods.algorithms import Algorithm
from learner.methods.choices import Aggregation


def samples_of_group(group: Group, credited: CreditedGroup, algorithm: Algorithm, totals: Totals) -> list[Sample]:
    """The trained responses of a group with the credits and token weights that the driver planned, a sample for each of
    their trajectories; pairs lie side by side. A token weighs the same in all trajectories of a response.

    Args:
        group: graded responses.
        credited: what its scored responses are worth.
        algorithm: whether responses of credit 0 count, and the aggregation.
        totals: of the update.
    """
    scored = [places for places in group.responses if group.verdicts[places.start].score is not None]
    samples = []
    for number, places in enumerate(scored):
        credit = None if credited.credits is None else credited.credits[number]
        length = sum(group.trajectories[place].new_tokens for place in places)
        if number in credited.left_out or not counted(credit, length, algorithm):
            continue
        weight = token_weight(algorithm.aggregate, length, totals)
        said = [place for place in places if group.trajectories[place].new_tokens]
        own = [_sample(group, place, credited, number, weight, continues=place > said[0]) for place in said]
        samples += with_told(own, algorithm.echo / totals.responses) if algorithm.echo else own
    return _side_by_side(samples) if algorithm.credit.pairs else samples


def _sample(
    group: Group, place: int, credited: CreditedGroup, number: int, weight: float, *, continues: bool
) -> Sample:
    """A trajectory of the group's scored response of this number; `weight` is that of each of its trained tokens."""
    trajectory, score = group.trajectories[place], group.verdicts[place].score
    tokens = trajectory.tokens
    if trajectory.turns:
        check_turns(tokens, trajectory.sampled, trajectory.turns)
    if credited.control is not None:  # sampled under the token of the best quantile, and trained under its own
        tokens = np.concatenate([[credited.control[number]], tokens[1:]]).astype(np.int32)
    return Sample(
        tokens=tokens,
        trained=trajectory.sampled,
        sampler=trajectory.logprobs if trajectory.recorded else None,
        advantage=credited.credits[number] if credited.credits is not None else 0.0,
        weight=weight,
        score=credited.scores[number],
        correct=score is not None and score > 0,
        group=group.id,
        siblings=trajectory.siblings,
        continues=continues,
        hidden=int(credited.control is not None),
        span_rewards=group.span_rewards[place] if group.span_rewards else None,
    )


def with_told(samples: Sequence[Sample], share: float) -> list[Sample]:
    """The samples of a response with what it was told between its turns, each of these tokens of the same weight: tool
    output, users, other seats, and the words of the chat template around them.

    Args:
        samples: of one response.
        share: of the response's mean over these tokens in the loss.
    """
    told = [between_turns(sample.trained) for sample in samples]
    count = sum(int(mask.sum()) for mask in told)
    weight = share / max(1, count)
    return [replace(s, told=mask, told_weight=weight) for s, mask in zip(samples, told, strict=True)]


def between_turns(trained: np.ndarray) -> np.ndarray:
    """Which tokens of a stream lie between its first and its last sampled one and were not sampled, bool[T]."""
    places = np.flatnonzero(trained)
    inside = np.arange(trained.size)
    return ~trained & (inside > places[0]) & (inside < places[-1])


def _side_by_side(samples: Sequence[Sample]) -> list[Sample]:
    chosen, rejected = ([s for s in samples if (s.advantage > 0) is good] for good in (True, False))
    return [sample for pair in zip(chosen, rejected, strict=True) for sample in pair]


def token_weight(aggregate: Aggregation, length: int, totals: Totals) -> float:
    """Weight of each trained token of a response of `length` tokens in the loss of the whole update."""
    return {
        Aggregation.TOKEN_MEAN: 1.0 / totals.tokens,
        Aggregation.SEQ_MEAN_TOKEN_MEAN: 1.0 / (totals.responses * length),
        Aggregation.SEQ_MEAN_TOKEN_SUM: 1.0 / totals.responses,
        Aggregation.CONSTANT: 1.0 / (totals.responses * totals.max_new_tokens),
    }[aggregate]

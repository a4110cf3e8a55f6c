"""The plan of a step: which groups each optimizer update trains on, which rank takes which, and what every response is
worth. Made on the driver, from summaries alone; the only place where denominators are made.

Where the scores of a group are all that advantages take, its credit is computed here and nowhere else. Where they take
more (`Algorithm.credits_on_rank`, span rewards), it is computed on the learner's ranks and nowhere else.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from actors.filtering.siblings import refusals, trained_on
from actors.types import Summary
from learner.batches.packing import balance
from learner.batches.types import CreditedGroup, RankPlan, Share, StepPlan, Totals
from learner.methods.algorithms import Algorithm
from learner.methods.choices import Baseline
from learner.methods.credit import overlong

NO_BASELINES: Mapping[str, float] = MappingProxyType({})


def plan_step(
    summaries: Sequence[Summary],
    algorithm: Algorithm,
    *,
    updates: int,
    ranks: int,
    max_new_tokens: int,
    control: Mapping[float, int] | None = None,
    baselines: Mapping[str, float] = NO_BASELINES,
    has_span_rewards: bool = False,
    most_siblings: int | None = None,
) -> StepPlan:
    """Cuts a step's batch into optimizer updates, pass after pass, and each update over ranks by tokens, the costliest
    group first.

    Args:
        summaries: of the groups of the batch, in the order of the batch.
        algorithm: decides which responses count, what they are worth, and the number of passes.
        updates: optimizer updates in a pass; at most the number of groups.
        ranks: learner ranks.
        max_new_tokens: `rollout.max_new_tokens`.
        control: score -> token of its quantile, where the policy is given one.
        baselines: seat -> what is taken off its scores, where the algorithm has a baseline for each; 0 of other seats.
        has_span_rewards: whether responses have span rewards, so that the ranks make the advantages.
        most_siblings: how many responses of a set of siblings are trained on at most, with the credits that they have
            among all of the set; None: all.
    """
    shares: list[list[Share]] = [[] for _ in range(ranks)]
    credited: list[CreditedGroup] = []
    early = not (algorithm.credits_on_rank or has_span_rewards)
    for number in range(algorithm.passes):
        if number == 0 or algorithm.thresholds:
            at_pass = algorithm.at_pass(number)
            credited = [
                _credited(index, summary, at_pass, max_new_tokens, control, baselines, early, most_siblings)
                for index, summary in enumerate(summaries)
            ]
        for members in (range(start, len(summaries), updates) for start in range(updates)):
            totals = _totals([(summaries[index], credited[index]) for index in members], algorithm, max_new_tokens)
            costs = [
                _tokens(summaries[index], credited[index]) * is_computed(credited[index], algorithm)
                for index in members
            ]
            dealt = balance(costs, ranks)
            for share, own in zip(shares, dealt, strict=True):
                groups = tuple(credited[members[item]] for item in own)
                share.append(Share(number=number, totals=totals, groups=groups))
    return StepPlan(ranks=tuple(map(_rank_plan, shares)))


def scores_by_seat(summaries: Sequence[Summary], algorithm: Algorithm, max_new_tokens: int) -> dict[str, np.ndarray]:
    """seat -> the scores of what it said in a batch, the penalty of length added, float64[any number]."""
    found: dict[str, list[float]] = {}
    for summary in summaries:
        for seat, score in zip(summary.seats, _shaped(summary, algorithm, max_new_tokens), strict=True):
            found.setdefault(seat, []).append(score)
    return {seat: np.array(scores) for seat, scores in found.items()}


def _shaped(summary: Summary, algorithm: Algorithm, max_new_tokens: int) -> np.ndarray:
    """The J scores of a group, the penalty of length added, float64[J]."""
    shaped: np.ndarray = np.array(summary.scores) + overlong(
        np.array(summary.scored_lengths), max_new_tokens, algorithm.overlong
    )
    return shaped


def counted(credit: float | None, length: int, algorithm: Algorithm) -> bool:
    """Whether a response is trained on and stands in the denominators.

    Args:
        credit: what it is worth; None where the ranks will say.
        length: its sampled tokens.
        algorithm: whether responses of credit 0 count.
    """
    return length > 0 and (algorithm.counts == "all" or credit is None or credit != 0.0)


def is_computed(group: CreditedGroup, algorithm: Algorithm) -> bool:
    """Whether a rank computes anything of a group: not where its responses are worth nothing, and nothing else is
    learned from them."""
    return group.credits is None or any(group.credits) or algorithm.learns_without_credit


def _credited(
    index: int,
    summary: Summary,
    algorithm: Algorithm,
    max_new_tokens: int,
    control: Mapping[float, int] | None,
    baselines: Mapping[str, float],
    early: bool,
    most_siblings: int | None,
) -> CreditedGroup:
    lengths, scores = np.array(summary.scored_lengths), _shaped(summary, algorithm, max_new_tokens)
    kept = _kept_sets(summary, algorithm)
    trained = [trained_on(summary.scores, places, most_siblings) for places in kept]
    if algorithm.baseline is Baseline.GREEDY:  # where the greedy response has no verdict its siblings' mean stands in
        for places in kept:
            scores[places] -= scores[places].mean() if summary.greedy_score is None else summary.greedy_score
    if algorithm.baseline is Baseline.ROLE:
        scores -= np.array([baselines.get(seat, 0.0) for seat in summary.seats])
    credits = np.zeros(scores.shape)
    if early:
        # a response has its credit among all siblings, and its partner, where it has one, among those trained on
        for places in trained if algorithm.credit.pairs else kept:
            credits[places] = _credits(scores[places], lengths[places], algorithm)
    return CreditedGroup(
        index=index,
        scores=tuple(map(float, scores)),
        credits=tuple(map(float, credits)) if early else None,
        control=None if control is None else tuple(control[score] for score in summary.scores),
        left_out=frozenset(range(scores.size)).difference(*trained),
    )


def _kept_sets(summary: Summary, algorithm: Algorithm) -> list[list[int]]:
    """Of each set of siblings that is trained on, which of the group's scores are theirs. A group whose responses are
    one set is here because the filter has kept it."""
    sets = summary.sets
    if len(sets) == 1:
        return [list(sets[0].scored)]
    return [list(one.scored) for one, reason in zip(sets, refusals(summary, algorithm.drop), strict=True) if not reason]


def _credits(scores: np.ndarray, lengths: np.ndarray, algorithm: Algorithm) -> np.ndarray:
    """The credit of each response; a response without a token has no partner where responses are paired."""
    said = lengths > 0
    if not algorithm.credit.pairs or said.all():
        return algorithm.credit(scores)
    credits = np.zeros(scores.shape)
    credits[said] = algorithm.credit(scores[said])
    return credits


def _totals(groups: Sequence[tuple[Summary, CreditedGroup]], algorithm: Algorithm, max_new_tokens: int) -> Totals:
    lengths = [
        length
        for summary, group in groups
        for number, (length, credit) in enumerate(
            zip(summary.scored_lengths, group.credits or [None] * len(group.scores), strict=True)
        )
        if number not in group.left_out and counted(credit, length, algorithm)
    ]
    return Totals(tokens=max(1, sum(lengths)), responses=max(1, len(lengths)), max_new_tokens=max_new_tokens)


def _tokens(summary: Summary, credited: CreditedGroup) -> int:
    """Tokens of a forward pass over what is trained on of a group, whose prompts are taken to be equally long."""
    sampled, left_out = sum(summary.scored_lengths), credited.left_out
    prompts = (summary.tokens - sampled) * (len(credited.scores) - len(left_out)) // max(1, len(credited.scores))
    return prompts + sampled - sum(summary.scored_lengths[number] for number in left_out)


def _rank_plan(shares: Sequence[Share]) -> RankPlan:
    groups = sorted({group.index for share in shares for group in share.groups})
    return RankPlan(groups=tuple(groups), shares=tuple(shares))

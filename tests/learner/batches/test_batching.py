"""From groups to packed arrays: what counts, what each token weighs, and what packing keeps."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import arrow
from actors.filtering.rules import drop_none
from actors.filtering.siblings import largest_variance
from actors.types import Summary
from learner.batches import packing
from learner.batches.packing import EVEN, PADDING, ROOMY, Packing, Rows, balance, empty_batch, pack, packed
from learner.batches.planning import plan_step, scores_by_seat
from learner.batches.samples import samples_of_group, token_weight
from learner.batches.types import Sample, StepPlan, Totals
from learner.batches.updates import update_batches
from learner.methods.algorithms import ALGORITHMS, algorithm_of
from learner.methods.choices import Aggregation
from tests.builders import (
    group,
    in_sets,
    planned,
    sampled_by_an_engine,
    samples_of,
    summary,
    summary_of,
    token_gradients,
    trained_samples,
)

REJ, RAFT, DPO = ALGORITHMS["reinforce-rej"], ALGORITHMS["raft"], ALGORITHMS["iterative-dpo"]
SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=60)


def samples(sizes: list[int]) -> list[Sample]:
    """Of so many trained tokens behind one of a prompt; the tokens tell the sample and the place."""
    return [
        Sample(
            tokens=np.arange(1, size + 2, dtype=np.int32) + 1000 * number,
            trained=np.arange(size + 1) > 0,
            sampler=-np.arange(size + 1, dtype=np.float32) - 1000 * number,
            advantage=float(number),
            weight=1.0 / (number + 1),
        )
        for number, size in enumerate(sizes)
    ]


# --------------------------------------------------------------------------------------- weights, denominators


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("token-mean", 16 / 6), ("seq-mean-token-mean", 2.5), ("seq-mean-token-sum", 8.0), ("constant", 1.0)],
)
def test_the_four_aggregations_on_the_worked_example(aggregate: str, expected: float) -> None:
    totals = Totals(tokens=6, responses=2, max_new_tokens=8)
    losses = [[1, 3], [2, 2, 2, 6]]
    found = sum(token_weight(Aggregation(aggregate), len(tokens), totals) * sum(tokens) for tokens in losses)
    assert found == pytest.approx(expected)
    assert len(Aggregation) == 4


def test_raft_counts_only_what_it_imitates() -> None:
    one = group([1.0, -1.0, 1.0], [2, 3, 4])
    _, totals = planned(one, RAFT)
    assert (totals.tokens, totals.responses) == (6, 2)
    trained = trained_samples(one, RAFT)
    assert [sample.trained.sum() for sample in trained] == [2, 4]


def test_unjudged_and_empty_responses_stand_in_no_denominator() -> None:
    scores, lengths = [1.0, None, -1.0, -1.0], [2, 5, 0, 3]
    _, totals = planned(group(scores, lengths), REJ)
    assert (totals.tokens, totals.responses) == (5, 2)
    assert len(trained_samples(group(scores, lengths), REJ)) == 2


@given(
    st.sampled_from(sorted(ALGORITHMS)),
    st.lists(st.tuples(st.sampled_from([-1.0, 1.0]), st.integers(1, 20)), min_size=2, max_size=8),
    st.sampled_from([0.0, 0.25, 0.9]),
)
@settings(deadline=None)
def test_the_denominators_count_exactly_what_is_trained(name: str, responses, share: float) -> None:
    algorithm, (scores, lengths) = replace(ALGORITHMS[name], overlong=share), zip(*responses, strict=True)
    plan = plan_step([summary(scores, lengths)], algorithm, updates=1, ranks=1, max_new_tokens=20)
    for number, share in enumerate(plan.ranks[0].shares):
        ((*trained,),) = samples_of(algorithm, [group(scores, lengths)], max_new_tokens=20, number=number)
        assert share.number == number
        assert share.totals.responses == max(1, len(trained))
        assert share.totals.tokens == max(1, sum(int(sample.trained.sum()) for sample in trained))


@pytest.mark.parametrize("aggregate", Aggregation)
def test_the_weights_of_an_update_sum_to_what_its_aggregation_says(aggregate: str) -> None:
    algorithm, lengths = algorithm_of("grpo", {"aggregate": aggregate}), [3, 5, 2, 6]
    (trained,) = samples_of(algorithm, [group([1.0, -1.0, 1.0, 1.0], lengths)], max_new_tokens=8)
    total = sum(sample.weight * sample.trained.sum() for sample in trained)
    mean = {"seq-mean-token-sum": sum(lengths) / 4, "constant": sum(lengths) / (4 * 8)}
    assert total == pytest.approx(mean.get(aggregate, 1.0))


def test_a_token_mean_survives_splitting_only_with_denominators_of_the_whole_update() -> None:
    algorithm = algorithm_of("grpo", {"aggregate": "token-mean"})
    groups = [group([1.0, -1.0], [4, 5], id=0, seed=1), group([-1.0, 1.0], [11, 14], id=1, seed=1)]
    whole = token_gradients(algorithm, groups)
    halves = token_gradients(algorithm, groups[:1]) | token_gradients(algorithm, groups[1:])
    tokens = {response: 9 if len(gradient) < 6 else 25 for response, gradient in whole.items()}
    for response, gradient in whole.items():
        assert gradient == pytest.approx(halves[response] * tokens[response] / 34, rel=1e-5)
        assert gradient != pytest.approx(halves[response] / 2, rel=1e-2)


def test_a_pass_with_a_higher_threshold_trains_on_fewer_responses() -> None:
    algorithm, scores = algorithm_of("rest", {"thresholds": (0.7, 0.8, 0.9)}), [0.2, 0.75, 0.85, 0.9, 0.95]
    plan = plan_step([summary(scores)], algorithm, updates=1, ranks=1, max_new_tokens=8)
    assert [share.totals.responses for share in plan.ranks[0].shares] == [4, 3, 1]
    assert [len(samples_of(algorithm, [group(scores)], number=number)[0]) for number in range(3)] == [4, 3, 1]


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
@pytest.mark.parametrize("kl_loss", [0.0, 0.1])
def test_what_is_worth_nothing_is_not_computed_and_would_change_nothing(name: str, kl_loss: float) -> None:
    algorithm = replace(ALGORITHMS[name], drop=drop_none, overlong=0.0, thresholds=())
    if kl_loss and (algorithm.kl_reward or algorithm.credit.pairs):
        return  # no run has both
    algorithm = replace(algorithm, kl_loss=kl_loss or algorithm.kl_loss)
    groups = [group(scores, id=id) for id, scores in enumerate([[1.0, 0.0, 1.0], [1.0] * 3, [0.0] * 4])]
    control = {0.0: 1, 1.0: 2} if name == "quark" else None
    plan = plan_step(list(map(summary_of, groups)), algorithm, updates=1, ranks=1, max_new_tokens=32, control=control)
    answers = iter(lambda: (), None)
    update, *_ = update_batches(plan.ranks[0], list(map(arrow.packed, groups)), algorithm, Packing(tokens=64), answers)
    computed = {tuple(sample.tokens[sample.hidden :].tolist()) for sample in update.samples}
    whole = {
        tuple(sample.tokens[sample.hidden :].tolist()): sample
        for credited in plan.ranks[0].shares[0].groups
        for sample in samples_of_group(groups[credited.index], credited, algorithm, update.totals)
    }
    assert computed <= set(whole)
    if algorithm.learns_without_credit:
        assert computed == set(whole)
        return
    gradients = token_gradients(algorithm, groups)
    assert {response for response, gradient in gradients.items() if gradient.any()} <= computed
    assert all(whole[response].advantage == 0.0 for response in set(whole) - computed)


def test_grpo_computes_no_group_of_equal_scores() -> None:
    groups = [group([1.0, 0.0], id=0), group([1.0, 1.0], id=1), group([0.0, 0.0], id=2)]
    plan = plan_step(list(map(summary_of, groups)), ALGORITHMS["grpo"], updates=1, ranks=2, max_new_tokens=8)
    assert plan.ranks[0].shares[0].totals == Totals(tokens=9, responses=6, max_new_tokens=8)
    found = [
        sample.group
        for rank in plan.ranks
        for update in update_batches(
            rank, [arrow.packed(groups[i]) for i in rank.groups], ALGORITHMS["grpo"], Packing(tokens=64), iter(())
        )
        for sample in update.samples
    ]
    assert found == [0, 0]


# ------------------------------------------------------------------------------------------ updates and ranks


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(1, 5), st.integers(1, 3))
@settings(deadline=None)
def test_every_group_is_in_exactly_one_update_and_on_one_rank(sizes: list[int], ranks: int, updates: int) -> None:
    updates = min(updates, len(sizes))
    summaries = [summary([1.0, -1.0], [size, 1], id=number) for number, size in enumerate(sizes)]
    plan = plan_step(summaries, REJ, updates=updates, ranks=ranks, max_new_tokens=8)
    assert sorted(trained_indices(plan)) == list(range(len(sizes)))
    assert sorted(index for rank in plan.ranks for index in rank.groups) == list(range(len(sizes)))
    assert sum(share.totals.tokens for share in plan.ranks[0].shares) == sum(sizes) + len(sizes)
    for rank in plan.ranks:
        assert [share.totals for share in rank.shares] == [share.totals for share in plan.ranks[0].shares]


def trained_indices(plan: StepPlan) -> list[int]:
    return [one.index for rank in plan.ranks for share in rank.shares for one in share.groups]


def test_every_pass_goes_through_all_groups() -> None:
    algorithm = algorithm_of("reinforce", {"passes": 2})
    summaries = [summary([1.0, -1.0], id=number) for number in range(5)]
    plan = plan_step(summaries, algorithm, updates=2, ranks=1, max_new_tokens=8)
    (rank,) = plan.ranks
    assert [share.number for share in rank.shares] == [0, 0, 1, 1]
    for shares in (rank.shares[:2], rank.shares[2:]):
        assert sorted(one.index for share in shares for one in share.groups) == [0, 1, 2, 3, 4]
    assert rank.groups == (0, 1, 2, 3, 4)  # each goes to the rank once


def test_ranks_get_about_the_same_number_of_tokens() -> None:
    costs = [100, 90, 50, 40, 10, 10]
    shares = balance(costs, 2)
    assert [sum(costs[index] for index in share) for share in shares] == [150, 150]


# ------------------------------------------------------------------------------------------------------ samples


def test_the_penalty_of_length_is_taken_off_before_the_credit() -> None:
    algorithm = algorithm_of("reinforce", {"overlong": 0.5})
    (trained,) = samples_of(algorithm, [group([1.0, 1.0, -1.0], [2, 6, 8])], max_new_tokens=8)
    assert [sample.advantage for sample in trained] == [1.0, 0.5, -2.0]
    assert [sample.correct for sample in trained] == [True, True, False]


def test_a_greedy_score_is_taken_off_before_the_credit() -> None:
    one = replace(group([0.5, 0.0]), greedy=0.3)
    assert [s.advantage for s in trained_samples(one, ALGORITHMS["self-critical"])] == pytest.approx([0.2, -0.3])
    assert [s.advantage for s in trained_samples(one, ALGORITHMS["reinforce"])] == [0.5, 0.0]


def test_where_the_greedy_response_has_no_verdict_its_siblings_mean_stands_in() -> None:
    assert [s.advantage for s in trained_samples(group([0.5, 0.0]), ALGORITHMS["self-critical"])] == [0.25, -0.25]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_credit_is_planned_exactly_where_scores_are_all_that_it_takes(name: str) -> None:
    one, algorithm = group([1.0, -1.0]), ALGORITHMS[name]
    late = {"ppo", "rloo", "reinforce-baseline", "prime", "rto", "nlpo", "stable-reinforce", "distill", "self-distill"}
    assert (planned(one, algorithm)[0].credits is None) == (name in late) == algorithm.credits_on_rank
    assert planned(one, algorithm, has_span_rewards=True)[0].credits is None


def test_a_control_token_takes_the_place_of_the_first() -> None:
    one = group([1.0, -1.0])
    trained = trained_samples(one, ALGORITHMS["quark"], control={1.0: 90, -1.0: 94})
    assert [sample.tokens[0] for sample in trained] == [90, 94]
    assert [sample.hidden for sample in trained] == [1, 1]
    for sample, trajectory in zip(trained, one.trajectories, strict=True):
        assert sample.tokens[1:].tolist() == trajectory.tokens[1:].tolist()


def test_a_token_that_no_engine_sampled_is_not_trained_on() -> None:
    one = group([1.0, -1.0])
    proven = tuple(sampled_by_an_engine(each) for each in one.trajectories)
    assert len(trained_samples(replace(one, trajectories=proven), REJ)) == 2
    changed = replace(proven[0], tokens=proven[0].tokens + np.int32(1))
    with pytest.raises(RuntimeError, match="turn 1 of a stream of 4 tokens is not what the engine sampled"):
        trained_samples(replace(one, trajectories=(changed, proven[1])), REJ)


def test_a_response_without_recorded_log_probabilities_has_none_to_train_against() -> None:
    one = group([1.0, -1.0])
    lost = replace(one.trajectories[0], logprobs=np.full(one.trajectories[0].tokens.size, np.nan, np.float32))
    trained = trained_samples(replace(one, trajectories=(lost, one.trajectories[1])), REJ)
    assert trained[0].sampler is None
    assert trained[1].sampler is not None


@given(st.lists(st.sampled_from([-1.0, 1.0, None]), min_size=1, max_size=10), st.integers(8, 200))
@settings(deadline=None)
def test_pairs_lie_side_by_side_in_every_micro_batch(scores: list[float | None], budget: int) -> None:
    if all(score is None for score in scores):
        return
    trained = trained_samples(group(scores), DPO)
    for batch in pack(trained, budget, together=2):
        signs = [trained[member].advantage for member in batch.members]
        assert signs == [1.0, -1.0] * (len(signs) // 2)
        assert [a + 1 for a in batch.members[::2]] == list(batch.members[1::2])


# ------------------------------------------------------------------------------------------------------ packing


@given(SIZES, st.integers(64, 1024))
@settings(deadline=None)
def test_packing_keeps_every_token_with_its_position_and_its_numbers(sizes: list[int], budget: int) -> None:
    given_samples = samples(sizes)
    seen: Counter[int] = Counter()
    for batch in pack(given_samples, budget):
        assert batch.tokens.size <= budget or batch.tokens.shape[0] == 1
        targets = batch.targets
        assert (batch.tokens.reshape(-1)[batch.states] == targets - 1).all()
        assert (batch.positions.reshape(-1)[batch.states] == targets % 1000 - 2).all()
        assert batch.advantages.tolist() == (targets // 1000).tolist()
        np.testing.assert_allclose(batch.sampler, -(targets % 1000 - 1) - 1000 * (targets // 1000))
        np.testing.assert_allclose(batch.weights, 1 / (targets // 1000 + 1))
        seen.update(targets.tolist())
    assert seen == Counter(token for sample in given_samples for token in sample.tokens[1:].tolist())


def test_a_turn_is_a_stretch_of_what_one_sequence_trains_on() -> None:
    given_samples = samples([6, 2])
    given_samples[0] = replace(given_samples[0], trained=np.array([0, 1, 1, 0, 0, 1, 1], bool))
    (batch,) = pack(given_samples, 4096)
    turns = dict(zip(batch.targets.tolist(), batch.turns.tolist(), strict=True))
    first = [turns[token] for token in (2, 3, 6, 7)]
    assert first == [first[0], first[0], first[0] + 1, first[0] + 1]
    assert turns[1002] == turns[1003]
    assert len({*turns.values()}) == 3


@given(SIZES, st.integers(64, 1024), st.sampled_from([1, 2]))
@settings(deadline=None)
def test_values_of_a_micro_batch_split_into_those_of_its_members(sizes: list[int], budget: int, together: int) -> None:
    given_samples = samples(sizes * together)
    found = {}
    for batch in pack(given_samples, budget, together):
        targets = batch.targets
        assert (np.array(batch.members)[batch.owners] == targets // 1000).all()
        found |= dict(zip(batch.members, batch.split(targets), strict=True))
    assert [found[index].tolist() for index in range(len(given_samples))] == [
        sample.tokens[1:].tolist() for sample in given_samples
    ]


@given(SIZES, st.integers(8, 1024), st.sampled_from([1, 2]))
@settings(deadline=None)
def test_padding_is_at_most_three_hundredths_of_every_micro_batch(sizes: list[int], budget: int, together: int) -> None:
    for batch in pack(samples(sizes * together), budget, together):
        assert batch.padding == batch.tokens.size - sum(sizes[member % len(sizes)] for member in batch.members)
        assert batch.padding <= 0.03 * batch.tokens.size


WORKLOADS = {  # (prompts, responses, budget): tokens of each of 256 prompts and responses, or of 8
    "the demo's": (lambda draw: (draw.integers(6, 11, 256), draw.integers(4, 21, 256)), 2048),
    "a long tail": (lambda draw: (draw.integers(6, 11, 256), 8 + draw.exponential(40, 256).clip(0, 248)), 8192),
    "log-normal": (lambda draw: (draw.integers(50, 200, 256), draw.lognormal(6, 1, 256).clip(1, 3896)), 16384),
    "tiny": (lambda draw: (draw.integers(6, 11, 8), draw.integers(4, 21, 8)), 2048),
    "tiny and uneven": (lambda draw: (draw.integers(50, 200, 8), draw.lognormal(6, 1, 8).clip(1, 3896)), 16384),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_padding_is_at_most_three_hundredths_on_every_rank(name: str) -> None:
    draw, budget = WORKLOADS[name]
    prompts, responses = draw(np.random.default_rng(0))
    sizes = (prompts + responses).astype(int).tolist()
    for share in balance(sizes, 2):
        batches = pack(samples([sizes[index] for index in share]), budget)
        assert sum(batch.padding for batch in batches) <= 0.03 * sum(batch.tokens.size for batch in batches)


def test_rows_are_not_much_longer_than_the_sequences_in_them() -> None:
    (batch,) = pack(samples([9] * 64), 1024)
    assert batch.tokens.shape == (64, 9)
    lengths = np.random.default_rng(0).integers(10, 40, 512).tolist()
    assert max(batch.tokens.shape[1] for batch in pack(samples(lengths), 4096)[:-1]) <= 4 * 40


def area_and_attention(rows: Rows, sizes: Sequence[int]) -> tuple[int, int]:
    """Tokens of these rows with their padding, and pairs of tokens that attention looks at."""
    width = max(sum(sizes[number] for number in row) for row in rows)
    return width * len(rows), width * width * len(rows)


def least_attention(sizes: Sequence[int], budget: int) -> int:
    """That of one micro-batch when rows of every number are tried."""
    total = sum(sizes)
    tried = (area_and_attention(balance(sizes, count), sizes) for count in range(1, len(sizes) + 1))
    return min(pairs for area, pairs in tried if area <= max(budget, total) and area - total <= PADDING * area)


@given(st.data(), st.lists(st.integers(1, 40), min_size=2, max_size=20))
@settings(deadline=None, max_examples=30)
def test_no_way_to_deal_gives_shorter_rows_than_the_bound(data: st.DataObject, sizes: list[int]) -> None:
    counts = np.arange(1, len(sizes) + 1)
    for count, bound in zip(counts.tolist(), packing._shortest(sizes, counts).tolist(), strict=True):
        places = data.draw(st.lists(st.integers(0, count - 1), min_size=len(sizes), max_size=len(sizes)))
        lengths = np.bincount(places, weights=sizes)
        assert bound <= min(lengths.max(), max(sum(sizes[i] for i in row) for row in balance(sizes, count)))


@pytest.mark.parametrize("name", [*WORKLOADS, "short"])
def test_few_numbers_of_rows_are_tried_and_attention_costs_about_what_it_does_when_all_are(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    short = {"short": (lambda draw: (draw.integers(4, 6, 512), draw.integers(2, 4, 512)), 4096)}
    draw, budget = (WORKLOADS | short)[name]
    prompts, responses = draw(np.random.default_rng(1))
    sizes = (prompts + responses).astype(int).tolist()
    dealt: list[int] = []
    monkeypatch.setattr(packing, "balance", lambda costs, count: dealt.append(count) or balance(costs, count))
    micro_batches = packed(sizes, budget)
    assert len(dealt) <= len(micro_batches) * (ROOMY + 2 * EVEN)
    found = sum(area_and_attention(rows, sizes)[1] for rows in micro_batches)
    units = [[sizes[number] for row in rows for number in row] for rows in micro_batches]
    assert found <= 1.05 * sum(least_attention(each, budget) for each in units)


@given(SIZES, st.integers(64, 4096), st.sampled_from([40, 800]))
@settings(deadline=None)
def test_where_attention_has_a_price_long_rows_are_cut_into_micro_batches(sizes: list[int], budget: int, width) -> None:
    def cost(micro_batches: Sequence[Rows]) -> int:
        shapes = [(len(rows), max(sum(sizes[number] for number in row) for row in rows)) for rows in micro_batches]
        return sum(height * long * (width + long) + packing.AGAIN * width for height, long in shapes)

    found = packed(sizes, budget, width)
    assert cost(found) <= cost(packed(sizes, budget))
    assert sorted(number for rows in found for row in rows for number in row) == list(range(len(sizes)))
    for rows in found:
        total, (area, _) = sum(sizes[number] for row in rows for number in row), area_and_attention(rows, sizes)
        assert area <= max(budget, total)
        assert area - total <= PADDING * area


def test_trees_of_a_few_long_prompts_do_not_see_each_other() -> None:
    sizes = [700, 640, 638, 420]
    assert [len(rows) for rows in packed(sizes, 4096)] == [1]  # one row for all of them
    assert packed(sizes, 4096, 800) == [[[0]], [[1], [2]], [[3]]]
    assert packed([9] * 64, 4096, 800) == packed([9] * 64, 4096)


def test_sequences_longer_than_the_budget_travel_alone() -> None:
    batches = pack(samples([300, 20, 30, 200, 40]), 100)
    assert sorted(batch.members for batch in batches if len(batch.members) == 1) == [(0,), (3,)]
    assert [batch.tokens.size for batch in batches] == [300, 200, 90]


def test_a_rank_without_work_gets_a_batch_that_weighs_nothing() -> None:
    batch = empty_batch()
    assert not batch.weights.any()
    assert batch.states.max() < batch.tokens.size
    assert pack([], 64) == []


def test_an_aggregation_can_be_chosen_for_any_algorithm() -> None:
    assert algorithm_of("raft", {"aggregate": "token-mean"}).aggregate == "token-mean"
    assert algorithm_of("raft", drop="both").drop is REJ.drop


def test_sequences_that_stay_alone_have_a_row_each_and_pairs_share_a_micro_batch() -> None:
    for together, sizes in itertools.product((1, 2), ([3, 40, 7, 7, 90, 2], [5] * 8, [200, 1])):
        given_samples = samples(sizes)
        batches = pack(given_samples, 128, together, alone=True)
        assert sorted(member for batch in batches for member in batch.members) == list(range(len(sizes)))
        for batch in batches:
            assert len(batch.tokens) == len(batch.members)
            assert batch.tokens.size <= 128 or len(batch.members) == together
            for row, member in enumerate(batch.members):
                tokens = given_samples[member].tokens[:-1]
                assert batch.tokens[row, : tokens.size].tolist() == tokens.tolist()
            first = [batch.members[place] for place in range(0, len(batch.members), together)]
            assert list(batch.members) == [number + more for number in first for more in range(together)]


def test_what_comes_after_the_last_state_that_predicts_leaves_the_input() -> None:
    tokens = np.arange(6, dtype=np.int32) + 10
    ends_by_a_tool = np.array([False, False, True, True, False, False])
    (batch,) = pack([Sample(tokens=tokens, trained=ends_by_a_tool, sampler=None, advantage=1.0, weight=1.0)], 64)
    assert batch.tokens.tolist() == [[10, 11, 12]]
    assert (batch.states.tolist(), batch.targets.tolist()) == ([1, 2], [12, 13])


def test_a_first_token_cannot_be_trained_on() -> None:
    (one,) = samples([3])
    with pytest.raises(ValueError, match="the first token of a sequence cannot be trained on"):
        pack([replace(one, trained=np.ones(4, bool))], 64)


# --------------------------------------------------------------------------------------------- sets of siblings


@pytest.mark.parametrize("name", [name for name, row in ALGORITHMS.items() if not row.credits_on_rank])
def test_a_group_of_two_sets_of_siblings_trains_as_two_groups_would(name: str) -> None:
    algorithm = ALGORITHMS[name]
    scores, names = [1.0, -1.0, -1.0, 1.0, 1.0, -1.0], "aaabbb"
    control = {1.0: 90, -1.0: 94} if algorithm.counts == "all" and name == "quark" else None
    whole = group(scores, [2, 3, 4, 5, 6, 7])
    halves = [
        replace(whole, trajectories=whole.trajectories[part], verdicts=whole.verdicts[part])
        for part in (slice(0, 3), slice(3, 6))
    ]
    together, apart = (
        plan_step(
            [summary_of(one) for one in groups], algorithm, updates=1, ranks=1, max_new_tokens=32, control=control
        )
        for groups in ([in_sets(whole, names)], halves)
    )
    (mine,), theirs = together.ranks[0].shares[:1], apart.ranks[0].shares[0]
    assert mine.totals == theirs.totals
    found = samples_of_group(in_sets(whole, names), mine.groups[0], algorithm, mine.totals)
    of_halves = {one.index: one for one in theirs.groups}
    wanted = [
        sample
        for number, half in enumerate(halves)
        for sample in samples_of_group(half, of_halves[number], algorithm, theirs.totals)
    ]
    assert [(s.advantage, s.weight, s.tokens.tolist()) for s in found] == [
        (s.advantage, s.weight, s.tokens.tolist()) for s in wanted
    ]


def test_a_set_that_the_rule_refuses_costs_nothing() -> None:
    one = in_sets(group([1.0, -1.0, 1.0, 1.0], [2, 3, 4, 5]), "aabb")
    credited, totals = planned(one, REJ)
    assert credited.left_out == {2, 3}
    assert (totals.tokens, totals.responses) == (5, 2)
    assert [sample.siblings for sample in samples_of_group(one, credited, REJ, totals)] == ["a", "a"]


# ------------------------------------------------------------------- more siblings than are trained on


def test_those_trained_on_have_the_credit_that_they_have_among_all() -> None:
    one = group([1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0], [2, 3, 4, 5, 6, 7, 8, 9])
    algorithm = replace(REJ, credit=ALGORITHMS["dr-grpo"].credit)  # r - mean r
    credited, totals = planned(one, algorithm, most_siblings=4)
    assert credited.left_out == {3, 4, 5, 6}
    trained = samples_of_group(one, credited, algorithm, totals)
    assert [sample.advantage for sample in trained] == [1.5, -0.5, -0.5, 1.5]  # the mean of all eight is -0.5
    assert (totals.responses, totals.tokens) == (4, 2 + 3 + 4 + 9)
    assert sum(sample.weight * sample.trained.sum() for sample in trained) == pytest.approx(1.0)


def test_without_a_limit_or_within_it_the_plan_is_what_it_was() -> None:
    one = group([1.0, -1.0, None, -1.0], [2, 3, 4, 5])
    wanted = planned(one, ALGORITHMS["grpo"])
    assert planned(one, ALGORITHMS["grpo"], most_siblings=3) == wanted
    assert planned(one, ALGORITHMS["grpo"], most_siblings=None) == wanted


def test_a_partner_is_one_that_is_trained_on() -> None:
    one = group([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], [2, 3, 4, 5, 6, 7])
    samples = trained_samples(one, DPO, most_siblings=3)
    assert [sample.advantage for sample in samples] == [1.0, -1.0]
    assert [sample.trained.sum() for sample in samples] == [2, 5]


def test_the_gradient_of_a_balanced_choice_is_that_of_the_pass_rate_times_what_the_docstring_says() -> None:
    """Responses of one token out of a policy over four, one of them correct: every group of six, weighed by its
    probability."""
    chances = np.array([0.3, 0.4, 0.2, 0.1])
    size, most, rate = 6, 2, 0.3
    found = np.zeros(4)
    for drawn in itertools.product(range(4), repeat=size):
        scores = np.array([1.0 if token == 0 else 0.0 for token in drawn])
        if not 0 < scores.sum() < size:
            continue
        chance = chances[list(drawn)].prod()
        chosen = largest_variance(scores, most)
        for place in chosen:
            slope = (np.arange(4) == drawn[place]) - chances  # of log p to the logits
            found += chance * (scores[place] - rate) * slope / most
    kept = 1 - rate**size - (1 - rate) ** size
    of_rate = rate * ((np.arange(4) == 0) - chances)
    np.testing.assert_allclose(found / kept, of_rate * (0.7**2 + 0.3**2) / (2 * 0.3 * 0.7))


@pytest.mark.parametrize("aggregate", Aggregation)
def test_a_continued_response_weighs_as_one_whose_tokens_lie_in_one_stream(aggregate: Aggregation) -> None:
    algorithm = replace(ALGORITHMS["grpo"], aggregate=aggregate)
    continued = in_sets(group([1.0, 1.0, -1.0], [2, 3, 4]), "aaa", continued=[1])
    whole = group([1.0, -1.0], [5, 4])
    parts, (first, second) = trained_samples(continued, algorithm), trained_samples(whole, algorithm)
    assert [sample.continues for sample in parts] == [False, True, False]
    assert [sample.weight for sample in parts] == [first.weight, first.weight, second.weight]
    assert [sample.advantage for sample in parts] == [first.advantage, first.advantage, second.advantage]


# ------------------------------------------------------------------------------------------------- two seats


def played(scores: Sequence[float]) -> Summary:
    """Of a game whose seats speak in turn."""
    one = group(scores, [2] * len(scores))
    seats = [replace(t, seat=("first", "second")[n % 2]) for n, t in enumerate(one.trajectories)]
    return summary_of(replace(one, trajectories=tuple(seats)))


def test_each_seat_has_the_mean_of_its_own_scores_for_a_baseline() -> None:
    # The first seat won three of four games: its win is worth less than that of the second.
    game, rae = played([1.0, -1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0]), ALGORITHMS["rae"]
    by_seat = scores_by_seat([game], rae, 8)
    assert {seat: of.tolist() for seat, of in by_seat.items()} == {"first": [1, 1, -1, 1], "second": [-1, -1, 1, -1]}
    plan = plan_step([game], rae, updates=1, ranks=1, max_new_tokens=8, baselines={"first": 0.5, "second": -0.5})
    assert plan.ranks[0].shares[0].groups[0].credits == (0.5, -0.5, 0.5, -0.5, -1.5, 1.5, 0.5, -0.5)
    new = plan_step([game], rae, updates=1, ranks=1, max_new_tokens=8).ranks[0].shares[0].groups[0]
    assert new.credits == game.scores
    other = plan_step([game], ALGORITHMS["reinforce"], updates=1, ranks=1, max_new_tokens=8, baselines={"first": 9.0})
    assert other.ranks[0].shares[0].groups[0].credits == game.scores

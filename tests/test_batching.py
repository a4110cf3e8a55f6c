from collections import Counter

import numpy as np
import pytest
from builders import group, summary
from hypothesis import given
from hypothesis import strategies as st

from learner.algorithms import AGGREGATIONS, ALGORITHMS, algorithm_of
from learner.batching import Sample, Totals, balance, empty_batch, pack, plan_updates, sequences_of, token_weight
from learner.settings import LearnerSettings

REJ, RAFT = ALGORITHMS["reinforce-rej"], ALGORITHMS["raft"]


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("token-mean", 16 / 6), ("seq-mean-token-mean", 2.5), ("seq-mean-token-sum", 8.0), ("constant", 1.0)],
)
def test_the_four_aggregations_on_the_worked_example(aggregate: str, expected: float) -> None:
    totals = Totals(tokens=6, responses=2, longest=8)
    losses = [[1, 3], [2, 2, 2, 6]]
    assert sum(token_weight(aggregate, len(row), totals) * sum(row) for row in losses) == pytest.approx(expected)
    assert len(AGGREGATIONS) == 4


def test_raft_counts_only_what_it_imitates() -> None:
    (plan,) = plan_updates([summary([1.0, -1.0, 1.0], [2, 3, 4])], RAFT, updates=1, ranks=1, longest=8)
    assert (plan.totals.tokens, plan.totals.responses) == (6, 2)
    trained = sequences_of(group([1.0, -1.0, 1.0], [2, 3, 4]), RAFT, plan.totals)
    assert [sample.trained.sum() for sample in trained] == [2, 4]


def test_unjudged_and_empty_responses_stand_in_no_denominator() -> None:
    scores, lengths = [1.0, None, -1.0, -1.0], [2, 5, 0, 3]
    (plan,) = plan_updates([summary(scores, lengths)], REJ, updates=1, ranks=1, longest=8)
    assert (plan.totals.tokens, plan.totals.responses) == (5, 2)
    assert len(sequences_of(group(scores, lengths), REJ, plan.totals)) == 2


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(1, 5), st.integers(1, 3))
def test_every_group_is_in_exactly_one_update_and_on_one_rank(sizes: list[int], ranks: int, updates: int) -> None:
    updates = min(updates, len(sizes))
    summaries = [summary([1.0, -1.0], [size, 1], id=number) for number, size in enumerate(sizes)]
    plans = plan_updates(summaries, REJ, updates=updates, ranks=ranks, longest=8)
    assert sorted(index for plan in plans for rank in plan.ranks for index in rank) == list(range(len(sizes)))
    assert sum(plan.totals.tokens for plan in plans) == sum(sizes) + len(sizes)


def test_ranks_get_about_the_same_number_of_tokens() -> None:
    costs = [100, 90, 50, 40, 10, 10]
    shares = balance(costs, 2)
    assert [sum(costs[index] for index in share) for share in shares] == [150, 150]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(64, 1024))
def test_packing_keeps_every_token_with_its_position_and_its_numbers(sizes: list[int], budget: int) -> None:
    samples = [
        Sample(
            tokens=np.arange(1, size + 2, dtype=np.int32) + 1000 * number,
            trained=np.arange(size + 1) > 0,
            old_logprobs=-np.arange(size + 1, dtype=np.float32) - 1000 * number,
            advantage=float(number),
            weight=1.0 / (number + 1),
        )
        for number, size in enumerate(sizes)
    ]
    batches = pack(samples, budget)
    seen: Counter[int] = Counter()
    for batch in batches:
        assert batch.tokens.size <= budget or batch.tokens.shape[0] == 1
        targets = batch.tokens.reshape(-1)[batch.targets]
        assert (batch.positions.reshape(-1)[batch.targets] == targets % 1000 - 1).all()
        assert batch.advantages.tolist() == (targets // 1000).tolist()
        np.testing.assert_allclose(batch.old_logprobs, -(targets % 1000 - 1) - 1000 * (targets // 1000))
        np.testing.assert_allclose(batch.weights, 1 / (targets // 1000 + 1))
        seen.update(targets.tolist())
    assert seen == Counter(token for sample in samples for token in sample.tokens[1:].tolist())


def test_many_short_responses_leave_little_padding() -> None:
    draw = np.random.default_rng(0)
    groups = [group([1.0] + [-1.0] * 7, draw.integers(10, 40, 8).tolist(), id=number) for number in range(64)]
    totals = Totals(tokens=1, responses=1, longest=1)
    batches = pack([sample for one in groups for sample in sequences_of(one, REJ, totals)], 4096)
    assert sum(b.padding for b in batches) <= 0.03 * sum(b.tokens.size for b in batches)


def test_a_rank_without_work_gets_a_batch_that_weighs_nothing() -> None:
    batch = empty_batch()
    assert not batch.weights.any()
    assert batch.targets.min() > 0


def test_an_aggregation_can_be_chosen_for_any_row() -> None:
    assert algorithm_of(LearnerSettings(algorithm="raft", aggregate="token-mean")).aggregate == "token-mean"
    assert algorithm_of(LearnerSettings(algorithm="raft"), keep="mixed").keep is REJ.keep

"""A group of several sets of siblings: the rule is asked about each, and the group is kept where any of them is."""

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.arrow import batch_of
from actors.filtering.rules import drop_both
from actors.filtering.siblings import has_verdicts, largest_variance, refusal, refusals, refused_rows
from tests.builders import group, in_sets, summary_of


def test_the_responses_of_one_set_are_what_a_group_is_where_nothing_else_is_said() -> None:
    (only,) = summary_of(group([1.0, None, -1.0])).sets
    assert (only.size, only.scored) == (3, (0, 1))


@pytest.mark.parametrize(
    ("scores", "names", "reasons", "reason"),
    [
        ([1.0, -1.0, 1.0, 1.0], "aabb", ["", "all_correct"], ""),
        ([1.0, 1.0, -1.0, -1.0], "aabb", ["all_correct", "all_wrong"], "all_correct"),
        ([1.0, None, -1.0, -1.0], "aabb", ["failed", "all_wrong"], "all_wrong"),
        ([1.0, None, None, -1.0], "aabb", ["failed", "failed"], "failed"),
        ([-1.0, 1.0, None, -1.0, 1.0], "aaabb", ["", ""], ""),
        ([1.0, 1.0, -1.0], "aab", ["all_correct", "all_wrong"], "all_correct"),  # a set of one has its verdict
    ],
)
def test_the_rule_is_asked_about_each_set(
    scores: list[float | None], names: str, reasons: list[str], reason: str
) -> None:
    found = summary_of(in_sets(group(scores), names))
    assert refusals(found, drop_both) == reasons
    assert refusal(found, drop_both) == reason
    assert has_verdicts(found) is (reason != "failed")


def test_a_response_that_is_continued_counts_once() -> None:
    found = summary_of(in_sets(group([1.0, 1.0, -1.0, -1.0], [2, 3, 4, 5]), "aaab", continued=[1]))
    assert found.scores == (1.0, -1.0, -1.0)
    assert found.lengths == found.scored_lengths == (5, 4, 5)
    assert found.siblings == (0, 0, 1)
    assert refusals(found, drop_both) == ["", "all_wrong"]


def test_of_a_group_that_is_trained_on_each_row_says_whether_its_response_is() -> None:
    one = in_sets(group([1.0, 1.0, -1.0, -1.0, None]), "aaabb", continued=[1])
    assert refused_rows(batch_of(one), drop_both) == ["", "", "", "failed", "failed"]
    assert refused_rows(batch_of(group([1.0, 1.0])), drop_both) == ["", ""]
    assert isinstance(batch_of(one).column("siblings"), pa.StringArray)


@pytest.mark.parametrize(
    ("scores", "size", "chosen"),
    [
        ([1, -1, -1, -1, 1, -1, 1, 1], 4, [0, 1, 2, 4]),  # two of each, the first that were sampled
        ([-1, -1, -1, 1, -1, -1], 4, [0, 1, 2, 3]),  # as far as there are
        ([0.2, 0.5, 0.9, 0.4, 0.1], 2, [2, 4]),  # the highest and the lowest
        ([0.0, 0.1, 0.2, 1.0], 3, [0, 1, 3]),  # 0, 0.1, 1 before 0, 0.2, 1
        ([1, 1, 1, 1], 2, [0, 1]),
        ([1, -1], 2, [0, 1]),
        ([1, -1, 1], 1, [1]),  # none varies: the lowest
    ],
)
def test_the_responses_of_largest_variance_on_worked_examples(
    scores: list[float], size: int, chosen: list[int]
) -> None:
    assert largest_variance(np.array(scores, np.float64), size).tolist() == chosen


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=7), st.integers(1, 7))
def test_no_other_responses_vary_more(scores: Sequence[int], size: int) -> None:
    found = largest_variance(np.array(scores, np.float64), size)
    assert len(set(found.tolist())) == found.size == min(size, len(scores))
    most = max(np.var(some) for some in itertools.combinations(scores, min(size, len(scores))))
    assert np.var([scores[place] for place in found]) == pytest.approx(most)


def test_of_more_responses_than_are_trained_on_each_row_says_which_are_spare() -> None:
    one = group([1.0, None, -1.0, -1.0, -1.0, 1.0, 1.0])
    assert refused_rows(batch_of(one), drop_both, most=4) == ["", "", "", "", "spare", "", "spare"]
    assert refused_rows(batch_of(one), drop_both, most=6) == [""] * 7
    assert refused_rows(batch_of(one), drop_both) == [""] * 7


def test_each_set_is_cut_by_itself_and_a_refused_one_says_why_it_is() -> None:
    one = in_sets(group([1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0], [2, 2, 3, 3, 4, 4, 4]), "aaaabbb", continued=[1])
    assert refused_rows(batch_of(one), drop_both, most=2) == ["", "", "", "spare", *["all_correct"] * 3]

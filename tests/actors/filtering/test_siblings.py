"""A group of several sets of siblings: the rule is asked about each, and the group is kept where any of them is."""

import pyarrow as pa
import pytest

from actors.arrow import batch_of
from actors.filtering.rules import drop_both
from actors.filtering.siblings import has_verdicts, refusal, refusals, refused_rows
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

"""What is said while nothing is learned."""

from dataclasses import replace

from actors.types import Summary
from cluster.reporting.hints import AFTER, AllWrong
from tests.builders import summary


def wrong(why: str) -> Summary:
    return replace(summary([-1.0, -1.0]), why_wrong=why)


def test_after_many_groups_without_a_correct_response_the_most_frequent_reason_is_said_once() -> None:
    seen = AllWrong()
    hints = [seen.add(wrong(f"answered '{number}', expected {2 * number}")) for number in range(AFTER - 10)]
    hints += [seen.add(wrong("there is no number")) for _ in range(20)]
    said = [hint for hint in hints if hint]
    assert len(said) == 1
    assert f"no response was correct in the last {AFTER} groups" in said[0]
    assert f"in {AFTER - 10} of them: answered '0', expected 0" in said[0]


def test_a_correct_response_begins_the_count_anew_and_a_group_without_verdicts_changes_nothing() -> None:
    seen = AllWrong()
    for _ in range(AFTER - 1):
        assert seen.add(wrong("no")) == ""
    assert seen.add(summary([None, None])) == ""
    assert seen.add(summary([1.0, -1.0])) == ""
    assert seen.hint() == ""
    assert [seen.add(wrong("no")) for _ in range(AFTER)].count("") == AFTER - 1


def test_a_summary_carries_why_its_first_wrong_response_is_wrong() -> None:
    assert summary([1.0, -1.0]).why_wrong == "so it is"
    assert summary([1.0, None]).why_wrong == ""


def test_responses_that_are_all_cut_or_all_empty_are_named_before_anybody_reads_them() -> None:
    cut, empty, whole = AllWrong(), AllWrong(), AllWrong()
    for _ in range(AFTER):
        cut.add(replace(summary([-1.0, -1.0], [9, 9]), truncated=2))
        empty.add(summary([-1.0, -1.0], [1, 1]))
        whole.add(summary([-1.0, -1.0], [9, 9]))
    assert f"{2 * AFTER} of {2 * AFTER} responses were cut at rollout.max_new_tokens" in cut.hint()
    assert f"{2 * AFTER} of {2 * AFTER} responses end at once" in empty.hint()
    assert "responses were" not in whole.hint()
    assert "end at once" not in whole.hint()

import pytest

from cluster.report.words import counted, ends, listed, number, share, short, trend
from cluster.reporting.words import aligned, duration


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.12345, "0.123"),
        (12345.0, "12,345"),
        (12345.6, "12,346"),
        (-3.8e-9, "-3.8e-09"),
        (0.0, "0"),
        (None, ""),
        (float("nan"), ""),
    ],
)
def test_a_number_has_the_digits_that_count(value: float | None, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "50 %"), (0.123, "12.3 %"), (1 / 3784, "0.026 %"), (0.0, "0 %"), (1.0, "100 %"), (None, "")],
)
def test_a_share_that_is_small_is_not_nothing(value: float | None, shown: str) -> None:
    assert share(value).replace("\u00a0", " ") == shown


def test_times_counts_and_lists_read_as_sentences() -> None:
    assert [duration(seconds) for seconds in (5.25, 61, 3725)] == ["5.25 s", "1 min 1 s", "1 h 2 min"]
    assert [duration(seconds) for seconds in (0, 600, 7201, 90_000)] == ["0 s", "10 min", "2 h", "1 d 1 h"]
    assert [counted(count, "step") for count in (0, 1, 1200)] == ["0 steps", "1 step", "1,200 steps"]
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert [short(count) for count in (0, 999, 1000, 999_500, 12_345_678)] == ["0", "999", "1k", "1M", "12.3M"]


def test_a_runs_beginning_and_end_are_means_where_it_is_long() -> None:
    assert ends([None, 1.0, 2.0, float("nan")]) == (1.0, 2.0, 1)
    assert ends([1.0] * 10 + [5.0] * 10) == (1.0, 5.0, 2)
    assert ends([1.0, None]) is None


def test_a_trend_says_what_the_numbers_do() -> None:
    assert trend("entropy", [0.25, 0.5]) == "Entropy rose from 0.25 in the first step to 0.5 in the last."
    assert trend("entropy", [0.5, 0.25]) == "Entropy fell from 0.5 in the first step to 0.25 in the last."
    assert trend("entropy", [0.9] * 10 + [0.1] * 10).startswith("Entropy fell from 0.9 in the first 2 steps to 0.1")
    assert trend("entropy", [0.5, 0.505]) == "Entropy stayed near 0.505 (from 0.5 at the beginning)."
    assert trend("entropy", [0.5, 0.5]) == "Entropy was 0.5 at the beginning and at the end."
    assert trend("entropy", [0.5]) == "Entropy was 0.5, known of one step only."
    assert trend("entropy", [None]) == "Entropy is not known."


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [("name", "steps"), ("a", "12")]
    assert aligned(rows) == ["name  steps", "a     12"]
    assert aligned(rows, numbers=True) == ["name  steps", "a        12"]

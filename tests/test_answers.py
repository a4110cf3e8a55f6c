from fractions import Fraction

import pytest

from rewards import Outcome, Scores, Verdict, grade
from rewards.answers import final_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8+7+0=15,5+6+1=12#525", 525),
        ("Natalia sold 48/2 = 24 clips.\n#### 72", 72),
        ("#### $1,234.50 in all", Fraction("1234.5")),
        ("The answer is 5. I checked 7 times", 5),
        ("the final answer: -3", -3),
        ("we go from 3-4", 4),
        ("x = -4", -4),
        ("so 1/2 of it", Fraction(1, 2)),
        ("2.50", Fraction(5, 2)),
        ("1e2", 100),
        ("first 10,20", 20),
        ("1/0", None),
        ("12#", None),
        ("####", None),
        ("no digits", None),
        ("", None),
    ],
)
def test_the_final_number_is_the_one_a_person_would_read(text: str, value: Fraction | None) -> None:
    assert final_number(text) == value


@pytest.mark.parametrize(
    ("reward", "response", "outcome"),
    [
        ("number", "it is 0.50", Outcome.CORRECT),
        ("number", "it is 0.5000001", Outcome.WRONG),
        ("number", "it is half", Outcome.UNPARSABLE),
        ("exact", " 1/2\n", Outcome.CORRECT),
        ("exact", "0.5", Outcome.WRONG),
        ("exact", "  ", Outcome.UNPARSABLE),
    ],
)
def test_an_outcome_follows_from_response_and_reference(reward: str, response: str, outcome: Outcome) -> None:
    verdict = grade(reward, response, "1/2", Scores())
    assert verdict.outcome is outcome
    assert verdict.score == (1.0 if outcome is Outcome.CORRECT else -1.0)
    assert verdict.why


def test_a_failing_grader_gives_an_error_without_a_score() -> None:
    verdict = grade("number", "7", "no number at all", Scores())
    assert (verdict.outcome, verdict.score) == (Outcome.ERROR, None)
    assert "no number at all" in verdict.why


def test_the_run_decides_what_an_outcome_is_worth() -> None:
    scores = Scores(wrong=0.0, correct=1.0)
    assert [grade("number", text, "7", scores).score for text in ("7", "8", "x")] == [1.0, 0.0, 0.0]


def test_a_verdict_without_a_score_must_say_that_it_is_none() -> None:
    with pytest.raises(ValueError, match=r"timeout with 0\.0"):
        Verdict(outcome=Outcome.TIMEOUT, score=0.0, why="late")

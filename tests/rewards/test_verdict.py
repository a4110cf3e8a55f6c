"""What of a text from outside comes into a verdict."""

import pytest

from rewards import Outcome, RewardResult, Verdict
from rewards.verdict import MOST_TEXT, valid_text
from tests.tables import each


@each(
    ("text", "valid"),
    [
        ("plain", "plain"),
        ("two\nlines\tand é 漢 🙂", "two\nlines\tand é 漢 🙂"),
        ("\udcff", "\\udcff"),
        ("\ud83d\ude00 apart", "\\ud83d\\ude00 apart"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\x00b\x7f\x85", "a\\x00b\\x7f\\x85"),
        ("over\rwritten", "over\\rwritten"),
        ("\u202eturned", "\\u202eturned"),
        ("\u2028", "\\u2028"),
        ("", ""),
    ],
)
def test_text_from_outside_becomes_text_that_everything_takes(text: str, valid: str) -> None:
    assert valid_text(text) == valid
    assert valid_text(valid) == valid
    valid_text(text).encode()


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    cut = valid_text("a" * 10**6 + "z" * 100)
    assert (cut[0], cut[-1], len(cut) <= MOST_TEXT) == ("a", "z", True)
    assert "[996140 more]" in cut
    assert valid_text(cut) == cut


@pytest.mark.parametrize("made", [RewardResult, Verdict])
def test_results_and_verdicts_hold_valid_text_whoever_makes_them(made: type[RewardResult] | type[Verdict]) -> None:
    score = {"score": -1.0} if made is Verdict else {}
    one = made(outcome=Outcome.WRONG, why="\udcff", parts={"a\udcff": 1.0, "b": 2.0}, **score)
    assert (one.why, dict(one.parts)) == ("\\udcff", {"a\\udcff": 1.0, "b": 2.0})

from pathlib import Path

import pytest

from rewards import Budget, Case, Outcome, RewardResult
from rewards.own import OwnSettings, check_own, own, own_group

CASE = Case(response="a", reference="b", prompt="c")


def settings(folder: Path, body: str) -> OwnSettings:
    file = folder / "mine.py"
    file.write_text(f"from rewards import *\ndef reward(response, reference, prompt):\n    {body}\n")
    return OwnSettings(file=str(file))


@pytest.mark.parametrize(
    ("body", "outcome", "reward"),
    [
        ("return True", Outcome.CORRECT, 1.0),
        ("return False", Outcome.WRONG, 0.0),
        ("return 0.25", Outcome.WRONG, 0.25),
        ("return (response, reference, prompt) == ('a', 'b', 'c')", Outcome.CORRECT, 1.0),
    ],
)
def test_a_truth_value_or_a_number_becomes_a_result(tmp_path: Path, body: str, outcome: Outcome, reward: float) -> None:
    said = own(CASE, settings(tmp_path, body))
    assert (said.outcome, said.reward) == (outcome, reward)


def test_a_result_is_taken_as_it_is(tmp_path: Path) -> None:
    said = own(CASE, settings(tmp_path, "return RewardResult(outcome=Outcome.UNPARSABLE, why='mumbled')"))
    assert said == RewardResult(outcome=Outcome.UNPARSABLE, why="mumbled")


@pytest.mark.parametrize("body", ["return 7", "return -0.1", "return float('nan')", "return 'good'", "return None"])
def test_anything_else_is_named(tmp_path: Path, body: str) -> None:
    with pytest.raises((TypeError, ValueError), match=r"reward\(\) of .*mine\.py gave"):
        own(CASE, settings(tmp_path, body))


def test_a_file_that_cannot_serve_is_named_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    for file, message in (
        ("", "file must be a Python file with a function reward or reward_group, got ''"),
        (str(tmp_path / "none.py"), "there is no file"),
        (str(tmp_path / "empty.py"), "defines no function reward"),
    ):
        with pytest.raises(ValueError, match=message):
            check_own(OwnSettings(file=file))


def test_a_file_may_compare_siblings_instead(tmp_path: Path) -> None:
    file = tmp_path / "group.py"
    file.write_text("def reward_group(responses, reference, prompt):\n    return [len(responses) == 1]\n")
    check_own(OwnSettings(file=str(file)))
    assert own(CASE, OwnSettings(file=str(file))).outcome is Outcome.CORRECT
    results = own_group([CASE], OwnSettings(file=str(file)), Budget())
    assert [result.reward for result in results] == [1.0]

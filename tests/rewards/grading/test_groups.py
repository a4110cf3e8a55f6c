"""Rewards that grade the siblings of a prompt together."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards import Case, Grader, Outcome, Question, RewardSettings

OWN = """
import os, time

def reward_group(responses, reference, prompt):
    if "sleep" in responses:
        time.sleep(1000)
    if "die" in responses:
        os._exit(3)
    if "raise" in responses:
        raise ArithmeticError("no such thing")
    if "few" in responses:
        return [1.0]
    longest = max(responses, key=len)
    return [response == longest and (reference, prompt) == ("7", "3+4") for response in responses]
"""
ALONE = "\ndef reward(response, reference, prompt):\n    return 0.25\n"
RIGHT, WRONG = Outcome.CORRECT, Outcome.WRONG


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    made = Grader()
    yield made
    made.close()


def settings(folder: Path, source: str = OWN, seconds: float = 30.0) -> RewardSettings:
    file = folder / "mine.py"
    file.write_text(source)
    tree = {"mine": {"kind": "own", "file": str(file)}, "both": {"kind": "sum", "weights": {"mine": 1, "number": 1}}}
    return RewardSettings.model_validate({"name": "mine", "seconds": seconds} | tree)


def asked(settings: RewardSettings, *responses: str, reward: str = "mine") -> list[Question]:
    cases = [Case(response=response, reference="7", prompt="3+4") for response in responses]
    return [Question(reward=reward, case=case, settings=settings) for case in cases]


def test_siblings_are_compared_and_one_without_text_is_among_them(grader: Grader, tmp_path: Path) -> None:
    verdicts = grader.grade_group(asked(settings(tmp_path), "is 7", "", "it is 7"))
    assert [verdict.outcome for verdict in verdicts] == [WRONG, WRONG, RIGHT]
    assert [verdict.score for verdict in verdicts] == [-1.0, -1.0, 1.0]


def test_in_a_combination_the_parts_that_do_not_compare_grade_each_sibling(grader: Grader, tmp_path: Path) -> None:
    verdicts = grader.grade_group(asked(settings(tmp_path), "7", "it is 8", "", reward="both"))
    assert [dict(verdict.parts) for verdict in verdicts] == [
        {"mine": 0.0, "number": 1.0},
        {"mine": 1.0, "number": 0.0},
        {"mine": 0.0, "number": 0.0},
    ]
    assert [verdict.score for verdict in verdicts] == [0.0, 0.0, -1.0]


@pytest.mark.parametrize(
    ("broken", "outcome", "why"),
    [
        pytest.param("sleep", Outcome.TIMEOUT, "no verdict within 4 s", marks=pytest.mark.slow),
        ("die", Outcome.ERROR, "status 3"),
        ("raise", Outcome.ERROR, "ArithmeticError: no such thing"),
        ("few", Outcome.ERROR, "gave 1 grades for 2 responses"),
    ],
)
def test_a_group_that_fails_costs_its_own_verdicts_and_no_others(
    grader: Grader, tmp_path: Path, broken: str, outcome: Outcome, why: str
) -> None:
    mine = settings(tmp_path, seconds=2.0 if outcome is Outcome.TIMEOUT else 30.0)
    lost = grader.grade_group(asked(mine, "7", broken))
    assert [(verdict.outcome, verdict.score) for verdict in lost] == [(outcome, None)] * 2
    assert all(why in verdict.why for verdict in lost)
    mine = settings(tmp_path, seconds=30.0)
    assert [verdict.outcome for verdict in grader.grade_group(asked(mine, "a", "it is 7"))] == [WRONG, RIGHT]


def test_a_response_without_siblings_is_graded_alone(grader: Grader, tmp_path: Path) -> None:
    (verdict,) = grader.grade(asked(settings(tmp_path), "7"))
    assert verdict.outcome is RIGHT  # the longest of a group of one
    both = settings(tmp_path / "..", OWN + ALONE)
    assert [verdict.score for verdict in grader.grade(asked(both, "7", "it is 7"))] == [-0.5, -0.5]
    assert [verdict.score for verdict in grader.grade_group(asked(both, "7", "it is 7"))] == [-1.0, 1.0]


def test_siblings_of_different_prompts_are_refused(grader: Grader, tmp_path: Path) -> None:
    mine = settings(tmp_path)
    other = Question(reward="mine", case=Case(response="8", reference="8", prompt="4+4"), settings=mine)
    with pytest.raises(ValueError, match="siblings have one prompt, reference and reward"):
        grader.grade_group([*asked(mine, "7"), other])


def test_a_reward_that_compares_nothing_grades_siblings_as_it_grades_all(grader: Grader) -> None:
    verdicts = grader.grade_group(asked(RewardSettings(), "7", "8", reward="number"))
    assert [verdict.outcome for verdict in verdicts] == [RIGHT, WRONG]

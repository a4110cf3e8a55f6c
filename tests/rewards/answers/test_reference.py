import json
from collections.abc import Iterator

import pytest

from rewards import Case, Grader, Outcome, Question, RewardSettings, Verdict
from rewards.answers.reference import answers_of, several
from tests.tables import each


@pytest.fixture(scope="module")
def graders() -> Iterator[Grader]:
    made = Grader()
    yield made
    made.close()


@each(
    ("reference", "answer"),
    [
        ('["34"]', "34"),
        (' ["\\\\frac{1}{2}"] ', "\\frac{1}{2}"),
        ('["a", "b"]', '["a", "b"]'),
        ("[34]", "[34]"),
        ("[1, 2]", "[1, 2]"),
        ('["a"', '["a"'),
        ('["a"]]', '["a"]]'),
        ("34", "34"),
        ("", ""),
    ],
)
def test_a_list_of_one_text_is_that_text(reference: str, answer: str) -> None:
    assert answers_of(reference) == (answer,)


@each("answers", [("Paris", "City of Paris"), ('a "b"', "c\nd", "é"), ("1", "1")])
def test_several_answers_come_back_from_their_reference_and_no_other_list_does(answers: tuple[str, ...]) -> None:
    assert answers_of(several(answers)) == answers
    for text in (json.dumps(answers), json.dumps(answers, indent=2), several(answers)[:-1]):
        assert answers_of(text) == (text,)


def test_any_of_several_answers_is_right(graders: Grader) -> None:
    def verdict(reward: str, response: str, *answers: str, partial: float = 0.0) -> Verdict:
        settings = RewardSettings.model_validate({reward: {"partial": partial}})
        case = Case(response=response, reference=several(answers))
        (found,) = graders.grade([Question(reward=reward, case=case, settings=settings)])
        return found

    for reward, first, second, wrong in (
        ("exact", "Paris", "the City of Paris", "Rome"),
        ("number", "3", "4", "5"),
        ("math", "\\boxed{\\frac12}", "\\boxed{x+1}", "\\boxed{7}"),
        ("choice", "A", "C", "B"),
    ):
        answers = (first, second)
        assert verdict(reward, first, *answers).outcome is Outcome.CORRECT
        assert verdict(reward, second, *answers).outcome is Outcome.CORRECT
        assert verdict(reward, "", *answers).outcome is Outcome.UNPARSABLE
        missed = verdict(reward, wrong, *answers, partial=0.1)
        assert (missed.outcome, missed.score) == (Outcome.WRONG, pytest.approx(-0.8))
        assert missed.why.endswith("nor is it another of the 2 right answers")
    assert verdict("exact", several(("Rome", "Oslo")), "Rome", "Oslo").outcome is Outcome.WRONG


def test_each_of_several_answers_must_be_one(graders: Grader) -> None:
    (found,) = graders.problems("number", [several(("3", "three"))], RewardSettings())
    assert "'three' holds no number" in found
    assert graders.problems("number", [several(("3", "4"))], RewardSettings()) == [""]


def test_rewards_of_final_answers_read_a_list_of_one(graders: Grader) -> None:
    for reward in ("number", "math", "exact"):
        case = Case(response="The answer is \\boxed{34}" if reward == "math" else "34", reference='["34"]')
        (verdict,) = graders.grade([Question(reward=reward, case=case, settings=RewardSettings())])
        assert verdict.outcome is Outcome.CORRECT, reward
        assert graders.problems(reward, ['["34"]'], RewardSettings()) == [""]

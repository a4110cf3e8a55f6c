from rewards import Case, Grader, Outcome, Question, RewardSettings
from rewards.answers.reference import the_answer
from tests.tables import each


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
    assert the_answer(reference) == answer


def test_rewards_of_final_answers_read_a_list_of_one() -> None:
    grader = Grader()
    try:
        for reward in ("number", "math", "exact"):
            case = Case(response="The answer is \\boxed{34}" if reward == "math" else "34", reference='["34"]')
            (verdict,) = grader.grade([Question(reward=reward, case=case, settings=RewardSettings())])
            assert verdict.outcome is Outcome.CORRECT, reward
            assert grader.problems(reward, ['["34"]'], RewardSettings()) == [""]
    finally:
        grader.close()

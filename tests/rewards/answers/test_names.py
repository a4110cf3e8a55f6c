import json

import pytest

from rewards import Case, Grader, Outcome, Question, RewardSettings
from rewards.answers.names import check_names, names
from tests.tables import each

GOLD = json.dumps(["a.py", "b.py"])


@each(
    ("response", "reference", "reward"),
    [
        ("a.py\nb.py\nc.py\nd.py", GOLD, 0.45455),  # P = .5, R = 1, halved: more names than wanted
        ("<think>c.py</think><answer>- `a.py`</answer>", GOLD, 0.52632),  # P = 1, R = .5
        ('["a.py", "b.py"]', GOLD, 1.0),
        ("1. a.py\n2) b.py", GOLD, 1.0),
        ("```\na.py\nb.py\n```", GOLD, 1.0),
        ("c.py", GOLD, 0.0),
        ("a.py\nz.py", '{"gold": ["a.py"], "known": ["a.py", "b.py"]}', 0.0),  # z.py is made up
        ("a.py", '{"gold": ["a.py"], "known": ["a.py", "b.py"]}', 1.0),
    ],
)
def test_names_are_worth_their_f_beta(response: str, reference: str, reward: float) -> None:
    said = names(Case(response=response, reference=reference))
    assert said.reward == pytest.approx(reward, abs=1e-5)
    assert (said.outcome is Outcome.CORRECT) == (reward > 0.5)


@each("response", ["", "<think>a.py", "<answer></answer>"])
def test_no_names_are_no_answer(response: str) -> None:
    assert names(Case(response=response, reference=GOLD)).outcome is Outcome.UNPARSABLE


@each("reference", ["a.py", "[]", "3", '{"known": ["a.py"]}', "[1, 2]"])
def test_a_reference_that_names_nothing_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match="the reference"):
        check_names(reference)


def test_a_wrong_answer_is_worth_more_than_none_with_partial_credit() -> None:
    settings = RewardSettings(name="number", number={"partial": 0.1}, correct=1.0, wrong=-1.0)
    grader = Grader()
    cases = [Case(response=response, reference="12") for response in ("12", "7", "none")]
    found = grader.grade([Question(reward="number", case=case, settings=settings) for case in cases])
    grader.close()
    assert [verdict.score for verdict in found] == pytest.approx([1.0, -0.8, -1.0])  # 1, 0.1 and 0 of the range

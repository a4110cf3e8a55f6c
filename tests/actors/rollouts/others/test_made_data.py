"""Questions that a library makes and grades, of classes made here in reasoning-gym's shape."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from actors.rollouts.others import MadeData
from actors.rollouts.others.made_data import answered, as_json, from_json
from rewards import Case, Outcome
from rewards.own import OwnSettings, own

MAKES = """
import random


class Sums:
    def __init__(self, terms, size=500, seed=None):
        self.terms, self.size, self.seed = terms, size, seed

    def __getitem__(self, place):
        draw = random.Random(self.seed + place)
        terms = tuple(draw.randint(1, 9) for _ in range(self.terms))
        return {"question": " + ".join(map(str, terms)) + " = ?", "answer": str(sum(terms)), "metadata": {1: terms}}

    def score_answer(self, answer, entry):
        assert isinstance(entry["metadata"][1], tuple)
        return 1.0 if int(answer) == sum(entry["metadata"][1]) else 0.1


def make(name, **told):
    assert name == "sums"
    return Sums(**told)
"""


def library() -> Any:
    """What makes the sets."""
    names: dict[str, Any] = {}
    exec(MAKES, names)
    return names["make"]


def test_rows_are_written_and_graded_with_all_that_the_library_knows(tmp_path: Path) -> None:
    data = MadeData(library(), {"sums": {"terms": 3}})
    assert data.write(tmp_path / "a.jsonl", 5, seed=7) == 5
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len({row["prompt"] for row in rows}) == 5
    right = json.loads(rows[0]["answer"])["entry"]["answer"]
    said = [f"<think>1</think> so <answer> {right} </answer>", right, "<answer>1</answer>", "no number", ""]
    assert [data.reward(each, rows[0]["answer"], "") for each in said] == [1.0, 1.0, 0.1, 0.0, 0.0]
    data.write(tmp_path / "b.jsonl", 5, seed=7)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_several_sets_have_equal_shares(tmp_path: Path) -> None:
    make = library()
    data = MadeData(lambda name, **told: make("sums", **told), {"short": {"terms": 2}, "long": {"terms": 9}})
    assert data.write(tmp_path / "a.jsonl", 7) == 7
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["prompt"].count("+") for row in rows] == [1, 8, 1, 8, 1, 8, 1]


def test_a_question_whose_own_answer_is_not_right_is_left_out(tmp_path: Path) -> None:
    class Half:
        def __getitem__(self, place: int) -> dict[str, str]:
            return {"question": "?", "answer": "right" if place % 2 else "odd"}

        def score_answer(self, answer: str, entry: Mapping[str, Any]) -> float:
            return float(answer == "right")

    assert MadeData(lambda name, **told: Half(), {"half": {}}).write(tmp_path / "a.jsonl", 6) == 3


def test_a_library_that_cannot_grade_its_own_answer_has_failed() -> None:
    data = MadeData(library(), {"sums": {"terms": 3}})
    broken = json.dumps({"set": "sums", "entry": {"question": "?", "answer": "5", "metadata": {}}})
    with pytest.raises(KeyError):
        data.reward("5", broken, "")


def test_what_is_no_entry_is_refused(tmp_path: Path) -> None:
    data = MadeData(lambda name, **told: [{"question": "?"}] * 3, {"odd": {}})
    with pytest.raises(ValueError, match=r"set 'odd' gave {'question': '\?'}: expected an entry with question and ans"):
        data.write(tmp_path / "a.jsonl", 1)


def test_it_is_the_reward_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "sums.py"
    file.write_text(
        f"{MAKES}\nfrom actors.rollouts.others import MadeData\n"
        "questions = MadeData(make, {'sums': {'terms': 2}})\nreward = questions.reward\n"
    )
    MadeData(library(), {"sums": {"terms": 2}}).write(tmp_path / "a.jsonl", 1)
    row = json.loads((tmp_path / "a.jsonl").read_text())
    right = json.loads(row["answer"])["entry"]["answer"]
    cases = [Case(response=said, reference=row["answer"]) for said in (right, "-1")]
    results = [own(case, OwnSettings(file=str(file))) for case in cases]
    assert [result.outcome for result in results] == [Outcome.CORRECT, Outcome.WRONG]


@pytest.mark.parametrize(
    "value",
    [(1, (2, "a")), {"a": [(1,)]}, {1: {"b": (2,)}, (3, 4): None}, {}, [], {"<tuple>": 1, "b": 2}, "text", 1.5],
    ids=str,
)
def test_tuples_and_keys_come_back_from_json(value: Any) -> None:
    assert from_json(json.loads(json.dumps(as_json(value)))) == value


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<answer>1</answer> or <answer>\n2 </answer>", "2"),
        ("<think><answer>1</answer></think> 3 ", "3"),
        ("4", "4"),
        ("", ""),
    ],
)
def test_the_answer_is_the_last_one_behind_the_thoughts(response: str, answer: str) -> None:
    assert answered(response) == answer

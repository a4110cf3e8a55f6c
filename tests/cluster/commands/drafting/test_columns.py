"""Data sets as people bring them: which columns ask, which answer, and which reward is found."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.data.files import FileRow
from actors.settings import DataSettings
from cluster.commands.drafting.columns import readings
from cluster.commands.drafting.trial import Trial, final_part, looks_like, trials
from cluster.preparing.graders import Graders
from rewards.programs.sandbox import sandbox_problem

Row = dict[str, Any]
TESTS = ["assert half(4) == 2", "assert half(6) == 3"]


@pytest.fixture(scope="module")
def graders() -> Iterator[Graders]:
    with Graders(1) as made:
        yield made


def tried(rows: Sequence[Row], graders: Graders, folder: Path, tree: Row | None = None, **given: Any) -> list[Trial]:
    file_rows = [FileRow(place=f"d:{number}", cells=row) for number, row in enumerate(rows, start=1)]
    found = readings(file_rows, DataSettings.model_validate({"path": "d", **given}), folder)
    return trials(found, file_rows, tree or {}, graders)


def answers(name: str, *values: object, asks: str = "question") -> list[Row]:
    return [{asks: f"What is it, {number}?", name: value} for number, value in enumerate(values)]


FORMS: list[tuple[str, list[Row], object, object, str]] = [
    ("gsm8k", answers("answer", "2 and 3 make 5\n#### 5", "10 less 3\n#### 7"), "question", "answer", "number"),
    (
        "math",
        answers("solution", "So \\boxed{\\frac12}", "\\boxed{x^2}", asks="problem"),
        "problem",
        "solution",
        "math",
    ),
    (
        "svamp",
        [{"Body": "Two apples.", "Question": "How many?", "Answer": 2.0}],
        ("Body", "Question"),
        "Answer",
        "number",
    ),
    ("words", answers("answer", "Paris", "the Rhine", "Ada Lovelace"), "question", "answer", "exact"),
    ("letters", answers("answerKey", "A", "C", "B"), "question", "answerKey", "choice"),
    (
        "options",
        [{"question": "Which?", "choices": {"text": ["red", "blue"], "label": ["A", "B"]}, "answerKey": "B"}],
        ("question", "choices.text"),
        "answerKey",
        "choice",
    ),
    (
        "verl",
        [{"prompt": [{"role": "user", "content": "1+1"}], "reward_model": {"ground_truth": "2"}}],
        "prompt",
        "reward_model.ground_truth",
        "number",
    ),
    (
        "sharegpt",
        [{"conversations": [{"from": "human", "value": "1+1"}, {"from": "gpt", "value": "so it is\n#### 2"}]}],
        "conversations.0.value",
        "conversations.1.value",
        "number",
    ),
    ("alpaca", [{"instruction": "Add", "input": "1, 2", "output": "3"}], ("instruction", "input"), "output", "number"),
    (
        "an object",
        answers("answer", {"ground_truth": "7", "made": "today"}),
        "question",
        "answer.ground_truth",
        "number",
    ),
    (
        "answers",
        answers("answer", ["Paris", "City of Paris"], ["Rome"], ["Ada Lovelace", "Lovelace"]),
        "question",
        "answer",
        "exact",
    ),
    (
        "target",
        [{"question": "Which?", "reward_model": {"ground_truth": {"target": ["Paris", "City of Paris"]}}}],
        "question",
        "reward_model.ground_truth.target",
        "exact",
    ),
    (
        "json text",
        [{"prompt": "1+1", "verification_info": '{"ground_truth": "2"}'}],
        "prompt",
        "verification_info.ground_truth",
        "number",
    ),
    ("a list of one", answers("answer", ["34"], ["5"]), "question", "answer", "number"),
]


@pytest.mark.parametrize(("name", "rows", "prompt", "answer", "reward"), FORMS, ids=[form[0] for form in FORMS])
def test_known_forms_are_found(
    name: str, rows: list[Row], prompt: object, answer: object, reward: str, graders: Graders, tmp_path: Path
) -> None:
    best = tried(rows, graders, tmp_path)[0]
    assert (best.reading.data.prompt_column, best.reading.data.answer_column) == (prompt, answer)
    assert (best.reward, best.share) == (reward, 1.0)


@pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem() or "there is a sandbox")
def test_programs_are_tried_with_the_solutions_of_the_data(graders: Graders, tmp_path: Path) -> None:
    rows = [
        {"text": "Halve.", "code": "def half(n): return n // 2", "test_list": TESTS, "test_setup_code": ""},
        {"text": "Halve.", "code": "def half(n): return n", "test_list": TESTS, "test_setup_code": "import math"},
    ]
    (best,) = tried(rows, graders, tmp_path)
    assert best.reading.data.prompt_column == ("text", "test_list.0")
    assert best.reading.data.answer_column == ("test_list", "test_setup_code")
    assert (best.reward, best.accepted, best.tried) == ("code", 1, 2)
    assert "d:2 has a right response that is graded wrong" in str(best.bad[0])


@pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem() or "there is a sandbox")
def test_tests_of_programs_may_lack_the_name_of_a_function(graders: Graders, tmp_path: Path) -> None:
    rows: list[Row] = [
        {"inputs": [[1]], "outputs": [2], "fn_name": "f", "solution": "def f(n):\n    return n + 1"},
        {"inputs": ["1\n"], "outputs": ["2\n"], "fn_name": None, "solution": "print(int(input())+1)"},
        {"inputs": ["1\n"], "outputs": ["3\n"], "solution": "print(int(input())+2)"},
    ]
    (best,) = tried([{"question": "Add."} | row for row in rows], graders, tmp_path)
    assert best.reading.data.answer_column == ("inputs", "outputs", "fn_name")
    assert (best.reward, best.share) == ("code", 1.0)


@pytest.mark.parametrize(
    "program",
    ["print(int(input())+1)", "import sys\nx=1", "f = lambda n: n+1", "#include <map>", "SELECT a FROM b WHERE c > 1"],
)
def test_programs_are_no_answers(program: str, graders: Graders, tmp_path: Path) -> None:
    assert tried(answers("solution", program, program), graders, tmp_path) == []


def test_queries_are_tried_on_the_databases_beside_the_data(graders: Graders, tmp_path: Path) -> None:
    (tmp_path / "databases").mkdir()
    with sqlite3.connect(tmp_path / "databases/shop.sqlite") as shop:
        shop.execute("create table item as select 1 as price")
    rows = [{"question": "How many?", "evidence": "", "db_id": "shop", "SQL": "select count(*) from item"}]
    best = tried(rows, graders, tmp_path)[0]
    assert best.reading.data.answer_column == ("SQL", "db_id")
    assert best.reading.settings == {"databases": str(tmp_path / "databases")}
    assert (best.reward, best.share) == ("sql", 1.0)


def test_the_reward_that_finds_most_references_right_wins_and_of_equals_the_strictest(
    graders: Graders, tmp_path: Path
) -> None:
    found = tried(answers("answer", "7", "x+1", "\\frac{1}{3}", "8"), graders, tmp_path)
    assert [(trial.reward, trial.accepted) for trial in found] == [("math", 4), ("exact", 4), ("number", 2)]
    numbers = tried(answers("answer", "7", "-8", "1,000"), graders, tmp_path)
    assert [trial.reward for trial in numbers if trial.share == 1.0] == ["number", "math", "exact"]


def test_places_of_options_are_no_numbers(graders: Graders, tmp_path: Path) -> None:
    rows = [{"question": "Which?", "choices": ["red", "blue"], "answer": place} for place in (0, 1, 1)]
    assert tried(rows, graders, tmp_path) == []


def test_what_a_person_says_is_not_guessed(graders: Graders, tmp_path: Path) -> None:
    rows = [{"q": "1+1", "a": "2", "answer": "nonsense of many words that nobody can use for anything at all"}]
    (best, *_) = tried(rows, graders, tmp_path, prompt_column="q", answer_column="a")
    assert (best.reading.data.prompt_column, best.reading.data.answer_column, best.reward) == ("q", "a", "number")
    (chosen,) = tried(rows, graders, tmp_path, {"name": "exact"}, prompt_column="q", answer_column="a")
    assert chosen.reward == "exact"


def test_a_reward_of_ones_own_is_tried_too(graders: Graders, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def reward(response, reference, prompt):\n    return 1.0\n")
    tree = {"name": "own", "own": {"file": str(tmp_path / "mine.py")}}
    (best,) = tried(answers("answer", "a long text " * 20), graders, tmp_path, tree)
    assert (best.reward, best.share) == ("own", 1.0)


def test_rows_that_cannot_be_used_are_named(graders: Graders, tmp_path: Path) -> None:
    found = tried(answers("answer", "1", float("nan"), "3"), graders, tmp_path)
    assert (found[0].accepted, found[0].tried) == (2, 3)
    assert str(found[0].bad[0]) == "d:2 has in column 'answer' nan, which is no value"


def test_an_answer_is_what_stands_behind_the_marker_or_in_the_box() -> None:
    assert final_part("so 3 < 4\n#### 12") == "12"
    assert final_part("\\boxed{\\frac{1}{2}}") == "\\frac{1}{2}"
    assert not looks_like("number", "He had 3 of 4 apples and gave 2 away")
    assert not looks_like("choice", "I think so")
    assert looks_like("choice", "(B) the second")
    assert not looks_like("exact", json.dumps(["a"] * 40))

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from tests.rewards.models.test_models import write
from tests.tables import each
from tests.tokenizers import NO_SYSTEM

ROWS: list[dict[str, Any]] = [
    {"reward": "number", "response": "it is 7", "reference": "7", "expected": "correct"},
    {"reward": "number", "response": "it is 8", "reference": "7", "expected": "correct"},
    {"reward": "choice", "response": "(B)", "reference": "B", "expected": "correct"},
    {"response": "none", "reference": "7", "expected": "wrong"},
    {"reward": "exact", "response": "x", "reference": "", "expected": "wrong", "mine": [1]},
]


def cases(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_every_row_gets_its_outcome_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "graded.jsonl"
    assert main(["grade", str(cases(tmp_path, ROWS)), "--out", str(out), "--workers", "1"]) == 0
    graded = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["outcome"] for row in graded] == ["correct", "wrong", "correct", "unparsable", "error"]
    assert [row["score"] for row in graded] == [1.0, -1.0, 1.0, -1.0, None]
    assert all(row["why"] for row in graded)
    assert [{key: row[key] for key in wanted} for row, wanted in zip(graded, ROWS, strict=True)] == ROWS
    table = capsys.readouterr().err
    assert "right" in table
    assert "2 of 3" in table  # number: the second was expected to be correct


def test_without_a_file_the_rows_go_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grade", str(cases(tmp_path, ROWS[:1])), "reward.correct=2"]) == 0
    assert json.loads(capsys.readouterr().out)["score"] == 2.0


def test_of_a_list_of_references_any_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"response": said, "reference": ["Paris", "City of Paris"]} for said in ("City of Paris", "Rome")]
    assert main(["grade", str(cases(tmp_path, rows)), "reward.name=exact", "--workers", "1"]) == 0
    found = [json.loads(line)["outcome"] for line in capsys.readouterr().out.splitlines()]
    assert found == ["correct", "wrong"]


BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"response": "7"}, "has no 'reference' (columns there: response), and the reward 'number' compares with one: add"),
    ({"response": None, "reference": "7"}, "has no 'response' (columns there: response, reference)"),
    ({"response": "7", "reference": "7", "reward": "nmber"}, "asks for the reward 'nmber'; there"),
    ({"response": "7", "reference": float("nan")}, "has in column 'reference' nan, which is no value"),
    ({"response": "7 \ud83d", "reference": "7"}, "has in column 'response' half of a character"),
    ({"response": "7", "reference": "7", "expected": "right"}, "has 'right' in column 'expected', expected correct"),
    ({"response": "7", "reference": "7", "tokens": 1.5}, "has 1.5 in column 'tokens', expected a whole number"),
]


def test_bad_rows_are_named_and_the_others_are_graded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [ROWS[0] | {"tokens": 5.0, "odd": "\ud83d"}, *(row for row, _ in BAD_ROWS), ROWS[2]]
    assert main(["grade", str(cases(tmp_path, rows)), "--workers", "1"]) == 2
    captured = capsys.readouterr()
    for line, (_, said) in enumerate(BAD_ROWS, start=2):
        assert f"cases.jsonl:{line} {said}" in captured.err
    assert "rows that could not be graded: 7 of 9" in captured.err
    assert [json.loads(line)["outcome"] for line in captured.out.splitlines()] == ["correct", "correct"]


def test_lines_that_cannot_be_read_cost_only_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = cases(tmp_path, ROWS[:2])
    file.write_text(file.read_text() + "\n{\n" + "[" * 100_000 + "\n" + json.dumps(ROWS[2]))
    assert main(["grade", str(file), "--workers", "1"]) == 2
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    assert "cases.jsonl:3 is not JSON" in captured.err
    assert "cases.jsonl:4 is nested too deeply" in captured.err


def test_a_file_without_a_row_to_grade_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grade", str(cases(tmp_path, [{"response": "7"}]))]) == 2
    assert "no row of" in capsys.readouterr().err


@each(
    ("settings", "said"),
    [
        (["reward.name=own"], "reward.own.file must be a Python file with a function reward or reward_group, got ''"),
        (["reward.name=own", "reward.own.file=none.py"], "reward.own.file must be a Python file, and there is no file"),
        (["reward.name=sql"], "reward.sql.databases must be"),
        (["reward.name=model"], "reward.model.path must be a model folder"),
        (["reward.name=judge"], "reward.judge.url must be set to an endpoint"),
    ],
)
def test_a_reward_that_cannot_be_used_is_one_message_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], said: str
) -> None:
    row = {"response": "7", "reference": json.dumps({"query": "SELECT 1", "db_name": "a"})}
    out = tmp_path / "graded.jsonl"
    arguments = ["grade", str(cases(tmp_path, [row, row])), "--workers", "1", "--out", str(out), *settings]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"winnow: {said}")
    assert captured.err.count("\n") == 1
    assert not out.exists()


def test_the_cases_themselves_are_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = cases(tmp_path, ROWS)
    before = file.read_text()
    assert main(["grade", str(file), "--out", str(tmp_path / "." / "cases.jsonl"), "--workers", "1"]) == 2
    assert "is the file that is read: give another" in capsys.readouterr().err
    assert file.read_text() == before


def test_rewards_that_compare_with_nothing_need_no_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("def reward(response, reference):\n    return reference == ''\n")
    said = "<think>a</think><answer>b</answer>"
    rows = [{"prompt": "q", "response": said, "reward": reward} for reward in ("format", "own", "sum")]
    settings = [f"reward.own.file={tmp_path}/mine.py", "reward.sum.weights={format=1,own=1}", "reward.name=format"]
    assert main(["grade", str(cases(tmp_path, [*rows, {"response": said}])), "--workers", "1", *settings]) == 0
    assert [json.loads(line)["outcome"] for line in capsys.readouterr().out.splitlines()] == ["correct"] * 4


SAID = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]


@each(
    ("row", "settings", "told"),
    [
        ({"prompt": SAID}, (), SAID),
        ({"prompt": json.dumps(SAID)}, (), SAID),
        ({"prompt": SAID[1:], "mine": "s"}, ("data.system_column=mine", "data.system=other"), SAID),
        ({"prompt": "q"}, ("data.system=s",), SAID),
        ({"prompt": "q"}, (), SAID[1:]),
        ({"prompt": "<q>", "prompt_id": "7", "question": "q", "messages": SAID}, (), SAID),  # that a run wrote
        ({"prompt": "<q>", "prompt_id": "7", "question": "q", "messages": []}, (), SAID[1:]),
        ({"prompt": "q", "messages": SAID}, (), SAID[1:]),  # which may hold the response too
    ],
)
def test_rewards_are_given_the_messages_of_a_row(
    tmp_path: Path, row: dict[str, Any], settings: tuple[str, ...], told: list[dict[str, str]]
) -> None:
    (tmp_path / "mine.py").write_text(f"def reward(response, messages):\n    return messages == {told}\n")
    mine = ("reward.name=own", f"reward.own.file={tmp_path}/mine.py", *settings)
    out = tmp_path / "graded.jsonl"
    assert main(["grade", str(cases(tmp_path, [row | {"response": "a"}])), "--out", str(out), *mine]) == 0
    assert json.loads(out.read_text())["outcome"] == "correct"


def test_messages_that_a_reward_model_refuses_are_named_and_the_others_are_graded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "scorer", "whole")
    (tmp_path / "scorer/chat_template.jinja").write_text(NO_SYSTEM)
    rows = [{"prompt": SAID, "response": "a"}, {"prompt": "q", "response": "a"}]
    settings = ["reward.name=model", f"reward.model.path={tmp_path}/scorer"]
    assert main(["grade", str(cases(tmp_path, rows)), "--workers", "1", *settings]) == 2
    said = capsys.readouterr()
    assert "cases.jsonl:1 has messages that the reward model's chat template refuses (system, user" in said.err
    assert [json.loads(line)["prompt"] for line in said.out.splitlines()] == ["q"]


def test_a_misspelt_setting_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grade", str(cases(tmp_path, ROWS)), "reward.nam=math"]) == 2
    assert "unknown setting reward.nam, did you mean reward.name?" in capsys.readouterr().err
    assert main(["grade", str(cases(tmp_path, ROWS)), "eval.every=1"]) == 2
    assert "unknown setting eval: of sections there are data, reward, model, rollout here" in capsys.readouterr().err


GROUPS = (
    "def reward_group(responses, reference, prompt):\n    return [r == max(responses, key=len) for r in responses]\n"
)


def test_rows_of_a_group_are_graded_together_where_the_reward_compares_them(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GROUPS)
    rows: list[dict[str, Any]] = [
        {"response": "a", "reference": "", "group": 1},
        {"response": "long", "reference": "", "group": 2},
        {"response": "abc", "reference": "", "group": 1},
        {"response": "alone", "reference": ""},
        {"response": "longer", "reference": "", "group": 2},
        {"reward": "number", "response": "7", "reference": "7", "group": 2},
    ]
    out = tmp_path / "graded.jsonl"
    settings = ["reward.name=mine", "reward.mine.kind=own", f"reward.mine.file={tmp_path}/mine.py"]
    assert main(["grade", str(cases(tmp_path, rows)), "--out", str(out), "--workers", "2", *settings]) == 0
    graded = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["response"] for row in graded] == [row["response"] for row in rows]
    assert [row["outcome"] for row in graded] == ["wrong", "wrong", "correct", "correct", "correct", "correct"]


def test_siblings_with_different_references_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(GROUPS)
    rows = [{"response": "a", "reference": "1", "group": 1}, {"response": "b", "reference": "2", "group": 1}]
    settings = ["reward.name=own", f"reward.own.file={tmp_path}/mine.py"]
    assert main(["grade", str(cases(tmp_path, rows)), *settings]) == 2
    said = capsys.readouterr().err
    assert "is of the group '1', in which" in said
    assert "cases.jsonl:2 has the reference '2' and " in said
    assert "cases.jsonl:1 the reference '1': siblings answer one prompt" in said

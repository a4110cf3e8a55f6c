import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.commands.check import check_data
from cluster.config.errors import ConfigError
from cluster.config.reading import grading_config
from cluster.preparing.graders import Graders

Row = dict[str, Any]


@pytest.fixture(scope="module")
def graders() -> Iterator[Graders]:
    with Graders(1) as made:
        yield made


def checked(folder: Path, graders: Graders, rows: list[Row | str], *settings: str) -> tuple[int, str]:
    file = folder / "data.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    said: list[str] = []
    bad = check_data(grading_config(settings, str(file)), said.append, graders)
    return bad, "\n".join(said).replace(f"{folder}/", "")


def test_good_data_says_how_much_there_is(tmp_path: Path, graders: Graders) -> None:
    bad, said = checked(tmp_path, graders, [{"prompt": "1+1", "answer": "2"}, {"prompt": "2+2", "answer": 4}])
    assert bad == 0
    assert said == (
        "data.jsonl: 2 rows\n"
        "references that responses can be graded against: 2 of 2\n"
        "references graded as responses: 2 correct"
    )


def test_every_bad_row_is_named_by_its_line(tmp_path: Path, graders: Graders) -> None:
    rows = [{"prompt": "a", "answer": "two"}, "", {"prompt": "b"}, {"prompt": "c", "answer": "3"}]
    bad, said = checked(tmp_path, graders, rows)
    assert bad == 2
    assert "data.jsonl:3 has no text in column 'answer' (columns there: prompt)" in said
    assert "data.jsonl:1: the reference 'two' holds no number" in said
    assert "references that responses can be graded against: 1 of 2" in said


def test_rows_may_name_their_reward_and_an_unknown_one_is_named(tmp_path: Path, graders: Graders) -> None:
    rows = [
        {"prompt": "a", "answer": "(B)", "kind": "choice"},
        {"prompt": "b", "answer": "7", "kind": "nmber"},
        {"prompt": "c", "answer": "no letters", "kind": "choice"},
    ]
    bad, said = checked(tmp_path, graders, rows, "data.reward_column=kind")
    assert bad == 2
    assert "data.jsonl:2 asks for the reward 'nmber'; there are exact, choice" in said
    assert "data.jsonl:3: " in said


def test_several_columns_become_one_reference(tmp_path: Path, graders: Graders) -> None:
    rows = [
        {"text": "add", "test_list": ["assert add(1, 2) == 3"], "test_setup_code": "import math"},
        {"text": "add", "test_list": ["assert add(1, 2"], "test_setup_code": ""},  # all but the first may be empty
    ]
    settings = ("data.prompt_column=text", 'data.answer_column=["test_list","test_setup_code"]', "reward.name=code")
    bad, said = checked(tmp_path, graders, rows, *settings)
    assert bad == 1
    assert "data.jsonl:2: " in said


def test_columns_that_no_row_has_are_a_mistake_of_the_settings(tmp_path: Path, graders: Graders) -> None:
    with pytest.raises(ConfigError, match=r"no row can be used: .*data\.jsonl:1 has no text .*Set data\.prompt_column"):
        checked(tmp_path, graders, [{"question": "a", "answer": "1"}] * 3)


def test_a_line_that_is_no_json_ends_the_check(tmp_path: Path, graders: Graders) -> None:
    with pytest.raises(ConfigError, match=r"data\.jsonl:2 is not JSON"):
        checked(tmp_path, graders, [{"prompt": "a", "answer": "1"}, "{"])


def test_the_command_ends_with_the_status_of_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"prompt": "a", "answer": "two"}')
    assert main(["check", str(file)]) == 2
    assert f"{file}:1: the reference 'two' holds no number" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "none.jsonl")]) == 2
    assert "there is no data file" in capsys.readouterr().err

"""What is held out: a test file beside the data, or rows at its end."""

import json
from pathlib import Path

import pytest

from actors.settings import DataSettings
from cluster.commands.drafting.splits import is_held_out, split, training_path

COLUMNS = DataSettings(path="train.jsonl")


def written(folder: Path, *names: str, column: str = "prompt") -> None:
    for name in names:
        (folder / name).write_text(json.dumps({column: "1+1", "answer": "2"}) + "\n")


@pytest.mark.parametrize("name", ["test.jsonl", "gsm8k_valid.jsonl", "dev-00000-of-00001.jsonl", "held_out.jsonl"])
def test_a_test_file_with_the_columns_of_the_data_is_evaluated_on(tmp_path: Path, name: str) -> None:
    written(tmp_path, "train.jsonl", name, "latest.jsonl")
    found = split(str(tmp_path / "train.jsonl"), 1000, COLUMNS)
    assert (found.eval_path, found.rows, found.eval_rows) == (str(tmp_path / name), "", "")


def test_a_file_with_other_columns_is_none(tmp_path: Path) -> None:
    written(tmp_path, "train.jsonl")
    written(tmp_path, "test.jsonl", column="text")
    assert split(str(tmp_path / "train.jsonl"), 1000, COLUMNS).eval_path == ""


def test_without_one_the_last_rows_are_held_out_where_there_are_enough(tmp_path: Path) -> None:
    written(tmp_path, "train.jsonl")
    found = split(str(tmp_path / "train.jsonl"), 1000, COLUMNS)
    assert (found.rows, found.eval_rows) == (":-100", "-100:")
    assert split(str(tmp_path / "train.jsonl"), 99, COLUMNS).eval_rows == ""


def test_of_a_folder_only_the_training_files_are_trained_on(tmp_path: Path) -> None:
    written(tmp_path, "train.jsonl", "test.jsonl")
    assert training_path(str(tmp_path))[0] == str(tmp_path / "train.jsonl")
    written(tmp_path, "train-2.jsonl")
    path, why = training_path(str(tmp_path))
    assert (path, why) == (f"{tmp_path}/train*", "test.jsonl beside them is held out")


def test_a_folder_without_test_files_is_taken_as_it_is(tmp_path: Path) -> None:
    written(tmp_path, "a.jsonl", "b.jsonl")
    assert training_path(str(tmp_path)) == (str(tmp_path), "")


def test_a_file_by_the_name_of_a_test_file_is_known_as_one(tmp_path: Path) -> None:
    written(tmp_path, "test.jsonl", "contest.jsonl")
    assert is_held_out(str(tmp_path / "test.jsonl"))
    assert not is_held_out(str(tmp_path / "contest.jsonl"))

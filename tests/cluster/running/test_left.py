"""Rows that environments leave, from the trajectories of a run to files of JSON lines."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from actors.arrow import packed
from actors.filtering.recorder import Recorder
from actors.types import Group, LeftRow
from cluster.config.run_files import TRAJECTORIES
from cluster.running.left import left_at_end, write_left
from cluster.running.rewinding import rewind
from tests.builders import group


def leaving(number: int, **rows: list[dict[str, Any]]) -> Group:
    """A group whose second response has left rows."""
    plain = group([1.0, -1.0], id=number)
    left = tuple(LeftRow(name, json.dumps(row)) for name, some in rows.items() for row in some)
    return replace(plain, trajectories=(plain.trajectories[0], replace(plain.trajectories[1], left=left)))


def record(folder: Path, steps: dict[int, list[Group]]) -> None:
    recorder = Recorder(folder / TRAJECTORIES, min(steps), takes_over=True)
    for step, groups in steps.items():
        for number, each in enumerate(groups):
            recorder.write([packed(each)], "all correct" if number % 2 else "")  # a rejected group's count as well
        recorder.close_step(step)


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_rows_lie_in_a_file_of_each_name_in_the_order_of_steps_and_groups(tmp_path: Path) -> None:
    record(
        tmp_path,
        {
            9: [leaving(3, steps=[{"n": 3}]), leaving(2, steps=[{"n": 1}, {"n": 2}], pairs=[{"é": "\n"}])],
            10: [leaving(4, steps=[{"n": 4}]), group([1.0, 0.0], id=5)],
        },
    )
    assert write_left(tmp_path) == {"left/pairs.jsonl": 1, "left/steps.jsonl": 4}
    assert lines(tmp_path / "left/steps.jsonl") == [{"n": n} for n in (1, 2, 3, 4)]
    assert lines(tmp_path / "left/pairs.jsonl") == [{"é": "\n"}]
    assert write_left(tmp_path) == {"left/pairs.jsonl": 1, "left/steps.jsonl": 4}  # as often as one likes


def test_a_run_that_goes_on_from_a_step_has_each_row_once(tmp_path: Path) -> None:
    record(tmp_path, {1: [leaving(0, steps=[{"n": 0}])], 2: [leaving(1, steps=[{"n": 1}], pairs=[{}])]})
    write_left(tmp_path)
    rewind(tmp_path, 1)
    record(tmp_path, {2: [leaving(1, steps=[{"n": 1}])]})
    record(tmp_path, {2: [leaving(1, steps=[{"n": 1}])]})  # a filter that takes over is given it again
    assert write_left(tmp_path) == {"left/steps.jsonl": 2}
    assert lines(tmp_path / "left/steps.jsonl") == [{"n": 0}, {"n": 1}]
    assert not (tmp_path / "left/pairs.jsonl").exists()


def test_where_nothing_was_left_there_is_no_folder(tmp_path: Path) -> None:
    record(tmp_path, {1: [group([1.0, -1.0], id=0)]})
    file = next((tmp_path / TRAJECTORIES).glob("step-1/*.parquet"))
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["left"]), file.with_name("groups-2.parquet"))  # as older runs wrote it
    said: list[str] = []
    with left_at_end(tmp_path, said.append):
        pass
    assert not (tmp_path / "left").exists()
    assert said == []


def test_rows_are_written_however_a_run_ends_and_where_they_are_is_said(tmp_path: Path) -> None:
    record(tmp_path, {1: [leaving(0, steps=[{"n": 0}, {"n": 1}])]})
    said: list[str] = []
    with pytest.raises(RuntimeError, match="starved"), left_at_end(tmp_path, said.append):
        raise RuntimeError("starved")
    assert said == [f"rows that the environment has left, in {tmp_path}: left/steps.jsonl (2)"]
    (tmp_path / TRAJECTORIES / "step-1" / "groups-3.parquet").write_text("no Parquet")
    with left_at_end(tmp_path, said.append):
        pass
    assert said[1].startswith(f"the rows that the environment has left are in {tmp_path / TRAJECTORIES} alone: ")
    assert lines(tmp_path / "left/steps.jsonl") == [{"n": 0}, {"n": 1}]  # as they were

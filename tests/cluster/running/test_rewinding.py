"""A run folder that is brought back to a step holds nothing of later ones, and loses nothing."""

import json
from pathlib import Path

from cluster.running.rewinding import rewind


def run_folder(folder: Path) -> Path:
    lines = [json.dumps({"step": step, "accuracy": step / 10}) + "\n" for step in range(1, 6)]
    (folder / "metrics.jsonl").write_text("".join(lines) + '{"step": 6, "acc')
    (folder / "evals.jsonl").write_text("".join(lines[1::2]))
    for step in range(1, 8):
        (folder / f"trajectories/step-{step}").mkdir(parents=True)
        (folder / f"trajectories/step-{step}/groups.parquet").write_text(str(step))
    (folder / "trajectories/columns.parquet").touch()
    for step in (2, 4, 6):
        (folder / f"checkpoints/step-{step}").mkdir(parents=True)
    return folder


def steps(file: Path) -> list[int]:
    return [json.loads(line)["step"] for line in file.read_text().splitlines()]


def test_what_came_after_the_step_is_moved_and_what_came_before_stays(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    assert rewind(folder, 4) == folder / "undone/1"
    assert steps(folder / "metrics.jsonl") == [1, 2, 3, 4]
    assert steps(folder / "evals.jsonl") == [2, 4]
    assert (folder / "undone/1/metrics.jsonl").read_text().splitlines()[1] == '{"step": 6, "acc'
    assert sorted(path.name for path in folder.glob("trajectories/step-*")) == [f"step-{n}" for n in range(1, 5)]
    assert (folder / "undone/1/trajectories/step-7/groups.parquet").read_text() == "7"
    assert sorted(path.name for path in folder.glob("checkpoints/*")) == ["step-2", "step-4"]
    assert (folder / "undone/1/checkpoints/step-6").is_dir()


def test_each_rewinding_has_its_own_folder_and_one_that_finds_nothing_has_none(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    assert rewind(folder, 4) == folder / "undone/1"
    assert rewind(folder, 4) is None
    assert rewind(folder, 3) == folder / "undone/2"
    assert steps(folder / "undone/2/metrics.jsonl") == [4]


def test_a_rewinding_that_was_cut_short_is_taken_up(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    (folder / "undone/1").mkdir(parents=True)
    (folder / "undone/1/metrics.jsonl").write_text("the lines that were not yet removed from the other file")
    rewind(folder, 2)
    assert steps(folder / "metrics.jsonl") == [1, 2]
    assert (folder / "undone/2/metrics.jsonl").is_file()

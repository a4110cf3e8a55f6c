"""Checkpoints are complete or do not count, few are kept, and one that cannot be written ends no run."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config.sections import RunSettings
from cluster.running.checkpoints import (
    CheckpointLost,
    Checkpoints,
    best_step,
    complete_checkpoints,
    newest_checkpoint,
    prune,
)
from cluster.running.state import Counters
from cluster.running.state_file import read_state
from learner.types import MARKER, Written
from tests.cluster.running.test_state_file import state_of


class WritingLearner:
    """The learner as far as it writes checkpoints; with `problem` it cannot."""

    def __init__(self) -> None:
        self.problem, self.folder = "", Path()
        self.may_finish = asyncio.Event()
        self.may_finish.set()

    async def save_checkpoint(self, folder: Path) -> None:
        self.folder = folder
        (folder / "state").mkdir(parents=True)
        (folder / "model.safetensors").write_text("weights")

    async def finish_checkpoint(self) -> Written:
        await self.may_finish.wait()
        return Written(files={"model.safetensors": 7}, problem=self.problem)


def checkpoints(folder: Path, learner: WritingLearner, said: list[str], **settings: object) -> Checkpoints:
    return Checkpoints(learner, folder, RunSettings(**settings), said.append)


async def saved(them: Checkpoints, *steps: int) -> None:
    for step in steps:
        await them.save(replace(state_of(), counters=Counters(step=step)))
        them.complete(seconds=float(step))


def put(folder: Path, step: int, *, complete: bool = True) -> None:
    target = folder / f"checkpoints/step-{step}"
    (target / "state").mkdir(parents=True)
    (target / "state/run.json").touch()
    if complete:
        (target / MARKER).touch()


async def test_a_checkpoint_is_complete_when_all_its_parts_are_there_and_not_before(tmp_path: Path) -> None:
    learner = WritingLearner()
    them = checkpoints(tmp_path, learner, [])
    learner.may_finish.clear()
    await saved(them, 3)
    await asyncio.sleep(0.05)
    assert newest_checkpoint(tmp_path) is None
    learner.may_finish.set()
    await them.finish()
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints/step-3"
    assert read_state(tmp_path / "checkpoints/step-3").counters == Counters(step=3, seconds=3.0)


async def test_one_that_cannot_be_written_is_said_and_the_next_is_tried(tmp_path: Path) -> None:
    learner, said = WritingLearner(), list[str]()
    them = checkpoints(tmp_path, learner, said)
    await saved(them, 1)
    await them.finish()
    learner.problem = "rank 1: OSError: [Errno 28] No space left on device"
    await saved(them, 2)
    await them.settle()
    (sentence,) = said
    assert "step-2 could not be written: rank 1: OSError: [Errno 28] No space left on device" in sentence
    assert "GiB are free there" in sentence
    assert "Training goes on" in sentence
    assert not (tmp_path / "checkpoints/step-2").exists()  # what it took of the disk is free again
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints/step-1"
    with pytest.raises(CheckpointLost, match=r"the last checkpoint of the run is lost: .*step-2"):
        await them.finish()
    assert not them.holds(2)
    learner.problem = ""
    await saved(them, 3)
    await them.finish()
    assert list(complete_checkpoints(tmp_path)) == [1, 3]


async def test_the_checkpoint_that_a_run_goes_on_from_is_there(tmp_path: Path) -> None:
    them = Checkpoints(WritingLearner(), tmp_path, RunSettings(), print, begun_with=4)
    assert them.holds(4)
    assert not them.holds(0)


async def test_files_that_the_driver_does_not_see_are_no_checkpoint(tmp_path: Path) -> None:
    learner, said = WritingLearner(), list[str]()
    them = checkpoints(tmp_path, learner, said)
    await them.save(state_of())
    (learner.folder / "model.safetensors").write_text("half")
    them.complete(0.0)
    await them.settle()
    assert "all nodes must have the run folder" in said[0]
    assert newest_checkpoint(tmp_path) is None


async def test_the_newest_are_kept_and_the_most_accurate(tmp_path: Path) -> None:
    lines = [{"step": step, "accuracy": accuracy} for step, accuracy in enumerate([0.9, 0.1, 0.5, 0.5, 0.2, 0.3, 0.4])]
    (tmp_path / "evals.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    them = checkpoints(tmp_path, WritingLearner(), [], keep_checkpoints=2)
    await saved(them, 1, 2, 3, 4, 5, 6)
    await them.finish()
    assert list(complete_checkpoints(tmp_path)) == [2, 5, 6]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-2", "step-5", "step-6"]


async def test_a_step_that_is_being_evaluated_is_kept_until_its_accuracy_is_known(tmp_path: Path) -> None:
    under_way = [1]
    settings = RunSettings(keep_checkpoints=1)
    them = Checkpoints(WritingLearner(), tmp_path, settings, print, evaluating=lambda: under_way)
    await saved(them, 1, 2, 3)
    await them.settle()
    assert list(complete_checkpoints(tmp_path)) == [1, 3]
    (tmp_path / "evals.jsonl").write_text('{"step": 1, "accuracy": 0.5}\n{"step": 3, "accu')  # a line in the making
    under_way[:] = [3]
    await saved(them, 4)
    await them.settle()
    assert list(complete_checkpoints(tmp_path)) == [1, 3, 4]
    (tmp_path / "evals.jsonl").write_text('{"step": 1, "accuracy": 0.5}\n{"step": 3, "accuracy": 0.75}\n')
    under_way.clear()
    await saved(them, 5)
    await them.finish()
    assert list(complete_checkpoints(tmp_path)) == [3, 5]


def test_without_evaluations_none_is_best(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        put(tmp_path, step)
    assert best_step({1: None}, tmp_path / "evals.jsonl") is None
    (tmp_path / "evals.jsonl").write_text('{"step": 1, "accuracy": 1.0}\n')
    prune(tmp_path, 1)
    assert list(complete_checkpoints(tmp_path)) == [1, 3]


def test_what_is_not_complete_is_removed_and_what_winnow_did_not_write_stays(tmp_path: Path) -> None:
    put(tmp_path, 1, complete=False)
    put(tmp_path, 2)
    (tmp_path / "checkpoints/step-0").mkdir()  # as an earlier version wrote them: weights alone
    (tmp_path / "checkpoints/step-0" / MARKER).touch()
    (tmp_path / "checkpoints/mine").mkdir()
    prune(tmp_path, 1)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["mine", "step-0", "step-2"]


def test_a_removal_that_is_cut_short_leaves_no_checkpoint_that_looks_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        put(tmp_path, step)

    def cut(path: Path) -> None:
        raise OSError("killed here")

    monkeypatch.setattr("shutil.rmtree", cut)
    with pytest.raises(OSError, match="killed here"):
        prune(tmp_path, 1)
    assert list(complete_checkpoints(tmp_path)) == [2]

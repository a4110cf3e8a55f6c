from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.arrow import packed
from actors.filtering.recorder import Recorder
from actors.types import Group
from cluster.report.trajectories import Trajectories
from tests.run_folders import graded_group, run_folder

GROUPS = {
    1: [graded_group(1, "a", ["wrong", "wrong"]), graded_group(2, "b", ["correct", "error"])],
    2: [graded_group(3, "a", ["correct", "correct"]), graded_group(4, "c", ["correct", "wrong"], why="because")],
}
REFUSED = {2: [graded_group(5, "d", ["unparsable", "wrong"])], 3: [graded_group(6, "e", ["error", "timeout"])]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory.mktemp("runs") / "made", 3, groups=GROUPS, refused=REFUSED)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"how": "worst"}, [5, 1, 4]),
        ({"how": "best"}, [3, 2, 4]),
        ({"how": "mixed"}, [4, 2, 3]),
        ({"how": "newest"}, [3, 4, 5]),
        ({"how": "worst", "step": 1}, [1, 2]),
        ({"how": "newest", "outcome": "error"}, [6, 2]),
        ({"how": "newest", "outcome": "late"}, []),
        ({"how": "best", "prompt": "a"}, [3, 1]),
    ],
)
def test_groups_are_chosen_by_what_is_asked(made: Path, asked: dict, found: list[int]) -> None:
    with Trajectories(made) as trajectories:
        assert trajectories.chosen(asked.pop("how"), 3, **asked) == found


def test_a_group_comes_whole_with_its_verdicts(made: Path) -> None:
    with Trajectories(made) as trajectories:
        (group,) = trajectories.groups([4])
        (refused,) = trajectories.groups([5])
    assert (group.step, group.prompt_id, group.reference, group.rejected) == (2, "c", "2", "")
    assert [(r.sample, r.outcome, r.score, r.why) for r in group.responses] == [
        (0, "correct", 1.0, "because"),
        (1, "wrong", -1.0, "because"),
    ]
    assert (group.correct, group.score) == (1, 0.0)
    assert refused.rejected == "all_wrong"


def test_a_group_whose_first_response_is_spare_was_trained_on(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "made", 1)
    recorder = Recorder(folder / "trajectories", refused=lambda batch: ["spare", ""])
    recorder.write([packed(graded_group(1, "a", ["correct", "wrong"]))], "")
    recorder.close_step(1)
    recorder.close(2)
    with Trajectories(folder) as trajectories:
        assert [group.rejected for group in trajectories.groups([1])] == [""]


def test_steps_are_counted_before_and_after_the_filter(made: Path) -> None:
    with Trajectories(made) as trajectories:
        first, second, third = trajectories.by_step()
    assert first.outcomes == {"correct": 1, "wrong": 2, "error": 1}
    assert second.correct_trained == 0.75
    assert second.tokens_trained == 1.5
    assert third.correct_trained is third.tokens_trained is None


def test_a_response_that_goes_on_in_another_row_is_one_response(tmp_path: Path) -> None:
    group = graded_group(1, "a", ["correct", "correct", "wrong"], response="part")
    first, second, third = group.trajectories
    whole: Group = replace(group, trajectories=(first, replace(second, continues=True, text="end"), third))
    with Trajectories(run_folder(tmp_path / "made", 1, groups={1: [whole]})) as trajectories:
        (step,) = trajectories.by_step()
        (found,) = trajectories.groups([1])
    assert step.outcomes == {"correct": 1, "wrong": 1}
    assert step.tokens_trained == np.mean([1 + 2, 3])
    assert [response.text for response in found.responses] == ["end", "part"]


def test_files_of_older_runs_lack_columns(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    folder = run_folder(tmp_path / "made", 3, groups=GROUPS)
    for file in folder.glob("trajectories/step-*/*.parquet"):
        pq.write_table(pq.read_table(file).drop_columns(["continues", "why"]), file)
    with Trajectories(folder) as trajectories:
        assert trajectories.chosen("worst", 1) == [1]
        assert trajectories.groups([1])[0].responses[0].why == ""


def test_nothing_written_yet_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no graded group yet"):
        Trajectories(tmp_path)

"""Runs that find nothing to learn from, or hardly any data: each ends with a sentence and a checkpoint, or trains."""

from pathlib import Path

import pytest

from actors.errors import Starved
from cluster.running.ending import how_to_go_on
from tests.runs import Runs, demo, metrics_of, responses_of

pytestmark = pytest.mark.ray
RIGHT = "def reward(response, reference, prompt):\n    return 1.0\n"


def test_a_run_whose_responses_are_all_correct_ends_with_a_checkpoint(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    settings = ("warmup.updates=0", "filter.patience=16", "reward.name=own", f"reward.own.file={tmp_path}/right.py")
    with pytest.raises(Starved, match=r"16 groups in a row .*1\.0 correct: 16"):
        runs.train(demo(tmp_path, *settings))
    assert how_to_go_on(tmp_path / "demo").startswith(f"the checkpoint {tmp_path}/demo/checkpoints/step-0 is complete")
    assert {row["rejected"] for row in responses_of(tmp_path / "demo")} <= {"all_correct", "never trained"}


def test_a_run_whose_responses_are_all_cut_says_so(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("warmup.updates=0", "filter.patience=16", "rollout.max_new_tokens=2")
    with pytest.raises(Starved, match=r"16 groups in a row .*0\.0 correct: 16"):
        runs.train(demo(tmp_path, *settings))
    said = " ".join(capsys.readouterr().out.split())
    assert "no response was correct in the last" in said
    assert "responses were cut at rollout.max_new_tokens" in said
    step = len(metrics_of(tmp_path / "demo"))  # an untrained model is right by luck at times, and trains on that
    assert how_to_go_on(tmp_path / "demo").startswith(
        f"the checkpoint {tmp_path}/demo/checkpoints/step-{step} is complete"
    )
    rows = responses_of(tmp_path / "demo")
    assert len({row["group"] for row in rows if row["rejected"] == "all_wrong"}) >= 16
    assert {row["step"] for row in rows} == set(range(1, step + 2))


def test_one_prompt_is_enough_for_steps_of_many_groups(runs: Runs, tmp_path: Path) -> None:
    """Passes over the data follow one another, within a step too: data never ends."""
    folder = runs.train(demo(tmp_path, "warmup.updates=0", "filter.drop=none", "run.steps=2", "data.rows=0:1"))
    assert [line["groups_trained"] for line in metrics_of(folder)] == [8, 16]
    trained = [row for row in responses_of(folder) if row["rejected"] == ""]
    assert len({row["group"] for row in trained}) == 16
    assert len({row["prompt"] for row in trained}) == 1

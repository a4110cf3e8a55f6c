"""`--resume auto`: what is found of a run that may have been started before."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.preparing.folders import held, make_run_folder, write_config
from cluster.running.resume import find_started
from cluster.running.state import Counters
from cluster.running.state_file import write_state
from cluster.running.train import train_or_resume
from learner.types import MARKER
from tests.cluster.running.test_state_file import state_of


def config(folder: Path, **run: object) -> RunConfig:
    return config_of({"world": {"name": "addition"}, "run": {"folder": str(folder), "name": "mine", **run}})


def test_a_run_that_is_not_there_or_has_no_checkpoint_begins_in_the_folder_of_its_name(tmp_path: Path) -> None:
    assert find_started(config(tmp_path)) == (tmp_path / "mine", None)
    with held(make_run_folder("mine", tmp_path)):
        write_config(config(tmp_path), tmp_path / "mine")
    assert find_started(config(tmp_path)) == (tmp_path / "mine", None)


def test_a_folder_that_is_no_runs_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="not the folder of a run"):
        find_started(config(tmp_path))


def started(folder: Path, step: int) -> Path:
    """A run that has come to a checkpoint."""
    run = make_run_folder("mine", folder)
    with held(run):
        write_config(config(folder, steps=5), run)
    checkpoint = run / f"checkpoints/step-{step}"
    write_state(replace(state_of(), counters=Counters(step=step)), checkpoint)
    (checkpoint / MARKER).touch()
    return checkpoint


def test_a_run_that_has_a_checkpoint_goes_on_from_it_with_the_settings_of_now(tmp_path: Path) -> None:
    checkpoint = started(tmp_path, 3)
    folder, found = find_started(config(tmp_path, steps=9))
    assert found is not None
    assert (folder, found.checkpoint, found.config.run.steps) == (tmp_path / "mine", checkpoint, 9)
    assert [change.line for change in found.changed] == ["run.steps: 5 → 9"]
    with pytest.raises(ConfigError, match=r"run\.seed: 0 → 1 cannot change"):
        find_started(config(tmp_path, steps=5, seed=1))


def test_a_run_that_has_come_to_its_end_says_so_however_often_it_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started(tmp_path, 5)
    for _ in range(2):
        assert train_or_resume(config(tmp_path, steps=5)) == tmp_path / "mine"
        assert "nothing is left to do" in capsys.readouterr().out

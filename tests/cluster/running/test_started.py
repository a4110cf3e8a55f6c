"""`--resume auto`: what is found of a run that may have been started before."""

from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.preparing.folders import held, make_run_folder, write_config
from cluster.running.resume import find_started


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

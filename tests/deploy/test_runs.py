"""Every run file can be read, with a model and data where it leaves these to the person."""

from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.config.reading import load_config

RUNS = Path(__file__).parents[2] / "deploy/runs"
FILES = sorted(str(path.relative_to(RUNS)) for path in RUNS.rglob("*.toml") if not path.name.startswith("_"))
BUILT_IN = ("demo.toml",)  # whose world has a model and data of its own
OWN = ["model.path=/shared/models/policy", "data.path=/shared/data/train.jsonl"]  # what a person adds


@pytest.mark.parametrize("name", FILES)
def test_a_run_file_can_be_read(name: str) -> None:
    if name in BUILT_IN or name.startswith("paper/"):
        assert load_config(RUNS / name, []).world.name
        return
    with pytest.raises(ConfigError, match=r"model\.path"):
        load_config(RUNS / name, [])
    assert load_config(RUNS / name, OWN).model.path == "/shared/models/policy"

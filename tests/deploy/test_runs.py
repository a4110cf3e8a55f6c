"""Every run file can be read, with a model and data where it leaves these to the person."""

from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.config.reading import load_config

RUNS = Path(__file__).parents[2] / "deploy/runs"
FILES = sorted(str(path.relative_to(RUNS)) for path in RUNS.rglob("*.toml") if not path.name.startswith("_"))
OWN = ["model.path=/shared/models/policy", "data.path=/shared/data/train.jsonl"]  # what a person adds


@pytest.mark.parametrize("name", FILES)
def test_a_run_file_can_be_read(name: str) -> None:
    try:
        config = load_config(RUNS / name, [])
    except ConfigError as missing:
        assert "model.path" in str(missing)
        config = load_config(RUNS / name, OWN)
    assert bool(config.world.name) is (config.model.path == "")

"""Every run file can be read, with a model and data where it leaves these to the person; what `make` compares can be
compared."""

import re
from pathlib import Path

import pytest

from cluster.comparing.plan import plan_comparison
from cluster.config.errors import ConfigError
from cluster.config.reading import load_config, load_methods

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "deploy/runs"
FILES = sorted(str(path.relative_to(RUNS)) for path in RUNS.rglob("*.toml") if not path.name.startswith("_"))
BUILT_IN = ("demo.toml", "paper/", "sources/")  # whose world has a model and data of its own
OWN = ["model.path=/shared/models/policy", "data.path=/shared/data/train.jsonl"]  # what a person adds


@pytest.mark.parametrize("name", FILES)
def test_a_run_file_can_be_read(name: str) -> None:
    if name.startswith(BUILT_IN):
        assert load_config(RUNS / name, []).world.name
        return
    with pytest.raises(ConfigError, match=r"model\.path"):
        load_config(RUNS / name, [])
    assert load_config(RUNS / name, OWN).model.path == "/shared/models/policy"


@pytest.mark.parametrize(("variable", "folder"), [("METHODS", "paper"), ("SOURCES", "sources")])
def test_make_compares_run_files_of_a_folder(variable: str, folder: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    names = re.findall(rf"^{variable} := (.+)$", makefile, re.M)[0].split()
    methods = load_methods([RUNS / folder / f"{name}.toml" for name in names], [])
    assert list(methods) == names
    plan_comparison(folder, "", methods, seeds=1)


def test_what_methods_begin_from_is_made_before() -> None:
    made = {f"runs/{path.stem}/": load_config(path, []) for path in (RUNS / "sources/before").glob("*.toml")}
    read = [
        path
        for config in load_methods([RUNS / "sources"], []).values()
        for path in (config.learner.tuned_path, config.learner.teacher_path, config.data.stored)
        if path
    ]
    assert len(read) == 3
    for path in read:
        (run,) = [config for folder, config in made.items() if path.startswith(folder)]
        assert path == f"runs/{run.run.name}/trajectories" or path.endswith(f"/checkpoints/step-{run.run.steps}")

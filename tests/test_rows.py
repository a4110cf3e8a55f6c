"""Every row of the table of algorithms trains in the real pipeline. The actors, and so the vLLM engine, stay alive from
one row to the next, as in `winnow compare`."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cluster.config import RunConfig, load_config
from cluster.outputs import Display
from cluster.preflight import prepare, write_config, write_world
from cluster.run import Run
from cluster.startup import Parts, begin_run, ray_session, running_parts
from cluster.warmup import warm_up
from learner.algorithms import ALGORITHMS

ROOT = Path(__file__).parents[1]
SHORT = ["world.digits=1", "rollout.groups_per_step=6", "rollout.group_size=6", "rollout.max_new_tokens=16"]
SHORT += ["run.steps=2", "learner.updates_per_step=2", "learner.lr=1e-4", "learner.lr_warmup=0", "learner.side_lr=1e-3"]
pytestmark = pytest.mark.ray

Train = Callable[..., list[dict]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A config whose world and warmed-up model are files, so that no row warms up again."""
    folder = tmp_path_factory.mktemp("start")
    overrides = [*SHORT, "warmup.updates=120", f"run.folder={folder}", "cluster.device=cpu"]
    return write_world(load_config(ROOT / "deploy/runs/demo.toml", overrides), folder)


@pytest.fixture(scope="module")
def train(start: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Train]:
    """Trains with one row and gives the lines of metrics.jsonl."""
    folder = tmp_path_factory.mktemp("runs")
    with ray_session(start) as (layout, _), running_parts(prepare(start), layout) as parts:

        def run(name: str, **changes: dict) -> list[dict]:
            target = folder / name.replace("+", "p")
            target.mkdir()
            config = changed(start, folder / "warm", name, changes)
            write_config(config, target)
            with Display(config.run.steps) as display:
                asyncio.run(Run(prepare(config), layout, parts, target, display).go())
            return [json.loads(line) for line in (target / "metrics.jsonl").read_text().splitlines()]

        with Display(1) as display:
            asyncio.run(warmed(parts, start, folder, display))
        run.folder = folder  # type: ignore[attr-defined]
        yield run


async def warmed(parts: Parts, start: RunConfig, folder: Path, display: Display) -> None:
    await begin_run(parts, prepare(start), folder)
    await warm_up(parts, start, folder / "warm", display)


def changed(start: RunConfig, model: Path, name: str, changes: dict) -> RunConfig:
    tree = start.model_dump()
    tree["world"]["name"] = ""
    tree["model"]["path"], tree["warmup"]["updates"] = str(model), 0
    tree["learner"]["algorithm"] = name
    for section, values in changes.items():
        tree[section] |= values
    return RunConfig.model_validate(tree)


NEEDED: dict[str, dict] = {"nlpo": {"rollout": {"top_p": 0.9}}}


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "rto"])
def test_a_row_trains(name: str, train: Train) -> None:
    lines = train(name, **NEEDED.get(name, {}))
    assert [line["step"] for line in lines] == [1, 2]
    for line in lines:
        assert all(np.isfinite(line[key]) for key in ("loss", "grad_norm", "entropy", "kl_start"))
        assert line["tokens_trained"] > 0
        assert line["probe_gap"] < 1e-3
        # quark trains worse responses under other control tokens than they were sampled with
        assert line["mismatch_kl"] < (1e-3 if name != "quark" else 1.0)
    assert sum(line["grad_norm"] for line in lines) > 0
    assert lines[-1]["kl_start"] > 0
    assert lines[-1]["updates"] == 2 * 2 * ALGORITHMS[name].passes

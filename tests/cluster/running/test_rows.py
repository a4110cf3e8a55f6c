"""Every algorithm of the table trains in the real pipeline. The actors, and so the vLLM engine, stay alive from one
algorithm to the next, as in `winnow compare`."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.config.reading import load_config
from cluster.config.run_config import RunConfig
from cluster.placement.startup import Parts, begin_run, ray_session, running_parts
from cluster.preparing.preflight import make_run_folder, prepare, write_config, write_world
from cluster.reporting.outputs import Display
from cluster.running.run import Run
from cluster.running.warmup import warm_up
from learner.methods.algorithms import ALGORITHMS

ROOT = Path(__file__).parents[3]
SHORT = ["world.digits=1", "rollout.groups_per_step=6", "rollout.group_size=6", "rollout.max_new_tokens=16"]
SHORT += ["run.steps=2", "learner.updates_per_step=2", "learner.lr=1e-4", "learner.lr_warmup=0", "learner.side_lr=1e-3"]
pytestmark = pytest.mark.ray

Train = Any  # a function with the folder of all runs and the name of the last one


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A config whose world and warmed-up model are files, so that no run warms up again."""
    folder = tmp_path_factory.mktemp("start")
    overrides = [*SHORT, "warmup.updates=120", f"run.folder={folder}", "cluster.device=cpu"]
    return write_world(load_config(ROOT / "deploy/runs/demo.toml", overrides), folder)


@pytest.fixture(scope="module")
def train(start: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Train]:
    """Trains with one algorithm and gives the lines of metrics.jsonl."""
    folder = tmp_path_factory.mktemp("runs")
    with ray_session(start) as (layout, _), running_parts(prepare(start), layout) as parts:

        def run(name: str, **changes: dict) -> list[dict]:
            target = make_run_folder(name, folder)
            run.last = target.name
            config = changed(start, folder / "warm", name, changes)
            write_config(config, target)
            with Display(config.run.steps) as display:
                asyncio.run(Run(prepare(config), layout, parts, target, display).go())
            return [json.loads(line) for line in (target / "metrics.jsonl").read_text().splitlines()]

        with Display(1) as display:
            asyncio.run(warmed(parts, start, folder, display))
        run.folder = folder
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
def test_an_algorithm_trains(name: str, train: Train) -> None:
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


def test_rto_takes_its_token_rewards_from_a_policy_of_iterative_dpo(train: Train) -> None:
    train("iterative-dpo", run={"steps": 1})
    tuned = train.folder / "iterative-dpo-2/checkpoints/step-1"
    lines = train("rto", learner={"tuned_path": str(tuned)})
    assert all(np.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)


@pytest.mark.parametrize("name", ["topr", "rest", "raft", "quark"])
def test_an_algorithm_trains_on_the_stored_groups_of_another_run(name: str, train: Train) -> None:
    stored = train.folder / "grpo/trajectories"
    lines = train(name, data={"stored": str(stored)})
    assert sum(line["tokens_trained"] for line in lines) > 0
    assert sum(line["grad_norm"] for line in lines) > 0
    assert all(line["staleness_max"] == 0 and line["seconds_generate"] == 0 for line in lines)


def test_stored_and_sampled_groups_can_be_mixed(train: Train) -> None:
    stored = train.folder / "grpo/trajectories"
    train("raft", data={"stored": str(stored), "stored_share": 0.5}, run={"steps": 3})
    versions = [
        max(row["versions"])
        for path in sorted((train.folder / f"{train.last}/trajectories").rglob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    assert min(versions) == -1
    assert max(versions) >= 0


PIECES: dict[str, dict] = {
    "kl and entropy in the loss, dual clip": {"kl_loss": 0.1, "kl_estimator": "k2", "entropy": 0.01, "clip_dual": 3.0},
    "kl in the reward, whole-response weights": {"kl_reward": 0.1, "kl_estimator": "k3", "mismatch": "mask-response"},
    "one ratio for a response, against the sampler": {"ratio": "sequence", "anchor": "sampler"},
    "two passes, asymmetric clip, another credit": {"passes": 2, "clip_high": 0.28, "credit": "leave-one-out"},
    "worked answers mixed in": {"imitation": 0.1, "aggregate": "constant"},
    "group mean, batch deviation (REINFORCE++ with baseline)": {
        "credit": "centred",
        "advantage_normalisation": "whiten",
    },
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES.keys())
def test_pieces_combine_freely(pieces: dict, train: Train) -> None:
    lines = train("reinforce-rej", objective=pieces)
    assert all(np.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)


def test_the_reference_can_follow_the_policy(train: Train) -> None:
    # One update per step, so the loss of a step is that of its first update: against a reference that is the policy
    # of a moment ago every pair is at log 2.
    lines = train("iterative-dpo", learner={"reference_every": 1, "lr": 1e-3, "updates_per_step": 1})
    assert [line["updates"] for line in lines] == [1, 2]
    assert lines[1]["loss"] == pytest.approx(np.log(2.0), abs=0.005)
    assert lines[1]["kl_start"] > 0

"""Every algorithm of the table trains in the real pipeline. The actors, and so the vLLM engine, stay alive from one
algorithm to the next, as in `winnow compare`."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from actors.data.world import ALPHABET
from cluster.config.reading import load_config
from cluster.config.run_config import RunConfig
from learner.methods.algorithms import ALGORITHMS
from learner.models.tiny import write_tiny_model
from tests.runs import ROOT, Runs, metrics_of
from tests.teachers import served

SHORT = ["world.digits=1", "data.rows=0:2000", "rollout.groups_per_step=6", "rollout.group_size=6"]
SHORT += [
    "rollout.max_new_tokens=16",
    "run.steps=2",
    "learner.updates_per_step=2",
    "learner.lr=1e-4",
    "learner.lr_warmup=0",
    "learner.side_lr=1e-3",
]
pytestmark = pytest.mark.ray


class Trainings:
    """Trains with one algorithm after another, all from one warmed-up model, and gives the lines of metrics.jsonl."""

    def __init__(self, runs: Runs, folder: Path) -> None:
        self._runs, self.folder = runs, folder
        overrides = [*SHORT, "warmup.updates=120", f"run.folder={folder}", "cluster.device=cpu"]
        self._start = load_config(ROOT / "deploy/runs/demo.toml", overrides)
        self.last = ""  # name of the folder of the last run

    def __call__(self, algorithm: str, **changes: dict[str, Any]) -> list[dict[str, Any]]:
        tree = self._start.model_dump()
        tree["learner"]["algorithm"] = tree["run"]["name"] = algorithm
        for section, values in changes.items():
            tree[section] |= values
        folder = self._runs.train(RunConfig.model_validate(tree))
        self.last = folder.name
        return metrics_of(folder)


@pytest.fixture(scope="module")
def train(_runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(_runs, tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def stored(train: Trainings) -> Path:
    """The trajectories of a run."""
    train("grpo", run={"steps": 2})
    return train.folder / train.last / "trajectories"


NEEDED: dict[str, dict] = {"nlpo": {"rollout": {"top_p": 0.9}}}


@pytest.mark.parametrize("name", sorted(ALGORITHMS.keys() - {"rto", "distill", "echo"}))
def test_an_algorithm_trains(name: str, train: Trainings) -> None:
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


def test_rto_takes_its_token_rewards_from_a_policy_of_iterative_dpo(train: Trainings) -> None:
    train("iterative-dpo", run={"steps": 1})
    tuned = train.folder / train.last / "checkpoints/step-1"
    lines = train("rto", learner={"tuned_path": str(tuned)})
    assert all(np.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)


def test_a_policy_is_distilled_from_a_larger_one(train: Trainings, tmp_path: Path) -> None:
    write_tiny_model(tmp_path, alphabet=ALPHABET, heads=7, seed=0)  # it knows nothing, and says all tokens alike
    lines = train("distill", learner={"teacher_path": str(tmp_path), "lr": 1e-2}, run={"steps": 3})
    assert all(np.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)
    assert lines[0]["kl_teacher"] > lines[-1]["kl_teacher"] > 0
    assert lines[-1]["entropy"] > lines[0]["entropy"]


def test_a_teacher_may_be_asked_at_an_endpoint(
    train: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_model(tmp_path, alphabet=ALPHABET, heads=7, seed=0)
    with served(tmp_path, monkeypatch) as server:
        lines = train("distill", learner={"teacher_path": server.url, "lr": 1e-2}, run={"steps": 3})
    assert lines[0]["kl_teacher"] > lines[-1]["kl_teacher"] > 0
    assert len(server.asked) > 3 * 6 * 6  # about each response, and before the run


@pytest.mark.parametrize("name", ["topr", "rest", "raft", "quark"])
def test_an_algorithm_trains_on_the_stored_groups_of_another_run(name: str, train: Trainings, stored: Path) -> None:
    lines = train(name, data={"stored": str(stored)})
    assert sum(line["tokens_trained"] for line in lines) > 0
    assert sum(line["grad_norm"] for line in lines) > 0
    # A step whose groups were all taken in before it has nothing generated to average.
    assert all(line["staleness_max"] == 0 and not line["seconds_generate"] for line in lines)


def test_stored_and_sampled_groups_can_be_mixed(train: Trainings, stored: Path) -> None:
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
def test_pieces_combine_freely(pieces: dict, train: Trainings) -> None:
    lines = train("reinforce-rej", objective=pieces)
    assert all(np.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)


def test_the_reference_can_follow_the_policy(train: Trainings) -> None:
    # One update per step, so the loss of a step is that of its first update: against a reference that is the policy
    # of a moment ago every pair is at log 2.
    lines = train("iterative-dpo", learner={"reference_every": 1, "lr": 1e-3, "updates_per_step": 1})
    assert [line["updates"] for line in lines] == [1, 2]
    assert lines[1]["loss"] == pytest.approx(np.log(2.0), abs=0.005)
    assert lines[1]["kl_start"] > 0

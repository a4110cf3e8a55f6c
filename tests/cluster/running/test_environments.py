"""Whole runs on environments of every kind, those of the examples: what each trains on is what an engine sampled."""

from pathlib import Path

import numpy as np
import pytest

from actors.sampled import SampledTurn, check_turns
from cluster.config.reading import load_config
from cluster.config.run_config import RunConfig
from examples.environments.make_data import WORLDS, write_model, write_world
from tests.runs import ROOT, Runs, metrics_of, responses_of

pytestmark = pytest.mark.ray

EXAMPLES = ROOT / "examples" / "environments"
SHORT = (
    "cluster.device=cpu",
    "run.steps=2",
    "warmup.updates=120",
    "rollout.groups_per_step=8",
    "learner.updates_per_step=1",
    "eval.every=0",
    "filter.drop=none",
)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of all worlds, and one model and one file of conversations for all of them: they share a warm-up."""
    folder = tmp_path_factory.mktemp("worlds")
    write_model(folder / "model")
    for world in WORLDS:
        write_world(folder / world, world)
    worked = [(folder / world / "worked.jsonl").read_text(encoding="utf-8").splitlines()[:500] for world in WORLDS]
    (folder / "worked.jsonl").write_text("\n".join(line for lines in worked for line in lines), encoding="utf-8")
    return folder


def settings(worlds: Path, folder: Path, name: str, world: str, *more: str) -> RunConfig:
    paths = (
        f"run.folder={folder}",
        f"model.path={worlds}/model",
        f"data.path={worlds}/{world}/train.jsonl",
        f"warmup.path={worlds}/worked.jsonl",
        f"rollout.environment={EXAMPLES}/{name}.py",
    )
    return load_config(EXAMPLES / f"{name}.toml", [*SHORT, *paths, *more])


# name of the example -> its world, an algorithm, its seats, and the least turns that some stream of it has
@pytest.mark.parametrize(
    ("name", "world", "algorithm", "seats", "turns"),
    [
        ("calculator", "calculator", "reinforce", {"policy"}, 2),  # which learns from groups that are all wrong, too
        ("dialogue", "dialogue", "grpo", {"describer", "finder"}, 1),
        ("self_play", "game", "rae", {"first", "second"}, 2),
        ("gym", "gym", "grpo", {"policy"}, 2),
        ("agent", "calculator", "self-distill", {"policy"}, 2),
    ],
)
def test_a_run_trains_on_what_the_engine_sampled(
    runs: Runs, worlds: Path, tmp_path: Path, name: str, world: str, algorithm: str, seats: set[str], turns: int
) -> None:
    folder = runs.train(settings(worlds, tmp_path, name, world, f"learner.algorithm={algorithm}"))
    lines, rows = metrics_of(folder), responses_of(folder)
    assert [line["groups_trained"] for line in lines] == [8, 16]
    assert all(np.isfinite(line["loss"]) and line["tokens_trained"] > 0 for line in lines)
    assert max(line["mismatch_kl"] for line in lines) < 1e-3  # the learner computes what the engine sampled
    assert {row["outcome"] for row in rows} <= {"correct", "wrong"}
    assert {row["seat"] for row in rows} == seats
    for row in rows:
        tokens, sampled = np.array(row["tokens"], np.int32), np.array(row["sampled"])
        check_turns(tokens, sampled, [SampledTurn(**turn) for turn in row["turns"]])
        assert (np.array(row["versions"])[sampled] >= 0).all()
        assert not np.array(row["logprobs"])[~sampled].any()
    assert max(len(row["turns"]) for row in rows) >= turns
    if world == "calculator":
        assert sum(line["tool_calls"] for line in lines) > 0
        assert "tool" in {turn["after"] for row in rows for turn in row["turns"]}
    assert all((line["kl_teacher"] is not None) == (algorithm == "self-distill") for line in lines)
    assert all(line["loss_told"] is None for line in lines)


def test_echo_learns_to_foresee_what_the_tool_says(runs: Runs, worlds: Path, tmp_path: Path) -> None:
    more = ("learner.algorithm=echo", "learner.lr=1e-3", "learner.lr_warmup=0", "run.steps=6")
    lines = metrics_of(runs.train(settings(worlds, tmp_path, "calculator", "calculator", *more)))
    told = [line["loss_told"] for line in lines]
    assert all(line["tool_calls"] > 0 for line in lines)
    assert min(told) > 0
    assert np.mean(told[-2:]) < np.mean(told[:2])

"""The recipe of puzzles with reasoning-gym itself: its data, its reward, and a short run of it on the CPU."""

import json
import string
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cluster.config.reading import load_config
from tests.others import package
from tests.runs import ROOT, Runs, metrics_of, responses_of

pytestmark = [pytest.mark.others, pytest.mark.filterwarnings("ignore")]

RECIPES = ROOT / "examples/recipes"
Row = dict[str, str]
SHORT = (
    "cluster.device=cpu",
    "model.dtype=float32",
    "run.steps=2",
    "warmup.updates=40",
    "warmup.batch=8",
    "warmup.lr=3e-3",
    "rollout.groups_per_step=4",
    "rollout.group_size=4",
    "rollout.max_new_tokens=24",
    "reward.seconds=60",
    "learner.updates_per_step=1",
    "learner.micro_batch_tokens=4096",
    "eval.every=2",
    "eval.prompts=8",
)


@pytest.fixture(scope="module")
def recipe() -> Any:
    package("reasoning_gym")
    from examples.recipes import puzzles

    return puzzles


@pytest.fixture(scope="module")
def data(recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("puzzles")
    for name, (_, seed) in recipe.ROWS.items():
        recipe.puzzles.write(folder / f"{name}.jsonl", 400, seed)
    return folder


def rows_of(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def answer_of(row: Row) -> str:
    return str(json.loads(row["answer"])["entry"]["answer"])


def test_every_set_asks_and_grades_and_nothing_held_out_is_trained_on(recipe: Any, data: Path) -> None:
    rows, heldout = rows_of(data / "train.jsonl"), rows_of(data / "heldout.jsonl")
    assert {json.loads(row["answer"])["set"] for row in rows} == set(recipe.SETS)
    for row in rows[:40]:
        assert recipe.reward(f"I think.<answer>{answer_of(row)}</answer>", row["answer"], row["prompt"]) == 1
        assert recipe.reward("<answer>no idea</answer>", row["answer"], row["prompt"]) <= 0.5
    assert {row["prompt"] for row in rows}.isdisjoint(row["prompt"] for row in heldout)


def test_the_recipe_trains_a_tiny_model_on_the_cpu(data: Path, runs: Runs, tmp_path: Path) -> None:
    """On those of its puzzles that are short, after a warm-up on their answers."""
    from learner.models.tiny import write_tiny_model

    asks = tomllib.loads((RECIPES / "puzzles.toml").read_text(encoding="utf-8"))["data"]["template"][len("{prompt}") :]
    words = [asks, "<answer>", "</answer>"]  # one token each, as a model of letters reads slowly
    write_tiny_model(tmp_path / "model", alphabet=string.printable, seed=0, words=words)
    rows = [row for row in rows_of(data / "train.jsonl") if len(row["prompt"]) < 200 and len(answer_of(row)) <= 3]
    worked = [{"prompt": row["prompt"], "response": f"<answer>{answer_of(row)}</answer>"} for row in rows]
    for name, lines in {"short": rows, "worked": worked}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    paths = (
        f"run.folder={tmp_path}",
        f"model.path={tmp_path}/model",
        f"data.path={tmp_path}/short.jsonl",
        f"warmup.path={tmp_path}/worked.jsonl",
        f"eval.path={tmp_path}/short.jsonl",
        f"reward.own.file={RECIPES}/puzzles.py",
    )
    folder = runs.train(load_config(RECIPES / "puzzles.toml", [*SHORT, *paths]))
    metrics, responses = metrics_of(folder), responses_of(folder)
    assert [line["groups_trained"] for line in metrics] == [4, 8]
    assert all(line["tokens_trained"] > 0 and line["grad_norm"] > 0 for line in metrics)
    assert {row["outcome"] for row in responses} == {"correct", "wrong"}
    assert {row["rejected"] for row in responses} >= {"", "all_wrong"}
    assert all(row["why"].startswith("puzzles.py says ") for row in responses)
    evals = [json.loads(line) for line in (folder / "evals.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in evals] == [0, 2]

"""Whole runs with the real parts, made short: what they leave behind, and that what they leave is consistent."""

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from actors.filtering.ledger import check_conservation
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of, load_config
from cluster.reporting.metric_table import METRICS
from cluster.running.train import train
from tests.runs import ROOT, Runs, demo, metrics_of

pytestmark = pytest.mark.ray


def check_run(folder: Path, steps: int, staleness: int) -> None:
    lines = metrics_of(folder)
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    for line in lines:
        assert set(METRICS) <= set(line)
        check_conservation(line)
        assert line["staleness_max"] <= staleness
        assert line["probe_gap"] < 1e-3
        assert line["ratio_p99"] == pytest.approx(1.0, abs=1e-4)
        assert line["mismatch_kl"] < (1e-3 if staleness == 0 else 1.0)
    parts = sum(line[f"seconds_{stage}"] for line in lines for stage in ("wait", "train", "sync", "other"))
    assert parts == pytest.approx(lines[-1]["wall_seconds"], rel=0.02)
    trained = [pq.read_table(path).to_pylist() for path in sorted(folder.glob("trajectories/*/groups*.parquet"))]
    rows = [row for table in trained for row in table]
    kept = [row for row in rows if row["rejected"] == ""]
    assert len({row["group"] for row in kept}) == lines[-1]["groups_trained"]
    assert sum(sum(row["sampled"]) for row in kept) == sum(line["tokens_trained"] for line in lines)
    rejected = {row["group"] for row in rows if row["rejected"] in ("all_correct", "all_wrong")}
    assert len(rejected) >= lines[-1]["groups_all_correct"] + lines[-1]["groups_all_wrong"]
    for row in kept[:50]:
        assert np.array(row["versions"])[row["sampled"]].min() >= 0
        assert row["outcome"] in ("correct", "wrong", "unparsable")
    assert (folder / "config.toml").is_file()
    assert list(folder.glob("tensorboard/events*"))
    assert (folder / f"checkpoints/step-{steps}/complete").is_file()


@pytest.mark.usefixtures("own_ray")
def test_on_policy_on_two_zero3_ranks_and_two_generators_in_a_session_of_its_own(tmp_path: Path) -> None:
    overrides = ("cluster.learner_ranks=2", "learner.zero_stage=3", "cluster.generators=2", "cluster.verifiers=1")
    folder = train(demo(tmp_path, *overrides))
    check_run(folder, steps=3, staleness=0)
    log = (folder / "winnow.log").read_text()
    assert "step 3/3" in log
    assert "version 3 is live" in log
    assert not ray.is_initialized()


def test_one_version_stale_on_two_zero2_ranks_with_checkpoints_and_an_evaluator(runs: Runs, tmp_path: Path) -> None:
    overrides = ("cluster.learner_ranks=2", "learner.zero_stage=2", "rollout.max_staleness=1", "run.checkpoint_every=2")
    evaluation = ("eval.every=2", "eval.generators=1", "eval.prompts=32")
    folder = runs.train(demo(tmp_path, *overrides, *evaluation, "run.steps=4"))
    check_run(folder, steps=4, staleness=1)
    assert sorted(path.name for path in folder.glob("checkpoints/*")) == ["step-2", "step-4"]
    lines = metrics_of(folder)
    assert max(line["staleness_max"] for line in lines) == 1
    evals = [json.loads(line) for line in (folder / "evals.jsonl").read_text().splitlines()]
    assert [(line["step"], line["version"], line["evaluators"]) for line in evals] == [(0, 0, 1), (2, 2, 1), (4, 4, 1)]
    assert all(line["responses"] == 32 * 4 for line in evals)


def test_engines_that_rest_while_the_learner_trains_go_on_with_what_they_had_begun(
    runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "winnow"):
        folder = runs.train(demo(tmp_path, "cluster.colocate=true", "rollout.max_staleness=1", "run.steps=4"))
    check_run(folder, steps=4, staleness=1)
    assert max(line["staleness_max"] for line in metrics_of(folder)) == 1
    turns = ("the engines rest", "the learner has given memory back", "version")
    said = [turn for line in caplog.messages for turn in turns if line.startswith(turn)]
    assert said == list(turns) * 5  # before the first version, and in each step


def test_a_users_own_dataset_trains_without_any_engine(runs: Runs, tmp_path: Path) -> None:
    from learner.models.tiny import write_tiny_model

    write_tiny_model(tmp_path / "model", alphabet="0123456789+=", seed=0)
    rows = {"prompt": ["1+1=", "2+3=", "1+1="], "response": ["2", "5", "3"], "score": [1.0, 1.0, -1.0]}
    pq.write_table(pa.table(rows), tmp_path / "mine.parquet")
    tree = {
        "model": {"path": str(tmp_path / "model"), "dtype": "float32"},
        "data": {"stored": str(tmp_path / "mine.parquet")},
        "learner": {"algorithm": "raft", "lr": 1e-3},
        "rollout": {"groups_per_step": 2, "max_new_tokens": 8},
        "run": {"folder": str(tmp_path), "steps": 4},
    }
    lines = metrics_of(runs.train(config_of(tree)))
    assert [line["tokens_trained"] for line in lines] == [4, 4, 4, 4]  # an answer and its end, for two prompts
    assert lines[-1]["loss"] < lines[0]["loss"]
    tree["learner"]["algorithm"] = "topr"
    with pytest.raises(ConfigError, match=r"weighs each token by the sampler's log-probability.*does not hold them"):
        runs.train(config_of(tree))


def test_gsm8k_goes_through_with_its_own_columns_and_answers(runs: Runs, tmp_path: Path) -> None:
    data = ROOT.parent / "shared/data/gsm8k/train.jsonl"
    if not data.is_file():
        pytest.skip(f"needs the GSM8K files, which are not at {data.parent}")
    from learner.models.tiny import write_tiny_model

    write_tiny_model(tmp_path / "model", alphabet="".join(map(chr, range(32, 127))) + "\n", seed=0)
    overrides = [f"model.path={tmp_path}/model", f"data.path={data}", f"run.folder={tmp_path}", "run.steps=3"]
    # A random model is right by luck at best, so every group is kept: the point is that real text goes through.
    overrides += ["filter.drop=none", "rollout.groups_per_step=2", "rollout.group_size=2", "rollout.max_new_tokens=32"]
    overrides += ["model.dtype=float32", "learner.micro_batch_tokens=2048"]
    folder = runs.train(load_config(ROOT / "deploy/runs/gsm8k.toml", overrides))
    lines = metrics_of(folder)
    assert len(lines) == 3
    rows = pq.read_table(folder / "trajectories/step-1/groups.parquet").to_pylist()
    assert all("####" in row["reference"] for row in rows)
    assert all(row["tokens"] for row in rows)

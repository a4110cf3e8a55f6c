"""A run that goes on from a checkpoint is the run that was never interrupted."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.data.source import PromptSource
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of, to_toml
from cluster.config.run_config import RunConfig
from cluster.preparing.folders import held
from cluster.preparing.preflight import prepare
from cluster.preparing.world import write_world
from cluster.running.checkpoints import checkpoint_of, complete_checkpoints, newest_checkpoint
from cluster.running.state_file import read_state
from cluster.running.train import resume
from tests.bench.processes import descendants
from tests.learner.test_going_on import same_folders
from tests.runs import ROOT, Runs, demo, metrics_of, responses_of

pytestmark = pytest.mark.ray
SECONDS = 300.0  # deadline of what takes a few
# Metrics that are times, or depend on them.
TIMES = ("seconds", "wall_", "step_ended", "busy_", "tokens_per", "tokens_trained_per", "sync_gib", "bottleneck")
TIMES += ("verifier_queue", "disk_used")  # what the machine does meanwhile


def stored_run(folder: Path, steps: int, **run: Any) -> RunConfig:
    """A run from four stored groups, two in a step: two steps are a pass over its data. It needs no engine."""
    from learner.models.tiny import write_tiny_model

    if not (folder / "model").exists():
        write_tiny_model(folder / "model", alphabet="0123456789+=", seed=0)
        rows = {
            "prompt": [f"{number}+1=" for number in range(4) for _ in range(2)],
            "response": [f"{number + 1 + wrong}" for number in range(4) for wrong in range(2)],
            "score": [1.0, -1.0] * 4,
        }
        pq.write_table(pa.table(rows), folder / "mine.parquet")
    return config_of(
        {
            "model": {"path": str(folder / "model"), "dtype": "float32"},
            "data": {"stored": str(folder / "mine.parquet")},
            "learner": {"algorithm": "raft", "lr": 1e-3, "lr_end": 0.1},
            "rollout": {"groups_per_step": 2, "max_new_tokens": 8},
            "cluster": {"device": "cpu", "verifiers": 1},
            "run": {"folder": str(folder / "runs"), "steps": steps, "checkpoint_every": 1, **run},
        }
    )


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics without times."""
    return [{name: value for name, value in line.items() if not name.startswith(TIMES)} for line in metrics_of(folder)]


def check_same(found: Path, wanted: Path, step: int) -> None:
    """Two runs ended alike: metrics, weights, optimizer, random states, and what they remember, times aside."""
    assert timeless(found) == timeless(wanted)
    one, other = checkpoint_of(found, step), checkpoint_of(wanted, step)
    states = [read_state(checkpoint) for checkpoint in (one, other)]
    for name in ("inputs", "prompts", "stored", "learner"):
        assert getattr(states[0], name) == getattr(states[1], name), name
    assert states[0].filter.ledger == states[1].filter.ledger
    assert states[0].counters == states[1].after(states[0].counters.seconds).counters
    for checkpoint in (one, other):
        (checkpoint / "state/run.json").unlink()
    same_folders(one, other)


def test_a_run_that_goes_on_at_any_step_of_two_epochs_ends_in_the_same_bits(runs: Runs, tmp_path: Path) -> None:
    whole = runs.train(stored_run(tmp_path, 4, keep_checkpoints=9))
    assert list(complete_checkpoints(whole)) == [1, 2, 3, 4]
    for step in (1, 2, 3):
        copy = tmp_path / "runs" / f"from-{step}"
        shutil.copytree(whole, copy)
        assert runs.resume(checkpoint_of(copy, step)) == copy
        assert [line["step"] for line in metrics_of(copy)] == [1, 2, 3, 4]
        assert metrics_of(copy)[-1]["wall_seconds"] > metrics_of(copy)[step - 1]["wall_seconds"]
        assert {path.name for path in (copy / "undone/1/checkpoints").iterdir()} == {
            f"step-{after}" for after in range(step + 1, 5)
        }
        spare = tmp_path / f"whole-{step}"
        shutil.copytree(whole, spare)
        check_same(copy, spare, 4)


def test_a_run_that_is_killed_and_goes_on_is_the_one_that_was_never_interrupted(runs: Runs, tmp_path: Path) -> None:
    whole = runs.train(stored_run(tmp_path, 12, name="whole", checkpoint_every=2))
    file = tmp_path / "run.toml"
    file.write_text(to_toml(stored_run(tmp_path, 12, name="killed", checkpoint_every=2)))
    folder = tmp_path / "runs/killed"
    with (tmp_path / "log").open("w") as log:
        driver = started(log, "train", str(file))
        try:
            until = time.monotonic() + SECONDS
            while newest_checkpoint(folder) is None:
                assert driver.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < until, (tmp_path / "log").read_text()
                time.sleep(0.02)
            with pytest.raises(ConfigError, match=r"another process runs in .*killed: process \d+ on "):
                resume(folder)
        finally:
            kill(driver)
        again = started(log, "train", "--resume", str(folder), "run.note=once more")
        try:
            assert again.wait(SECONDS) == 0, (tmp_path / "log").read_text()
        finally:
            kill(again)
    text = (tmp_path / "log").read_text()
    assert "changed: run.note: '' → 'once more'" in text
    assert f"going on from {folder}/checkpoints/step-" in text
    check_same(folder, whole, 12)
    with held(folder):  # the lock went with its process
        pass


def test_nothing_left_to_do_is_said_before_anything_starts(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = runs.train(stored_run(tmp_path, 1))
    assert resume(whole) == whole
    said = capsys.readouterr().out
    assert "nothing is left to do: the run has trained 1 steps" in said
    assert "To train on, set run.steps=N" in said
    longer = runs.resume(whole, "run.steps=3")
    assert [line["step"] for line in metrics_of(longer)] == [1, 2, 3]


def test_sampled_runs_go_on_with_the_same_prompts_and_the_same_responses(runs: Runs, tmp_path: Path) -> None:
    whole = runs.train(sampled_run(tmp_path, "filter.drop=none", "run.steps=4"))
    copy = tmp_path / "runs/copy"
    shutil.copytree(whole, copy)
    runs.resume(checkpoint_of(copy, 2))
    found, wanted = ({(r["group"], r["sample"]): r for r in responses_of(one)} for one in (copy, whole))
    assert {key: row["prompt_id"] for key, row in found.items()} == {
        key: row["prompt_id"] for key, row in wanted.items()
    }
    later = [key for key, row in wanted.items() if row["step"] > 2]
    flipped = sum(found[key]["tokens"] != wanted[key]["tokens"] for key in later)
    print(f"{flipped} of {len(later)} responses after the checkpoint differ in a token")
    assert flipped <= len(later) // 10  # the engine's arithmetic depends a little on what is sampled together
    if not flipped:
        check_same(copy, whole, 4)


def test_with_staleness_every_prompt_is_trained_on_once(runs: Runs, tmp_path: Path) -> None:
    config = sampled_run(tmp_path, "filter.drop=none", "run.steps=4", "rollout.max_staleness=1")
    folder = runs.train(config)
    runs.resume(checkpoint_of(folder, 2))
    trained = Counter(row["prompt_id"] for row in responses_of(folder) if row["rejected"] == "" and not row["sample"])
    assert max(trained.values()) == 1
    assert trained.total() == 4 * config.rollout.groups_per_step
    # In flight or waiting at the end are at most two steps' groups: all that came before them was trained on.
    order = [prompt.id for prompt, _ in PromptSource(prepare(config).prompts, config.run.seed).take(200)]
    places = sorted(order.index(prompt) for prompt in trained)
    assert places[-1] < trained.total() + 2 * config.rollout.groups_per_step
    counts = metrics_of(folder)[-1]
    assert counts["groups_trained"] == trained.total()
    assert counts["dropped"].keys() <= {"interrupted"}


def sampled_run(folder: Path, *overrides: str) -> RunConfig:
    """A run whose responses an engine samples, in the demo's world with a model that was not warmed up."""
    config = demo(
        *(folder / "runs", "warmup.updates=0", "rollout.groups_per_step=4", "run.checkpoint_every=2", "eval.every=0"),
        *("run.keep_checkpoints=9", *overrides),
    )
    config = write_world(config, folder)
    return config.model_copy(update={"world": config.world.model_copy(update={"name": ""})})


def started(log: Any, *arguments: str) -> subprocess.Popen[bytes]:
    """winnow, in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    env.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "cluster.cli", *arguments]
    return subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=ROOT)


def kill(driver: subprocess.Popen[bytes]) -> None:
    """Kills a driver without warning, and after it what it leaves: Ray would take a while to notice."""
    left = [] if driver.poll() is not None else descendants(driver.pid)
    driver.kill()
    driver.wait()
    for number in left:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue

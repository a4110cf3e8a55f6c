"""Whole runs of the demo's world by the command line, short ones: what a person would start, on whatever is there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from actors.engines import OWN_PROCESS
from cluster.commands.checks.apart import processes_below

ROOT = Path(__file__).parents[2]
STEPS = 4
SHORT = (
    "world.digits=1",
    "warmup.updates=80",
    "rollout.groups_per_step=8",
    "learner.updates_per_step=1",
    f"run.steps={STEPS}",
)
LAST_LINES = 6
ENGINE = "VLLM::EngineCore"  # how vLLM calls the process of an engine
STOPPED_AFTER = 1  # steps, after which an engine is stopped
PATIENCE = 30  # seconds that a sync and a group may take where one is


def measure(device: str, settings: Sequence[str] = (), seconds: float = 240.0) -> dict[str, float]:
    """Trains for some steps; the largest gap of the probe, and seconds of a sync and of a step.

    Raises:
        AssertionError: the run failed, or did not make its steps in time.
    """
    with TemporaryDirectory() as folder:
        lines = _trained(device, [*settings, f"run.folder={folder}"], Path(folder), seconds)
    assert len(lines) == STEPS, f"the run made {len(lines)} of {STEPS} steps"
    return {
        "probe_gap": max(line["probe_gap"] for line in lines),
        "probe_gap_mean": max(line["probe_gap_mean"] for line in lines),
        "probe_doubts": lines[-1]["probe_doubts"],
        "seconds_sync": min(line["seconds_sync"] for line in lines),
        "accuracy": lines[-1]["accuracy"],
    }


def measure_stopped(device: str, settings: Sequence[str] = (), seconds: float = 240.0) -> dict[str, float]:
    """Trains with two generators, the engine of one of which is stopped after the first step: what it samples then
    never comes, and the next sync finds it hanging. The run must go on with the other one.

    Raises:
        AssertionError: it does not.
    """
    with TemporaryDirectory() as folder:
        patience = [f"sync.timeout_seconds={PATIENCE}", f"rollout.timeout_seconds={PATIENCE}"]
        told = ["cluster.generators=2", f"cluster.env.{OWN_PROCESS}=1", *patience, *settings, f"run.folder={folder}"]
        lines = _trained(device, told, Path(folder), seconds, stop=True)
    assert len(lines) == STEPS, f"the run made {len(lines)} of {STEPS} steps"
    return {"seconds_sync": max(line["seconds_sync"] for line in lines), "probe_gap": lines[-1]["probe_gap"]}


def _trained(
    device: str, settings: Sequence[str], folder: Path, seconds: float, stop: bool = False
) -> list[dict[str, Any]]:
    """The lines of metrics of a run; nothing of it is left.

    Args:
        device: "cuda" or "cpu".
        settings: beside those of a short run.
        folder: for its run folder.
        seconds: that it may take.
        stop: whether an engine is stopped.
    """
    command = [sys.executable, "-m", "cluster.cli", "train", "deploy/runs/demo.toml", *SHORT]
    command += [f"cluster.device={'gpu' if device == 'cuda' else 'cpu'}", *settings]
    deadline = time.monotonic() + seconds
    said = folder / "said.txt"
    with said.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)
        try:
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
                if stop and len(_metrics(folder)) >= STOPPED_AFTER:
                    stop = not _stop_an_engine(process.pid)
        finally:
            status = process.poll()
            _end(process)
    last = " / ".join(said.read_text(errors="replace").strip().splitlines()[-LAST_LINES:])
    assert status is not None, f"the run has not ended within {seconds:g} s: {last}"
    assert status == 0, f"the run ended with status {status}: {last}"
    assert not stop, "the run ended before an engine of it could be stopped"
    return _metrics(folder)


def _metrics(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of the run's metrics so far."""
    texts = [file.read_text(encoding="utf-8") for file in folder.glob("*/metrics.jsonl")]
    return [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _stop_an_engine(pid: int) -> bool:
    """Stops the engine of one generator below a run's process, as a GPU that hangs does; whether there was one."""
    for one in processes_below(pid):
        with suppress(OSError):
            if ENGINE in Path(f"/proc/{one}/cmdline").read_text(errors="replace"):
                os.kill(one, signal.SIGSTOP)
                return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a run as a person would, and after a while all that is left of it."""
    below = processes_below(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
    for one in below:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    process.kill()
    process.wait()

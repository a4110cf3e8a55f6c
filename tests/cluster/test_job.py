"""A run as an ordinary Ray job: submitted with `ray job submit`, seen under its names in Ray's state and metrics; it
goes on where its driver is killed, and `ray job stop` leaves a checkpoint to go on from."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.preparing.folders import LOCK
from cluster.running.checkpoints import newest_checkpoint
from learner.types import free_port

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).parent / "ray")
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture
def cluster() -> Iterator[dict[str, int]]:
    """A Ray cluster of this test's own, ended by its process id."""
    # The agent of a node takes its jobs; its usual port may be another session's.
    names = ("port", "dashboard-port", "metrics-export-port", "dashboard-agent-listen-port")
    ports = {name: free_port() for name in names}
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [RAY, "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats", f"--temp-dir={folder}"]
        command += [f"--{name}={port}" for name, port in ports.items()]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        head = subprocess.Popen(command, env=os.environ | TOKEN, **quiet)
        try:
            wait_for(lambda: fetch(f"http://127.0.0.1:{ports['dashboard-port']}/api/version"), seconds=60)
            agent = f"http://127.0.0.1:{ports['dashboard-agent-listen-port']}/api/local_raylet_healthz"
            wait_for(lambda: fetch(agent), seconds=60)
            yield ports
        finally:
            head.send_signal(signal.SIGTERM)
            head.wait(timeout=60)


def fetch(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as refusal:  # it answers, if only to ask for a token
        return str(refusal.code)
    except OSError:
        return ""


def accuracy_of(cluster: dict[str, int]) -> re.Match[str] | None:
    """The run's line on Ray's Prometheus endpoint."""
    text = fetch(f"http://127.0.0.1:{cluster['metrics-export-port']}/metrics")
    return re.search(r'^ray_accuracy\{.*run="job".*\} .*$', text, re.M)


def wait_for(ready, seconds: float):
    """The first true value of `ready`, asked twice a second."""
    deadline = time.monotonic() + seconds
    while not (value := ready()):
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.5)
    return value


class Job:
    """A submitted job, and the process that follows its output, which ends with this context."""

    def __init__(self, command: list[str], env: dict[str, str], folder: Path) -> None:
        self._log = folder / "job.log"
        with self._log.open("w") as out:
            self.process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, cwd=folder)

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, ready, seconds: float):
        """As `wait_for`, while the job has not ended."""
        found = wait_for(lambda: ready() or (self.process.poll() is not None and "ended"), seconds)
        assert found != "ended", self.output
        return found


def steps_of(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.is_file() else []


def kill_driver(run: Path) -> None:
    """Kills the process that runs in a run folder."""
    os.kill(int((run / LOCK).read_text().split()[1]), signal.SIGKILL)


def test_a_submitted_job_shows_its_actors_outlives_its_driver_and_stops_with_a_checkpoint(
    cluster: dict[str, int], tmp_path: Path
) -> None:
    environment = json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "300"}})
    command = [RAY, "job", "submit", "--submission-id=a-run", "--runtime-env-json", environment]
    command += ["--working-dir", str(ROOT), "--", sys.executable, "-m", "cluster.cli", "train"]
    command += ["deploy/runs/demo.toml", "run.name=job", f"run.folder={tmp_path}", "warmup.updates=0", "run.steps=999"]
    command += ["rollout.groups_per_step=8", "world.digits=1", "run.checkpoint_every=1", "filter.drop=none"]
    command += ["--resume", "auto", "--retries", "1"]
    env = os.environ | TOKEN | {"RAY_ADDRESS": f"http://127.0.0.1:{cluster['dashboard-port']}"}
    with Job(command, env, tmp_path) as job:
        seen = job.wait_for(lambda: accuracy_of(cluster), seconds=600)
        assert 0 <= float(seen.group().split()[-1]) <= 1
        listing = subprocess.run(
            [RAY, "list", "actors", "--format", "json"], env=env, capture_output=True, text=True, timeout=60, check=True
        )
        names = {actor["name"] for actor in json.loads(listing.stdout)}
        assert {"job/learner-rank-0", "job/generator-0", "job/verifier-0", "job/filter"} <= names
        job.wait_for(lambda: newest_checkpoint(tmp_path / "job"), seconds=600)
        kill_driver(tmp_path / "job")
        job.wait_for(lambda: "learner ready" in job.output.partition("going on from")[2], seconds=600)
        reached = len(steps_of(tmp_path / "job"))
        job.wait_for(lambda: len(steps_of(tmp_path / "job")) > reached, seconds=600)
        subprocess.run([RAY, "job", "stop", "a-run"], env=env, capture_output=True, timeout=600, check=True)
        job.process.wait(timeout=600)
        output = job.output
    steps = steps_of(tmp_path / "job")
    assert steps == list(range(1, len(steps) + 1))
    checkpoint = tmp_path / f"job/checkpoints/step-{steps[-1]}"
    assert (checkpoint / "complete").is_file(), output
    assert "Ray kills a stopped job 300 s after it asked" in output
    assert f"winnow: stopped as asked: the checkpoint {checkpoint} is complete" in output
    assert f"winnow train --resume {tmp_path / 'job'}" in output
    assert output.count("the driver was killed (SIGKILL). The run goes on in 5 s: try 1 of at most 1") == 1
    assert "SIGTERM received" not in output  # Ray's stacks

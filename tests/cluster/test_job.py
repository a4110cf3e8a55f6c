"""A run as an ordinary Ray job: submitted with `ray job submit`, seen under its names in Ray's state and metrics."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def submitted(
    command: list[str], env: dict[str, str], cluster: dict[str, int], folder: Path
) -> tuple[int | None, object, str]:
    """(exit status, the run's line of metrics or whatever else was true first, output) of a job that has ended."""
    log = folder / "job.log"
    with log.open("w") as out:
        job = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, cwd=folder)
        try:
            seen = wait_for(lambda: job.poll() is not None or accuracy_of(cluster), seconds=600)
            job.wait(timeout=600)
        finally:
            job.kill()
    return job.returncode, seen, log.read_text()


def test_a_submitted_job_trains_and_shows_its_metrics_and_actors(cluster: dict[str, int], tmp_path: Path) -> None:
    command = [RAY, "job", "submit", "--working-dir", str(ROOT), "--", sys.executable, "-m", "cluster.cli", "train"]
    command += ["deploy/runs/demo.toml", "run.name=job", f"run.folder={tmp_path}", "warmup.updates=80", "run.steps=3"]
    command += ["rollout.groups_per_step=8", "world.digits=1"]
    env = os.environ | TOKEN | {"RAY_ADDRESS": f"http://127.0.0.1:{cluster['dashboard-port']}"}
    status, seen, output = submitted(command, env, cluster, tmp_path)
    assert status == 0, output
    assert isinstance(seen, re.Match), output
    assert 0 <= float(seen.group().split()[-1]) <= 1
    listing = subprocess.run(
        [RAY, "list", "actors", "--format", "json"], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    names = {actor["name"] for actor in json.loads(listing.stdout)}
    assert {"learner-rank-0", "generator-0", "verifier-0", "filter"} <= names
    lines = [json.loads(line) for line in (tmp_path / "job/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]

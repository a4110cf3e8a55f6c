"""A run as a Ray job on two nodes, from a folder that is not the checkout: sent with `winnow submit`, seen under its
names in Ray's state and metrics, with data for the dashboard where Prometheus is installed; it goes on where its driver
is killed and where its node is lost and another one comes, stops with a checkpoint at Ctrl-C, and goes on from that."""

import itertools
import json
import os
import pty
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cluster.config.run_files import LOCK
from cluster.reporting.metric_table import METRICS, MetricGroup
from cluster.running.checkpoints import newest_checkpoint
from learner.types import free_port
from tests.prometheus import Prometheus

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RAY = str(BIN / "ray")
WINNOW = (sys.executable, "-m", "cluster.cli")
DEMO = """
[world]
name = "addition"
digits = 1

[model]
dtype = "float32"

[reward]
name = "own"
own.file = "grade.py"

[rollout]
groups_per_step = 8
group_size = 8
max_new_tokens = 48

[filter]
drop = "none"
"""
GRADE = """
import helper
import rewards

def reward(response, reference, prompt):
    with open({!r}, "a") as file:
        print(rewards.__file__, file=file)
    return helper.score(response, reference)
"""
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
# Of Ray: metrics are there sooner, and a node that is gone is missed sooner. A slow one has as long as ever.
QUICK = {"RAY_metrics_report_interval_ms": "1000", "RAY_health_check_period_ms": "1000"}

# What the run of this test has none of: evaluations, a second checker, a teacher, episodes of an environment.
OF_EPISODES = [name for name, metric in METRICS.items() if metric.group is MetricGroup.EPISODES]
NOT_HERE = ("eval_accuracy", "verifier_disagreement", "kl_teacher", "loss_told", *OF_EPISODES)
UNTOLD = tuple(f"ray_{name}" for name in NOT_HERE)


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """For the files of the head node. Its path is short, as those of sockets must be."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


class TwoNodes:
    """A Ray cluster of a test's own, ended by its process ids: a head node, which runs the driver and has no CPU for
    actors, and another one, which runs these."""

    def __init__(self, folder: Path) -> None:
        """Starts both. `folder` is for the files of the nodes."""
        # The agent of a node takes its jobs; its usual port may be another session's.
        names = ("port", "dashboard-port", "metrics-export-port", "dashboard-agent-listen-port")
        self.ports = {name: free_port() for name in names}  # of the head
        self._folder, self._nodes, self._numbers = folder, list[subprocess.Popen[bytes]](), itertools.count(1)
        try:
            self._start("--head", "--num-cpus=0", f"--temp-dir={folder}", **self.ports)
            wait_for(lambda: fetch(f"http://127.0.0.1:{self.ports['dashboard-port']}/api/version"), seconds=300)
            self.add_node()
            self._wait_for_agent(self.ports)
        except BaseException:
            self.close()
            raise

    def add_node(self) -> None:
        """Starts a node for actors, and waits until it is there."""
        ports = {"metrics-export-port": free_port(), "dashboard-agent-listen-port": free_port()}
        # A folder of its own, as on another machine: nodes that share one make the job's folder anew.
        files = f"--temp-dir={self._folder}/{next(self._numbers)}"
        self._start("--num-cpus=2", f"--address=127.0.0.1:{self.ports['port']}", files, **ports)
        self._wait_for_agent(ports)

    def lose_node(self) -> None:
        """Kills all that runs on the newest node at once, as a machine that is switched off."""
        with suppress(psutil.NoSuchProcess):  # it has been lost
            node = psutil.Process(self._nodes[-1].pid)
            for process in (node, *node.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self._nodes.pop().wait(timeout=60)

    def close(self) -> None:
        """Ends all nodes."""
        while self._nodes:
            self.lose_node()

    def _start(self, *words: str, **ports: int) -> None:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        env |= TOKEN | QUICK | {"PATH": f"{BIN}:{os.environ['PATH']}"}
        command = [RAY, "start", "--block", "--disable-usage-stats", *words]
        command += [f"--{name}={port}" for name, port in ports.items()]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._nodes.append(subprocess.Popen(command, env=env, cwd="/", **quiet))

    @staticmethod
    def _wait_for_agent(ports: dict[str, int]) -> None:
        healthy = f"http://127.0.0.1:{ports['dashboard-agent-listen-port']}/api/local_raylet_healthz"
        wait_for(lambda: fetch(healthy), seconds=300)


@pytest.fixture
def cluster(ray_folder: Path) -> Iterator[TwoNodes]:
    nodes = TwoNodes(ray_folder)
    try:
        yield nodes
    finally:
        nodes.close()


def fetch(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as refusal:  # it answers, if only to ask for a token
        with refusal:
            return str(refusal.code)
    except OSError:
        return ""


def accuracy_of(cluster: TwoNodes) -> re.Match[str] | None:
    """The run's line on Ray's Prometheus endpoint."""
    text = fetch(f"http://127.0.0.1:{cluster.ports['metrics-export-port']}/metrics")
    return re.search(r'^ray_accuracy\{.*run="job".*\} .*$', text, re.M)


def wait_for_all_panels(prometheus: Prometheus, run: str, seconds: float) -> None:
    """Until every query of the dashboard has data of a run, but for those that it cannot have."""
    deadline = time.monotonic() + seconds
    while lacking := [query for query in prometheus.without_data(run) if not any(name in query for name in UNTOLD)]:
        assert time.monotonic() < deadline, f"no data after {seconds} s: {lacking}"
        time.sleep(0.5)


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
        self._log = folder.parent / "job.log"
        self._keyboard, terminal = pty.openpty()
        env = env | {"PYTHONPATH": str(ROOT)}
        with self._log.open("w") as out:
            self.process = subprocess.Popen(
                command, env=env, stdin=terminal, stdout=out, stderr=subprocess.STDOUT, cwd=folder
            )
        os.close(terminal)

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._keyboard)

    def interrupt_and_answer(self, answer: str) -> None:
        """Ctrl-C, and what a person types when asked."""
        self.process.send_signal(signal.SIGINT)
        self.wait_for(lambda: "s stops the job" in self.output, seconds=300)
        os.write(self._keyboard, f"{answer}\n".encode())

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, ready, seconds: float):
        """As `wait_for`, while the job has not ended."""
        found = wait_for(lambda: ready() or (self.process.poll() is not None and "ended"), seconds)
        assert found != "ended", self.output
        return found


def winnow(*words: str, env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of winnow's, called in a folder by a person without a terminal."""
    env = env | {"PYTHONPATH": str(ROOT)}
    quiet = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run([*WINNOW, *words], env=env, cwd=folder, timeout=300, **quiet)


def steps_of(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.is_file() else []


def kill_driver(run: Path) -> None:
    """Kills the process that runs in a run folder."""
    os.kill(int((run / LOCK).read_text().split()[1]), signal.SIGKILL)


def test_a_submitted_job_shows_its_actors_outlives_its_driver_and_its_node_stops_with_a_checkpoint_and_goes_on(
    cluster: TwoNodes, ray_folder: Path, tmp_path: Path
) -> None:
    mine, run = tmp_path / "mine", tmp_path / "shared/job"
    write_folder(mine, graded=tmp_path / "graded.txt", runs=run.parent)
    address = f"http://127.0.0.1:{cluster.ports['dashboard-port']}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(tmp_path)}
    refused = winnow("jobs", "--address", address, env=env | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}, folder=mine)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "the token of RAY_AUTH_TOKEN is not that of the cluster" in refused.stderr
    env |= {"RAY_AUTH_TOKEN": TOKEN["RAY_AUTH_TOKEN"], "RAY_ADDRESS": address}
    with Job([*WINNOW, "submit", "mine.toml", "run.name=job", "--retries", "1"], env, mine) as job:
        seen = job.wait_for(lambda: accuracy_of(cluster), seconds=600)
        assert 0 <= float(seen.group().split()[-1]) <= 1
        listing = subprocess.run(
            [RAY, "list", "actors", "--format", "json"],
            env=env | TOKEN,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        names = {actor["name"] for actor in json.loads(listing.stdout)}
        assert {"job/learner-rank-0", "job/generator-0", "job/verifier-0", "job/filter"} <= names
        if shutil.which("prometheus"):
            with Prometheus(tmp_path / "prometheus", ray_folder) as prometheus:
                wait_for_all_panels(prometheus, "job", seconds=300)
        job.wait_for(lambda: newest_checkpoint(run), seconds=600)
        kill_driver(run)
        job.wait_for(lambda: "learner ready" in job.output.partition("going on from")[2], seconds=600)
        reached = len(steps_of(run))
        job.wait_for(lambda: len(steps_of(run)) > reached, seconds=600)
        shown = winnow("jobs", env=env, folder=mine).stdout.splitlines()[1].split()
        assert shown[:2] == ["job-1", "running"]
        assert re.fullmatch(r"\d+/999", shown[2])
        cluster.lose_node()
        reached = len(steps_of(run))
        cluster.add_node()
        job.wait_for(lambda: len(steps_of(run)) > reached + 1, seconds=600)
        job.interrupt_and_answer("s")
        job.process.wait(timeout=600)
        output = job.output
    print(output)  # for whoever reads of a failure: an assertion shows too little of it
    steps = steps_of(run)
    assert steps == list(range(1, len(steps) + 1))
    checkpoint = run / f"checkpoints/step-{steps[-1]}"
    assert (checkpoint / "complete").is_file(), output
    assert "Ray kills a stopped job 900 s after it asked" in output
    assert f"winnow: stopped as asked: the checkpoint {checkpoint} is complete" in output
    assert f"It goes on with: winnow submit --resume {run}" in output
    assert output.count("the driver was killed (SIGKILL). The run goes on in 5 s: try 1 of at most 1") == 1
    assert "SIGTERM received" not in output  # Ray's stacks
    # What graded was the person's file and the code that was sent, on the node that is not the head.
    assert "/runtime_resources/working_dir_files/" in (tmp_path / "graded.txt").read_text().splitlines()[-1]
    again = winnow("submit", "--resume", str(run), f"run.steps={steps[-1]}", env=env, folder=mine)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"nothing is left to do: the run has trained {steps[-1]} steps" in again.stdout
    assert "job-2 has ended" in again.stdout


def write_folder(folder: Path, graded: Path, runs: Path) -> None:
    """A person's folder, which is not the checkout: a run file, a reward of their own and a module beside it."""
    folder.mkdir()
    (folder / "mine.toml").write_text(f"{DEMO}\n[run]\nfolder = {str(runs)!r}\nsteps = 999\ncheckpoint_every = 1\n")
    (folder / "helper.py").write_text("def score(response, reference):\n    return response == reference\n")
    (folder / "grade.py").write_text(GRADE.format(str(graded)))

"""How a run ends: asked to, it leaves a checkpoint that another one goes on from; killed, or with a part of it killed,
it leaves no process. Two short runs, each ended in the ways that one run can be. Their folder is at an address, from
which the second one goes on without the first one's local folder; and no secret of their environment is anywhere."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from actors.engines import OWN_PROCESS
from cluster.preparing.storage import copy_of
from tests.runs import ROOT, SHORT, metrics_of

pytestmark = pytest.mark.ray
SECONDS = 120.0  # in which nothing of what was killed may be left
NAMES = ("OPENAI_API_KEY", "WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD", "RAY_AUTH_TOKEN")
SECRETS = {name: uuid.uuid4().hex for name in NAMES}
OFFLINE = {"WANDB_MODE": "offline", "RAY_AUTH_MODE": "token"}
LOGGERS = ["tensorboard", *(name for name in ("wandb", "mlflow", "trackio") if importlib.util.find_spec(name))]
# Of Ray's dashboard: what it knows of actors, tasks, workers, jobs and nodes.
STATES = [f"api/v0/{kind}?detail=1" for kind in ("actors", "tasks", "workers", "nodes")]
STATES += ["api/jobs/", "logical/actors", "nodes?view=summary"]


class LiveRun:
    """A run as a person starts it. Every process that it brings about is known by a variable of its environment."""

    def __init__(self, log: Path, folder: Path, *words: str) -> None:
        """`folder` gets what stays on this machine: local copies, and what loggers write."""
        self._name, self._log = f"STARTED_BY_TEST={uuid.uuid4().hex}".encode(), log
        name, _, value = self._name.decode().partition("=")
        with log.open("w") as out:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "cluster.cli", "train", *words],
                env=os.environ | SECRETS | OFFLINE | stores_in(folder) | {name: value, "RAY_ADDRESS": ""},
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def processes(self) -> dict[int, str]:
        """process id -> title, of all that live."""
        found = {}
        for folder in Path("/proc").iterdir():
            with suppress(OSError):
                if folder.name.isdigit() and self._name in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes()[:200].replace(b"\0", b" ").decode()
        return found

    def of(self, *titles: str) -> list[int]:
        """The processes with one of these in their titles."""
        return [pid for pid, title in self.processes().items() if any(each in title for each in titles)]

    def wait_for(self, ready: Callable[[], Any], seconds: float = 1200.0) -> Any:
        """The first true value of `ready`."""
        until = time.monotonic() + seconds
        while not (value := ready()):
            assert time.monotonic() < until, f"nothing after {seconds} s\n{self.output}\n{self.processes()}"
            time.sleep(0.1)
        return value

    def gone(self, pids: list[int]) -> bool:
        return not set(pids) & set(self.processes())

    def end(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.driver.wait()


def stores_in(folder: Path) -> dict[str, str]:
    """Variables by which everything that is kept outside of a run folder is kept in this folder."""
    places = {"WINNOW_CACHE": folder / "cache", "TRACKIO_DIR": folder / "trackio"}
    return {name: str(place) for name, place in places.items()} | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/ml.db"}


def secrets_in(folder: Path) -> list[tuple[Path, str]]:
    """The files below a folder that hold a secret, each with the secret's name."""
    return [
        (file, name)
        for file in folder.rglob("*")
        if file.is_file()
        for name, secret in SECRETS.items()
        if secret.encode() in file.read_bytes()
    ]


def secrets_at(dashboard: str) -> list[tuple[str, str]]:
    """What Ray's dashboard shows that holds a secret."""
    found, seen = [], ""
    for state in STATES:
        request = urllib.request.Request(f"{dashboard}/{state}")
        request.add_header("Authorization", f"Bearer {SECRETS['RAY_AUTH_TOKEN']}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
        seen += text
        found += [(state, name) for name, secret in SECRETS.items() if secret in text]
    assert "VLLM_NO_USAGE_STATS" in seen  # variables that actors are given are shown there
    return found


def session_of(run: LiveRun) -> Path:
    """The folder of Ray's session, in which its logs are."""
    (raylet, *_) = run.of("/raylet/raylet")
    command = Path(f"/proc/{raylet}/cmdline").read_text()
    found = re.search(r"=(/[^=\0]*/session_[\d_-]+)/", command)
    assert found, command
    return Path(found[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ends")


@pytest.fixture
def start(folder: Path, own_ray: None) -> Iterator[Callable[..., LiveRun]]:
    started = list[LiveRun]()

    def run(*words: str) -> LiveRun:
        started.append(LiveRun(folder / f"{len(started)}.log", folder, *words))
        return started[-1]

    yield run
    for each in started:
        each.end()


def local(folder: Path) -> Path:
    """The folder in which a run writes whose address is below a folder."""
    copy = copy_of(f"file://{folder}/runs/demo")
    return folder / "cache" / "file" / copy.parent.name / copy.name


def steps(folder: Path) -> int:
    return len(metrics_of(local(folder))) if (local(folder) / "metrics.jsonl").is_file() else 0


def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_and_no_process(
    start: Callable[..., LiveRun], folder: Path
) -> None:
    settings = [
        *SHORT,
        f"run.folder=file://{folder}/runs",
        "run.steps=999",
        "warmup.updates=40",
        "filter.patience=9999",
    ]
    run = start("deploy/runs/demo.toml", *settings, f"run.loggers={LOGGERS}")
    run.wait_for(lambda: steps(folder) or run.driver.poll() is not None)
    assert run.driver.poll() is None, run.output
    run.driver.send_signal(signal.SIGINT)
    run.driver.wait(timeout=600)
    assert run.driver.returncode == 130, run.output
    checkpoint = local(folder) / f"checkpoints/step-{steps(folder)}"
    assert (checkpoint / "complete").is_file()
    assert f"stopped as asked: the checkpoint {checkpoint} is complete" in run.output
    assert f"winnow train --resume {local(folder)}" in run.output
    assert not run.processes()
    assert f"the run is at file://{folder}/runs/demo, too" in run.output
    assert (folder / f"runs/demo/checkpoints/{checkpoint.name}/complete").is_file()


def test_it_goes_on_from_there_and_whatever_is_killed_takes_what_it_started_with_it(
    start: Callable[..., LiveRun], folder: Path
) -> None:
    done = steps(folder)
    assert done, "the test before this one has left no run"
    local(folder).rename(folder / "as if on another machine")
    run = start("--resume", f"file://{folder}/runs/demo", "cluster.generators=2", f"cluster.env.{OWN_PROCESS}=1")
    run.wait_for(lambda: steps(folder) > done or run.driver.poll() is not None)
    assert run.driver.poll() is None, run.output
    assert [line["step"] for line in metrics_of(local(folder))] == list(range(1, steps(folder) + 1))

    assert secrets_at(re.search(r"Ray dashboard: (\S+)", run.output)[1]) == []
    session = session_of(run)

    (verifier, *_), workers = run.of("ray::Verifier"), run.of("rewards.grading.worker")
    os.kill(verifier, signal.SIGKILL)
    run.wait_for(lambda: run.gone([verifier, *workers]), SECONDS)

    generator, engines = run.of("ray::Generator")[0], run.of("VLLM::EngineCore")
    mine = [pid for pid in engines if _parent(pid) == generator]
    assert len(mine) == 1
    os.kill(generator, signal.SIGKILL)
    run.wait_for(lambda: run.gone([generator, *mine]), SECONDS)

    at = steps(folder)
    run.wait_for(lambda: steps(folder) > at or run.driver.poll() is not None)
    assert run.driver.poll() is None, run.output

    os.kill(run.driver.pid, signal.SIGKILL)
    run.driver.wait()
    run.wait_for(lambda: not run.processes(), SECONDS)
    assert secrets_in(folder) == []
    assert (session / "logs/gcs_server.out").is_file()
    assert secrets_in(session) == []


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

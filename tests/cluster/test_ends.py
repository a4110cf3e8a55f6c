"""How a run ends: asked to, it leaves a checkpoint that another one goes on from; killed, or with a part of it killed,
it leaves no process. Two short runs, each ended in the ways that one run can be."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.runs import ROOT, SHORT, metrics_of

pytestmark = pytest.mark.ray
SECONDS = 30.0  # in which nothing of what was killed may be left


class LiveRun:
    """A run as a person starts it. Every process that it brings about is known by a variable of its environment."""

    def __init__(self, log: Path, *words: str) -> None:
        self._name, self._log = f"STARTED_BY_TEST={uuid.uuid4().hex}".encode(), log
        name, _, value = self._name.decode().partition("=")
        with log.open("w") as out:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "cluster.cli", "train", *words],
                env=os.environ | {name: value, "RAY_ADDRESS": ""},
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ends")


@pytest.fixture
def start(folder: Path, own_ray: None) -> Iterator[Callable[..., LiveRun]]:
    started = list[LiveRun]()

    def run(*words: str) -> LiveRun:
        started.append(LiveRun(folder / f"{len(started)}.log", *words))
        return started[-1]

    yield run
    for each in started:
        each.end()


def steps(folder: Path) -> int:
    return len(metrics_of(folder / "demo")) if (folder / "demo/metrics.jsonl").is_file() else 0


def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_and_no_process(
    start: Callable[..., LiveRun], folder: Path
) -> None:
    settings = [*SHORT, f"run.folder={folder}", "run.steps=999", "warmup.updates=40", "filter.patience=9999"]
    run = start("deploy/runs/demo.toml", *settings)
    run.wait_for(lambda: steps(folder) or run.driver.poll() is not None)
    assert run.driver.poll() is None, run.output
    run.driver.send_signal(signal.SIGINT)
    run.driver.wait(timeout=600)
    assert run.driver.returncode == 130, run.output
    checkpoint = folder / f"demo/checkpoints/step-{steps(folder)}"
    assert (checkpoint / "complete").is_file()
    assert f"stopped as asked: the checkpoint {checkpoint} is complete" in run.output
    assert f"winnow train --resume {folder / 'demo'}" in run.output
    assert not run.processes()


def test_it_goes_on_from_there_and_whatever_is_killed_takes_what_it_started_with_it(
    start: Callable[..., LiveRun], folder: Path
) -> None:
    done = steps(folder)
    assert done, "the test before this one has left no run"
    run = start("--resume", str(folder / "demo"), "cluster.generators=2")
    run.wait_for(lambda: steps(folder) > done or run.driver.poll() is not None)
    assert run.driver.poll() is None, run.output
    assert [line["step"] for line in metrics_of(folder / "demo")] == list(range(1, steps(folder) + 1))

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


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

"""The driver of a run is started again where it was killed, and only then."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.running import supervise
from cluster.running.signals import passed_on

ROOT = Path(__file__).parents[3]
PASSED = passed_on(signal.SIGTERM)
# A driver: writes that it was started, and what it does then.
DRIVER = """
import os, signal, sys, time
from pathlib import Path
folder, ends = Path(sys.argv[1]), sys.argv[2].split(",")
starts = len(list(folder.glob("start-*")))
(folder / f"start-{starts}").touch()
end = ends[min(starts, len(ends) - 1)]
Path.cwd()
if end.startswith("waits"):
    if end == "waits for more":
        signal.signal({PASSED}, lambda number, frame: (folder / "heard").touch())
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(9))
    (folder / "waits").touch()
    time.sleep(60)
if end.startswith("step"):
    state = folder / "checkpoints" / end / "state"
    state.mkdir(parents=True)
    (state / "run.json").touch()
    (state.parent / "complete").touch()
    end = "killed"
if end == "made anew":
    Path.cwd().rmdir()
    (folder / "current").mkdir()
    end = "killed"
if end == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(end))
""".replace("{PASSED}", str(PASSED))
# The process above it, which waits for nothing.
PARENT = f"""
import sys
from pathlib import Path
from cluster.running import supervise
from cluster.running import restarts
restarts.FIRST_PAUSE = 0.0
command = [sys.executable, "-c", {DRIVER!r}, *sys.argv[1:3]]
sys.exit(supervise.supervise(command, Path(sys.argv[1]), int(sys.argv[3]), (0, 2, 3, 130, 143, 129)))
"""


def parent(folder: Path, ends: str, retries: int = 2) -> subprocess.Popen[str]:
    current = folder / "current"
    current.mkdir()
    words = [sys.executable, "-c", PARENT, str(folder), ends, str(retries)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=current, env=env)


@pytest.mark.parametrize(
    ("ends", "status", "starts"),
    [
        ("killed,1,0", 0, 3),
        ("2", 2, 1),
        ("3", 3, 1),
        ("killed", 128 + signal.SIGKILL, 3),
        ("step-1,killed,step-2,killed,0", 0, 5),
        ("made anew,0", 0, 2),
    ],
    ids=["goes on", "mistake", "starved", "in vain", "a newer checkpoint", "a new folder"],
)
def test_a_run_is_started_again_until_it_has_come_to_an_end(
    tmp_path: Path, ends: str, status: int, starts: int
) -> None:
    process = parent(tmp_path, ends)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == status
    assert len(list(tmp_path.glob("start-*"))) == starts
    assert said.count("The run goes on in") == starts - 1
    if ends.startswith("killed"):
        assert "the driver was killed (SIGKILL)" in said


def wait_for(file: Path) -> None:
    until = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_who_asks_the_supervisor_to_end_asks_the_run(tmp_path: Path) -> None:
    """One that has no handlers yet is ended by what is passed on, as by the signal itself."""
    process = parent(tmp_path, "waits")
    wait_for(tmp_path / "waits")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert len(list(tmp_path.glob("start-*"))) == 1
    process.stderr.close()


def test_the_first_signal_is_passed_on_as_one_that_the_run_may_have_got_itself_and_the_second_as_it_is(
    tmp_path: Path,
) -> None:
    process = parent(tmp_path, "waits for more")
    wait_for(tmp_path / "waits")
    process.send_signal(signal.SIGTERM)
    wait_for(tmp_path / "heard")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 9
    process.stderr.close()


def test_retries_are_for_runs_that_can_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "any.toml", "--retries", "3"]) == 2
    assert "--retries goes with --resume" in capsys.readouterr().err


def test_a_run_that_is_named_by_its_folder_is_started_again_from_its_newest_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text('[world]\nname = "addition"\n')
    checkpoint = tmp_path / "checkpoints/step-3"
    checkpoint.mkdir(parents=True)
    asked = []
    monkeypatch.setattr(supervise, "supervise", lambda *what: asked.append(what) or 7)
    words = ["train", "--resume", str(tmp_path), "run.steps=9", "--retries", "2"]
    assert main(words) == 7
    command, folder, retries, _ = asked.pop()
    assert command == [sys.executable, "-m", "cluster.cli", *words, "--retries", "0"]
    assert (folder, retries) == (tmp_path, 2)
    assert main(["train", "--resume", str(checkpoint), "--retries", "2"]) == 2
    assert "whose newest checkpoint every try takes" in capsys.readouterr().err

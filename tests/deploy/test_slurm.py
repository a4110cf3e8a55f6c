"""The Slurm script makes one Ray cluster of its nodes, and is queued again exactly where that helps."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deploy.slurm import REQUEUED, SCRIPT, environment_of_job, make_commands

OPTIONS = (SCRIPT.parents[2] / "tests/data/schemas/sbatch.txt").read_text(encoding="utf-8").split()
TOKEN = "0123456789abcdef"
# Stands in for Ray where only the script itself is looked at: a cluster that is healthy from the start of its head on.
RAY = f"""#!/bin/sh
case $1 in
  get-auth-token) echo {TOKEN};;
  start) echo "$@" >> "$HOME/started"; exec sleep 60;;
  health-check) grep -q -e --head "$HOME/started";;
esac
"""
WAITS = """
trap 'echo saved; exit 143' TERM
echo works
while :; do sleep 0.05; done
"""
COUNTS = """
import os, ray, time
ray.init(logging_level="ERROR")
deadline = time.monotonic() + 60
while ray.cluster_resources().get("CPU") != 2 and time.monotonic() < deadline:
    time.sleep(0.2)
alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
print("nodes:", len(set(alive)), "token:", len(os.environ["RAY_AUTH_TOKEN"]))
"""


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with what stands in for Slurm and for Ray."""
    make_commands(tmp_path)
    (tmp_path / "ray").write_text(RAY)
    (tmp_path / "ray").chmod(0o755)
    return tmp_path


def start(folder: Path, *command: str, tries: int = 0, wait: int = 60) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["bash", str(SCRIPT), *command],
        cwd=folder,
        env=environment_of_job(folder, job=7, nodes=2, tries=tries) | {"WAIT": str(wait)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also where this test ignores it
    )


def was_queued_again(folder: Path) -> bool:
    return (folder / REQUEUED).exists()


def test_every_directive_is_an_option_of_sbatch() -> None:
    directives = re.findall(r"^#SBATCH --([a-z-]+)", SCRIPT.read_text(), re.M)
    assert len(directives) > 5
    assert [name for name in directives if name not in OPTIONS] == []


def test_bash_can_read_the_script() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", SCRIPT], check=False).returncode == 0


def test_a_head_and_a_worker_start_and_the_token_stands_on_no_command_line(commands: Path) -> None:
    both = "while [ $(wc -l < $HOME/started) -lt 2 ]; do sleep 0.05; done;"
    job = start(commands, "sh", "-c", f"{both} echo $RAY_AUTH_MODE $RAY_AUTH_TOKEN $RAY_ADDRESS")
    said, _ = job.communicate(timeout=60)
    assert job.returncode == 0
    mode, token, address = said.split()
    assert (mode, token) == ("token", TOKEN)
    started = (commands / "started").read_text().splitlines()
    assert ["--head" in line for line in started].count(True) == 1
    assert [line.endswith(f"--address={address}") for line in started].count(True) == 1
    assert TOKEN not in "".join(started)
    assert TOKEN not in SCRIPT.read_text()


@pytest.mark.parametrize(("number", "again"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_at_the_time_limit_the_command_saves_and_the_job_is_queued_again_but_not_where_it_is_cancelled(
    commands: Path, number: signal.Signals, again: bool
) -> None:
    with start(commands, "bash", "-c", WAITS) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "works\n"
        job.send_signal(number)
        assert job.stdout.readline() == "saved\n"
        assert job.wait(60) == 143
    assert was_queued_again(commands) is again


@pytest.mark.parametrize(("status", "again"), [(0, False), (1, True), (137, True), (2, False), (3, False)])
def test_a_failed_run_is_queued_again_and_a_mistake_never(commands: Path, status: int, again: bool) -> None:
    job = start(commands, "sh", "-c", f"exit {status}")
    job.communicate(timeout=60)
    assert job.returncode == status
    assert was_queued_again(commands) is again


def test_failures_are_counted_and_not_what_else_brought_the_job_back(commands: Path) -> None:
    again = []
    for tries in range(20, 24):  # queued again twenty times before, at the time limit
        start(commands, "sh", "-c", "exit 1", tries=tries).communicate(timeout=60)
        again.append(was_queued_again(commands))
        (commands / REQUEUED).unlink(missing_ok=True)
    assert again == [True, True, True, False]
    assert len((commands / "winnow-7.failures").read_text().splitlines()) == 4


def test_the_command_does_not_ignore_an_interrupt_as_a_shells_background_does(commands: Path) -> None:
    heard = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    said, _ = start(commands, sys.executable, "-c", heard).communicate(timeout=60)
    assert said == "True\n"


def test_a_cluster_that_does_not_start_ends_the_job(commands: Path) -> None:
    (commands / "ray").write_text(f"#!/bin/sh\n[ $1 = get-auth-token ] && echo {TOKEN}\n[ $1 != health-check ]\n")
    job = start(commands, "echo", "works", wait=0)
    said, _ = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "works" not in said


@pytest.mark.ray
def test_two_nodes_of_a_job_are_one_cluster_with_a_token_that_nobody_else_can_read(tmp_path: Path) -> None:
    make_commands(tmp_path)
    number = 10_000 + os.getpid()
    counting = tmp_path / "count.py"
    counting.write_text(COUNTS)
    job = subprocess.Popen(
        ["bash", str(SCRIPT), "python", "-W", "ignore", str(counting)],
        env=environment_of_job(tmp_path, job=number, nodes=2),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said, _ = job.communicate(timeout=200)
        assert "nodes: 2 token: 64" in said
        assert job.returncode == 0
        token = tmp_path / ".ray/auth_token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert_nothing_runs(f"/tmp/ray-{number}")
    finally:
        job.terminate()
        job.wait(60)
        shutil.rmtree(f"/tmp/ray-{number}", ignore_errors=True)


def assert_nothing_runs(session: str) -> None:
    """No process of a session of Ray runs any more, or soon none does."""
    deadline = time.monotonic() + 30
    while left := subprocess.run(["pgrep", "-f", session], capture_output=True, text=True, check=False).stdout:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)

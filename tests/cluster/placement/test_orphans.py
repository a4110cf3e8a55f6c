"""Whatever ends a driver, what it started ends too; and what an earlier run left is named."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.placement.orphans import SWEEP_SECONDS, named, orphans

# A driver with a child, a grandchild in a session of its own that is deaf to SIGTERM, and one that wrote its own title.
DRIVER = """
import json, signal, subprocess, sys, time
from cluster.placement.orphans import no_orphans
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it runs in its background ignore it
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
PARENT = f"import subprocess, sys, time; print(subprocess.Popen([sys.executable, '-c', {DEAF!r}], \
start_new_session=True).pid, flush=True); time.sleep(600)"
TITLED = "import setproctitle, time; setproctitle.setproctitle('x' * 4000); print(flush=True); time.sleep(600)"
with no_orphans():
    commands = [[sys.executable, "-c", code] for code in (PARENT, TITLED)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    said = [child.stdout.readline() for child in children]
    print(json.dumps([*(child.pid for child in children), int(said[0])]), flush=True)
    sys.stdin.readline()
print("ended", flush=True)
"""


class Driver:
    """A running driver, and the processes below it."""

    def __init__(self, *prefix: str) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.below: list[int] = json.loads(self.process.stdout.readline())

    def watchers(self) -> list[int]:
        """Process ids of its watcher, which is its only child that names no driver."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in listed if int(pid) not in self.below]

    def end(self) -> None:
        """Whatever a test has left."""
        for pid in (self.process.pid, *self.below):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def drivers() -> Iterator[Callable[..., Driver]]:
    started = list[Driver]()

    def start(*prefix: str) -> Driver:
        started.append(Driver(*prefix))
        return started[-1]

    yield start
    for driver in started:
        driver.end()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def all_gone(pids: list[int], seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, pids))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_a_killed_driver_started_ends_with_it(drivers: Callable[..., Driver], number: signal.Signals) -> None:
    driver = drivers()
    assert all(map(alive, driver.below))
    driver.process.send_signal(number)
    driver.process.wait()
    assert all_gone(driver.below)
    assert not [each for each in orphans() if each.driver == driver.process.pid]


def test_a_driver_that_ends_by_itself_leaves_nothing_and_its_environment_is_as_it_was(
    drivers: Callable[..., Driver],
) -> None:
    driver = drivers()
    out, _ = driver.process.communicate("\n", timeout=60)
    assert out == "ended\n"
    assert all_gone(driver.below, seconds=0.0)
    assert "WINNOW_DRIVER" not in os.environ
    assert SWEEP_SECONDS < 30


def test_what_outlives_driver_and_watcher_is_named_with_the_way_to_end_it(drivers: Callable[..., Driver]) -> None:
    driver = drivers()
    assert not [each for each in orphans() if each.driver == driver.process.pid]  # their driver lives
    (watcher,) = driver.watchers()
    os.kill(watcher, signal.SIGKILL)
    driver.process.kill()
    driver.process.wait()
    found = [each for each in orphans() if each.driver == driver.process.pid]
    assert sorted(each.pid for each in found) == sorted(driver.below)
    text = named(found)
    assert f"whose driver (process {driver.process.pid}) is gone" in text
    assert text.endswith("kill -9 " + " ".join(str(each.pid) for each in found))


def test_nothing_is_left_where_process_1_reaps_nothing(drivers: Callable[..., Driver]) -> None:
    """As in a container whose first process is no init."""
    first = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(600)"
    apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("this machine gives no name space of process ids")
    driver = drivers(*apart, sys.executable, "-c", first)
    inside = Path(f"/proc/{driver.process.pid}/task/{driver.process.pid}/children").read_text().split()[0]
    members = [int(pid) for pid in _below(int(inside))]
    (real,) = [int(pid) for pid in Path(f"/proc/{inside}/task/{inside}/children").read_text().split()]
    os.kill(real, signal.SIGKILL)
    try:
        assert len(members) >= 5  # driver, watcher, and three below
        assert all_gone(members)
    finally:
        os.kill(int(inside), signal.SIGKILL)


def _below(pid: int) -> list[str]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [each for child in children for each in (child, *_below(int(child)))]

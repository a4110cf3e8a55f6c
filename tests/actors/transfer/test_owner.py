import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow

# An owner, its child and a grandchild, which stands for a worker of an engine; each says its number and sleeps.
SLEEPER = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
CHILD = f"""
import subprocess, sys
from actors.transfer.owner import end_with_owner
end_with_owner()
subprocess.Popen([sys.executable, "-c", {SLEEPER!r}])
{SLEEPER}
"""
OWNER = f"""
import subprocess, sys
from actors.transfer.owner import own_children
own_children()
subprocess.Popen([sys.executable, "-c", {CHILD!r}])
{SLEEPER}
"""


def lives(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def ended(processes: list[int]) -> bool:
    """Waits until none of the processes lives any more."""
    while any(map(lives, processes)):
        time.sleep(0.1)
    return True


def test_an_engines_process_and_its_workers_end_with_an_owner_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        numbers = [int(owner.stdout.readline()) for _ in range(3)]
        assert all(map(lives, numbers))
        os.kill(owner.pid, signal.SIGKILL)
    assert ended(numbers)


def test_a_process_that_is_nobodys_child_watches_nobody() -> None:
    script = "import threading; from actors.transfer.owner import end_with_owner; end_with_owner(); "
    script += "print(threading.active_count())"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1"]

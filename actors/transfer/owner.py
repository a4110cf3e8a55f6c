"""An engine's process ends with the actor that started it, however that one ends: vLLM's own would live on without it,
and hold its GPU."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

OWNER = "WINNOW_ENGINE_OWNER"  # environment variable: id of the process whose direct child is to end with it
SECONDS_BETWEEN = 1.0  # looks at who the parent is


def own_children() -> None:
    """Has the processes that this one starts from now on, and that call `end_with_owner`, end with it."""
    os.environ[OWNER] = str(os.getpid())


def end_with_owner() -> None:
    """Where this process is a child of an owner, watches it in a thread, and ends with it at once. Workers of the
    child are ended with the child."""
    parent = os.getppid()
    if os.environ.get(OWNER) == str(parent):
        threading.Thread(target=_watch, args=(parent,), daemon=True, name="winnow-owner").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN)
    for process in [*_descendants(os.getpid()), os.getpid()]:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _descendants(process: int) -> list[int]:
    """Ids of the children of a process and of theirs, the youngest generation last."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            # The name, in brackets, may hold anything; behind it come the state and the parent.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found, left = list[int](), [process]
    while left:
        new = children.get(left.pop(), [])
        found += new
        left += new
    return found

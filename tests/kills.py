"""Kills processes of a run that goes on in this process, when it has come to a step."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.runs import metrics_of

PATIENCE = 300.0  # seconds for a run to come to a step


def processes_of(actor: str) -> list[int]:
    """Ids of the processes below this one that are Ray actors of a class, the oldest first."""
    found = [
        child
        for child in psutil.Process().children(recursive=True)
        if any(word.startswith(f"ray::{actor}") for word in _command(child))
    ]
    return [child.pid for child in sorted(found, key=psutil.Process.create_time)]


@contextmanager
def kills(folder: Path, plan: Mapping[int, str]) -> Iterator[list[int]]:
    """While it lasts, kills the last process of an actor's class when a run has written the line of a step.

    Args:
        folder: of the run.
        plan: step -> class of the actor, in order.

    Gives the ids of what was killed so far.
    """
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        until = time.monotonic() + PATIENCE
        for step, actor in plan.items():
            while not (_steps(folder) >= step and processes_of(actor)):
                if over.wait(0.05) or time.monotonic() > until:
                    return
            killed.append(processes_of(actor)[-1])
            os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return []


def _steps(folder: Path) -> int:
    return len(metrics_of(folder)) if (folder / "metrics.jsonl").is_file() else 0

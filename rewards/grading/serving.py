"""The other side of `rewards.grading.process`: serves its owner until that is gone.

The process is not asked to stop: it is killed, or ends when its owner is gone.
"""

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from rewards.grading.below import below, kill_all
from rewards.grading.progress import Progress

TOGETHER = 0.002  # seconds of work whose answers are sent together: to send one takes as long as a cheap reward


def serve(arguments: Sequence[str], answers: Callable[[Any], Iterator[Any]]) -> None:
    """Answers whatever the owner asks, until it is gone.

    Args:
        arguments: descriptor of the connection, descriptor of a pipe whose end says that the owner is gone, the most
            memory in MiB (0: no limit), and the descriptor of what says how far the process is (`Progress`).
        answers: gives the answers to what was asked, one after the other.
    """
    descriptor, life, memory_mib, page = map(int, arguments)
    threading.Thread(target=_end_with_owner, args=(life,), daemon=True).start()
    if memory_mib:
        resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection, progress = Connection(descriptor), Progress(page)
    try:
        _send(connection, progress, iter(["ready"]))
        while True:
            _send(connection, progress, answers(connection.recv()))
    except (EOFError, BrokenPipeError):
        return


def _send(connection: Connection, progress: Progress, answers: Iterator[Any]) -> None:
    """Sends answers in lists: none waits for others that take longer than TOGETHER."""
    made, sent = list[Any](), time.monotonic()
    progress.begin(sent)
    for answer in answers:
        made.append(answer)
        now = time.monotonic()
        progress.add(now)
        if now - sent > TOGETHER:
            connection.send(made)
            made, sent = [], now
    if made:
        connection.send(made)


def bound_cpu(seconds: float) -> None:
    """Lets the kernel end this process should its owner be gone while it is stuck in a computation."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + 2 * seconds) + 5, hard))


def _end_with_owner(life: int) -> None:
    os.read(life, 1)  # gives nothing when the owner's end is closed, for whatever reason
    kill_all(list(below(os.getpid())))
    os._exit(0)

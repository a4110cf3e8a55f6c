"""The other side of `rewards.grading.process`: serves its owner until that is gone.

The process is not asked to stop: it is killed, or ends when its owner is gone.
"""

import os
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from rewards.grading.below import below, kill_all


def serve(arguments: Sequence[str], answers: Callable[[Any], Iterator[Any]]) -> None:
    """Answers whatever the owner asks, until it is gone.

    Args:
        arguments: descriptor of the connection, descriptor of a pipe whose end says that the owner is gone, and the
            most memory in MiB (0: no limit).
        answers: gives the answers to what was asked, one after the other.
    """
    descriptor, life, memory_mib = map(int, arguments)
    threading.Thread(target=_end_with_owner, args=(life,), daemon=True).start()
    if memory_mib:
        resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(descriptor)
    connection.send("ready")
    try:
        while True:
            for answer in answers(connection.recv()):
                connection.send(answer)
    except (EOFError, BrokenPipeError):
        return


def bound_cpu(seconds: float) -> None:
    """Lets the kernel end this process should its owner be gone while it is stuck in a computation."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + 2 * seconds) + 5, hard))


def _end_with_owner(life: int) -> None:
    os.read(life, 1)  # gives nothing when the owner's end is closed, for whatever reason
    kill_all(list(below(os.getpid())))
    os._exit(0)

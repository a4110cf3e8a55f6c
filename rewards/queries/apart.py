"""Runs a query in a copy of this process that is thrown away afterwards, so that whatever the query does ends with it.

The copy is made by `fork`, which takes milliseconds and shares the memory of what is loaded until somebody writes. A
query that changes tables changes those of the copy, one that breaks its library breaks the copy's, and one that
hangs is killed. `close_files` leaves a copy no way to open a file, a device or a connection.
"""

import faulthandler
import math
import os
import pickle
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from rewards.queries.databases import QueryError, QueryTimeout
from rewards.queries.results import Result

LONGEST_MESSAGE = 1_000  # characters of what a library says of a query
PART = 1 << 20  # bytes that are read at a time


def apart(work: Callable[[], Result], seconds: float, memory_mib: int) -> Result:
    """What a function gives in a copy of this process, which may take so much more memory than there is in this one.

    Raises:
        QueryError: it raised this, or anything else but the errors below, or its process died.
        QueryTimeout: it did not finish in the seconds.
        ValueError: it raised this: the database is to blame.
        OSError: the machine has no process or descriptor left.
    """
    end = time.monotonic() + seconds
    reading, writing = os.pipe()
    try:
        copy = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if copy == 0:
        os.close(reading)
        _answer(work, writing, seconds, memory_mib)
    os.close(writing)
    try:
        answer = _received(reading, end)
    finally:
        os.close(reading)
        status = _ended(copy)
    if answer is None or (not answer and os.WTERMSIG(status) == signal.SIGALRM):
        raise QueryTimeout(f"the query ran longer than {seconds:g} s")
    if not answer:
        raise QueryError(f"the query ended the process that ran it, with signal {os.WTERMSIG(status)}")
    found: Result | Exception = pickle.loads(answer)
    if isinstance(found, Exception):
        raise found
    return found


def close_files() -> None:
    """Lets this process open nothing any more, for good; what is open stays so. For a copy only."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _ended(copy: int) -> int:
    """The wait status of a copy, which is killed where it still runs; 0 where somebody else has waited for it."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(copy, signal.SIGKILL)
        return os.waitpid(copy, 0)[1]
    return 0


def _received(reading: int, end: float) -> bytes | None:
    """All that comes until the other end is closed; None where that takes longer."""
    found, coming = bytearray(), select.poll()
    coming.register(reading, select.POLLIN)
    while coming.poll(max(0.0, 1000 * (end - time.monotonic()))):
        part = os.read(reading, PART)
        if not part:
            return bytes(found)
        found += part
    return None


def _answer(work: Callable[[], Result], writing: int, seconds: float, memory_mib: int) -> NoReturn:
    """Runs in the copy, which ends here in every case."""
    try:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _bound_memory(memory_mib << 20)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(seconds) + 1)  # ends the copy should nobody be left to do so
        rest = memoryview(pickle.dumps(_found(work)))
        while rest:
            rest = rest[os.write(writing, rest) :]
    finally:
        os._exit(0)


def _bound_memory(size: int) -> None:
    """Lets the copy take so many bytes more, unless it is bound already to fewer."""
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [bound for bound in (held + size, soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))


def _found(work: Callable[[], Result]) -> Result | Exception:
    try:
        return work()
    except (QueryError, ValueError) as failure:
        return type(failure)(*failure.args) if type(failure) in (QueryError, ValueError) else _broken(failure)
    except MemoryError:
        return QueryError("the query takes more memory than there is")
    except Exception as failure:  # of a library that met a query of nobody knows whom
        return _broken(failure)


def _broken(failure: Exception) -> QueryError:
    return QueryError(f"the query broke what ran it: {type(failure).__name__}: {failure}"[:LONGEST_MESSAGE])

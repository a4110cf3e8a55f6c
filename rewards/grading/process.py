"""A process that computes what it is asked, and can be killed. It is asked by one thread at a time.

Nothing here sends or handles signals of its own process, so that owners may be threads and asynchronous actors.
"""

import math
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import Any

from rewards.grading.below import below, kill_all
from rewards.grading.progress import Progress

START_SECONDS = 120.0  # a process imports its libraries


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Why no answer came."""

    late: bool = False  # whether it took too long; else the process has ended
    status: int = 0  # of its end
    unsent: int = 0  # answers that were made before this one and are gone too


class Process:
    """A running module that serves one owner (`rewards.grading.serving`), in a process group of its own."""

    def __init__(self, module: str, memory_mib: int) -> None:
        """
        Args:
            module: its name; its `main` gets the arguments of `serve`.
            memory_mib: most memory; 0 is no limit.

        Raises:
            RuntimeError: it does not start.
        """
        self.memory_mib = memory_mib
        self._connection, theirs = Pipe()
        life, self._life = os.pipe()
        page = os.memfd_create("progress")
        self._progress = Progress(page)
        self._came = 0  # answers so far
        self._gathered = deque[Any]()  # answers that came together with one that was asked for
        code = f"import sys; from {module} import main; main(sys.argv[1:])"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, str(theirs.fileno()), str(life), str(memory_mib), str(page)],
                pass_fds=(theirs.fileno(), life, page),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,
            )
        os.close(life)
        os.close(page)
        self._answers = select.poll()  # a Connection's own poll sets up a new one for every answer
        self._answers.register(self._connection, select.POLLIN)
        if isinstance(self.receive(START_SECONDS), Lost):
            self.kill()
            raise RuntimeError(f"the process of {module} did not start: status {self._process.returncode}")

    def send(self, asked: Any) -> None:
        """Asks. Never waits for a computation: the process reads all of it before it begins."""
        with suppress(BrokenPipeError, ConnectionResetError):  # `receive` says how the process ended
            self._connection.send(asked)

    def receive(self, seconds: float) -> Any:
        """The next answer, or a `Lost` where the process has been at it for longer than these seconds."""
        if not self._gathered:
            left = seconds
            while not self._answers.poll(math.ceil(1000 * left)):
                left = seconds - self._progress.seconds_at_it(time.monotonic())
                if left <= 0:
                    return Lost(late=True, unsent=self._progress.made - self._came)
            try:
                self._gathered.extend(self._connection.recv())
            except (EOFError, ConnectionResetError):
                return Lost(status=self._process.wait(), unsent=self._progress.made - self._came)
        self._came += 1
        return self._gathered.popleft()

    def end(self) -> None:
        """Ends the process and every process that it started, for whichever thread; who waits for it sees its end."""
        programs = list(below(self._process.pid))
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        kill_all(programs)

    def kill(self) -> None:
        """The same, and waits until the process is gone. It is asked nothing more."""
        self.end()
        self._process.wait()
        self._connection.close()
        os.close(self._life)

"""`winnow train --resume … --retries N`: a process that starts the run in another one, and starts it again where
that one was killed or a part of the run failed.

Nothing else starts a driver anew by itself: a Ray job runs its command once, whatever happens to it.
"""

import ctypes
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from cluster.reporting.terminal import say
from cluster.running.checkpoints import newest_checkpoint, step_of
from cluster.running.restarts import Restarts
from cluster.running.signals import ASKING, EXIT_OF_SIGNAL, passed_on

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def supervise(command: Sequence[str], folder: Path, retries: int, final: Sequence[int]) -> int:
    """Runs a command until it has come to an end that another try would not change; gives its exit status, that of
    a shell where a signal has ended it.

    Args:
        command: what a process is started with.
        folder: of the run, whose checkpoints show whether it gets on.
        retries: tries more without a newer checkpoint between them.
        final: exit statuses after which nothing is tried again.
    """
    driver, restarts = _Driver(command), Restarts(retries)
    while True:
        status = driver.run()
        if status in final or driver.asked.is_set():
            return status
        checkpoint = newest_checkpoint(folder)
        pause = restarts.pause(step_of(checkpoint) if checkpoint else 0)
        if pause is None:
            say(f"winnow: the run ended {retries + 1} times without a newer checkpoint (--retries)", file=sys.stderr)
            return status
        killed = status > EXIT_OF_SIGNAL
        how = (
            f"was killed ({signal.Signals(status - EXIT_OF_SIGNAL).name})" if killed else f"ended with status {status}"
        )
        say(
            f"winnow: the driver {how}. The run goes on in {pause:g} s: try {restarts.in_vain} of at most {retries} "
            "without a newer checkpoint (--retries)",
            file=sys.stderr,
        )
        if driver.asked.wait(pause):
            return status


class _Driver:
    """The process of a run. What asks this one to end is passed on to it, the first time as what it may have got
    itself."""

    def __init__(self, command: Sequence[str]) -> None:
        self.asked = threading.Event()  # whether a signal has asked to end
        self._command = list(command)
        # By its name: Ray may make the folder of a job anew, where several of its nodes on one machine share a session.
        self._folder = Path.cwd()
        self._process: subprocess.Popen[bytes] | None = None
        for number in ASKING:
            signal.signal(number, self._pass_on)

    def run(self) -> int:
        """Starts it and waits until it has ended; its exit status."""
        self._process = subprocess.Popen(self._command, cwd=self._folder, preexec_fn=_end_with_parent)
        status = self._process.wait()
        if status >= 0:
            return status
        ours = {passed_on(number): int(number) for number in ASKING}  # one that came before the run had its handlers
        return EXIT_OF_SIGNAL + ours.get(-status, -status)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        first = not self.asked.is_set()
        self.asked.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(passed_on(signal.Signals(number)) if first else number)


def _end_with_parent() -> None:
    """Has Linux ask this process to end, with a checkpoint, when the one that supervises it is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

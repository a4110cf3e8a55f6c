"""Runs checks in processes of their own, each of which is killed with all that it started when its time is over.

A process gets what it looks at as a pickle on its input and answers on a pipe: a line of JSON for what it does next,
and one for what it found. What else it or its libraries print is kept, and shown where it does not answer.
"""

import json
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.commands.checks.types import Check, Finding, State, Subject, note, wrong
from cluster.reporting.logs import LOGGER

ROOT = Path(__file__).parents[3]
LAST_LINES = 3  # of what a check printed, where it ended without an answer
GRACE = 10.0  # seconds that a process gets to end by itself after its answer, and one to be gone that was killed


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A check and what it found."""

    check: str
    finding: Finding
    seconds: float  # that it took


def look(lanes: Sequence[Sequence[Check]], subject: Subject, seconds: float) -> Generator[Looked, None, None]:
    """What the checks find, as they end. However this ends, nothing that it started runs any more.

    Args:
        lanes: the checks of one lane run one after another, those of different lanes at the same time.
        subject: what they look at.
        seconds: for all of them together.
    """
    deadline = time.monotonic() + seconds
    waiting = [list(lane) for lane in lanes if lane]
    running: list[_Running | None] = [None] * len(waiting)
    try:
        while any(waiting) or any(running):
            for lane, checks in enumerate(waiting):
                if running[lane] is None and checks:
                    running[lane] = _Running(checks.pop(0), subject, deadline)
            _wait([one for one in running if one is not None])
            for lane, one in enumerate(running):
                if one is not None and one.over:
                    running[lane] = None
                    yield one.looked()
    finally:
        for one in running:
            if one is not None:
                one.end()


def _wait(running: Sequence["_Running"]) -> None:
    """Until one of them says something or its time is over."""
    left = min(one.deadline for one in running) - time.monotonic()
    for one in select.select(running, [], [], max(0.0, left))[0]:
        one.read()


class _Running:
    """A check at work in its process.

    Args:
        check: of the table.
        subject: what it looks at.
        deadline: of all checks together, of time.monotonic().
    """

    def __init__(self, check: Check, subject: Subject, deadline: float) -> None:
        self._check, self._started = check, time.monotonic()
        self.deadline = min(deadline, self._started + check.seconds)
        self._cut = self.deadline == deadline  # short of its own time
        self._finding: Finding | None = None
        self._doing = ""  # what it said last that it would do
        self._ended, self._rest = False, b""
        self._printed = os.memfd_create("printed")
        self._answers, writing = os.pipe()
        self._process = _process(check, subject, writing, self._printed)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._answers

    def read(self) -> None:
        """Takes what it has said."""
        part = os.read(self._answers, 2**16)
        *lines, self._rest = (self._rest + part).split(b"\n")
        self._ended = not part
        for line in lines:
            self._take(json.loads(line))

    def _take(self, row: dict[str, Any]) -> None:
        if "doing" in row:
            self._doing = row["doing"]
        else:
            self._finding = Finding(**row | {"state": State(row["state"])})

    @property
    def over(self) -> bool:
        """Whether it has answered or ended, or its time is over."""
        return self._finding is not None or self._ended or time.monotonic() >= self.deadline

    def looked(self) -> Looked:
        """What it found; a check that failed, or did not end, is wrong by that. It is gone after this."""
        taken = time.monotonic() - self._started
        if self._finding is not None or self._ended:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        LOGGER.debug("the check of %s printed:\n%s", self._check.name, self._all_printed())
        if self._finding is None:
            self._finding = self._unanswered(taken, self._process.poll())
        self.end()
        return Looked(check=self._check.name, finding=self._finding, seconds=round(taken, 1))

    def _unanswered(self, taken: float, status: int | None) -> Finding:
        if self._ended:
            return wrong("failed" + (f" with status {status}" if status is not None else ""), self._last())
        where = f" while {self._doing}" if self._doing else ""
        if self._cut:
            return note(f"was killed{where} after {taken:.0f} s, as the time of all checks is over", "call it again")
        return wrong(f"has not ended within {taken:.0f} s{where}, and was killed", self._last())

    def _last(self) -> str:
        """What it printed last, in one line."""
        lines = [line.strip() for line in self._all_printed().splitlines() if line.strip()]
        return f"it printed last: {' / '.join(lines[-LAST_LINES:])}" if lines else "it printed nothing"

    def _all_printed(self) -> str:
        return os.pread(self._printed, os.fstat(self._printed).st_size, 0).decode(errors="replace")

    def end(self) -> None:
        """Kills it and all below it."""
        kill_with_children(self._process)
        os.close(self._answers)
        os.close(self._printed)


def _process(check: Check, subject: Subject, writing: int, printed: int) -> subprocess.Popen[bytes]:
    """The process of a check, in a group of its own.

    Args:
        check: of the table.
        subject: what it looks at.
        writing: the end of a pipe that it answers on; closed here.
        printed: the descriptor of a file for what it prints.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    with tempfile.TemporaryFile() as given:
        pickle.dump(subject, given)
        given.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", __name__, check.name, str(writing)],
            stdin=given,
            stdout=printed,
            stderr=printed,
            pass_fds=[writing],
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )
    os.close(writing)
    return process


def kill_with_children(process: subprocess.Popen[Any]) -> None:
    """Kills a process that leads a group, and all below it, even where it has left the group as Ray's and vLLM's do."""
    below = processes_below(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in below:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + GRACE
    while not all(map(_is_gone, below)) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_gone(pid: int) -> bool:
    """Whether a process has ended, even where nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def processes_below(pid: int) -> list[int]:
    """The processes that a process started, and those that these started, by /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            number, rest = stat.read_text(errors="replace").split(" ", 1)
            children.setdefault(int(rest.rpartition(")")[2].split()[1]), []).append(int(number))
    found = list(children.get(pid, []))
    for one in found:  # grows while it is read
        found.extend(children.get(one, []))
    return found


def main(name: str, line: int) -> None:
    """The main function of a check's process.

    Args:
        name: of the check.
        line: the descriptor that it answers on.
    """
    from cluster.commands.checks.table import CHECKS

    subject = pickle.load(sys.stdin.buffer)
    with os.fdopen(line, "w", encoding="utf-8", buffering=1) as answers:

        def told(doing: str) -> None:
            answers.write(json.dumps({"doing": doing}) + "\n")

        answers.write(json.dumps(asdict(CHECKS[name].examine(subject, told))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

"""`winnow train` in a process of its own, as a person starts it: begun, watched from outside, gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.cluster import Nodes
from tests.faults.inside import FOLDER
from tests.faults.processes import Family, send

ROOT = Path(__file__).parents[2]
LAST_LINES = 3
SECONDS_BETWEEN_LOOKS = 0.25


def environment(armed: Path) -> dict[str, str]:
    """What the processes of a run have in their environment: faults can be armed inside them, and Ray kills none where
    other work takes the machine's memory."""
    paths = f"{ROOT}:{Path(__file__).parent / 'hooks'}"
    return {
        FOLDER: str(armed),
        "PYTHONPATH": paths,
        "HF_HUB_OFFLINE": "1",
        "RAY_memory_monitor_refresh_ms": "0",
    }


class Driver:
    """One run, and the drivers that worked on it one after another."""

    def __init__(self, run_file: Path, folder: Path, armed: Path, cluster: Nodes | None = None) -> None:
        """
        Args:
            run_file: of the run.
            folder: the run's, which the driver makes.
            armed: where `tests.faults.inside` looks for faults.
            cluster: on which the run is; None where its driver starts Ray.
        """
        self.folder, self.armed, self.family = folder, armed, Family()
        self._cluster = cluster
        self.parts: dict[str, int] = {}  # how many of each part there were when all were there
        self._run_file = run_file
        self._env = os.environ | environment(armed)
        self._looked = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._said = armed.parent / f"{folder.name}.said"  # all that the drivers printed
        armed.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Begins the run."""
        self._launch(str(self._run_file))

    def resume(self, *overrides: str) -> None:
        """Goes on with it."""
        self._launch("--resume", str(self.folder), *overrides)

    def _launch(self, *arguments: str) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "cluster.cli", "train", *arguments]
        for fault in self.armed.iterdir():
            fault.unlink()
        with self._said.open("ab") as said:
            said.write(f"\n$ {' '.join(command[2:])}\n".encode())
            self._process = subprocess.Popen(
                command, cwd=self.armed.parent, env=self._env, stdout=said, stderr=said, start_new_session=True
            )
        for pid in [self._process.pid, *(self._cluster.raylets() if self._cluster else ())]:
            self.family.add(pid)

    @property
    def pid(self) -> int:
        """Of the driver that was started last."""
        return self._process.pid if self._process else 0

    @property
    def status(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll() if self._process else None

    def lines(self) -> list[dict[str, Any]]:
        """What metrics.jsonl holds now; a line that is being written is left out."""
        try:
            text = (self.folder / "metrics.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("}\n")]

    @property
    def step(self) -> int:
        """The last step that it reported."""
        lines = self.lines()
        return lines[-1]["step"] if lines else 0

    def said(self) -> str:
        """The last lines that it printed."""
        try:
            text = self._said.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return " / ".join([line for line in text.splitlines() if line.strip()][-LAST_LINES:])

    def is_whole(self) -> bool:
        """Whether every part lives that there was."""
        return all(len(pids) >= self.parts.get(part, 0) for part, pids in self.family.parts().items())

    def note_parts(self) -> None:
        """This is how it is when all is well."""
        self.parts = {part: len(pids) for part, pids in self.family.parts().items()}

    def steps_on(self, count: int, seconds: float, look: Callable[[], object] = lambda: None) -> bool:
        """Waits for so many more steps; whether they came before the driver ended and the time was over.

        Args:
            count: of steps; one that is done anew counts.
            seconds: most that it may take.
            look: is called now and then.
        """
        seen, more, until = self._mark(), 0, time.monotonic() + seconds
        while more < count:
            if time.monotonic() > until:
                return False
            ended = self.status is not None
            if (now := self._mark()) != seen:
                more += now[0] > seen[0]  # a smaller one is a return to a checkpoint
                seen = now
            elif ended:
                return False
            self._note(look)
            time.sleep(0.05)
        return True

    def wait(self, seconds: float) -> int | None:
        """The exit status, once it has ended; None if it did not in this time."""
        return self.status if until(lambda: self.status is not None, seconds) else None

    def end(self) -> None:
        """Kills whatever is left of the run."""
        for pid in [self.pid, *self.left()] if self._process else []:
            send(pid, signal.SIGKILL)
        if self._process:
            self._process.wait()

    def left(self) -> list[int]:
        """The processes of the run that live; on a cluster those of its parts."""
        if self._cluster is None:
            return [seen.process.pid for seen in self.family.living()]
        return [pid for pids in self.family.parts().values() for pid in pids]

    def _note(self, look: Callable[[], object]) -> None:
        """Looks at the processes, not too often: whoever has been seen is known when its parent has ended."""
        if time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            self.family.living()
            look()

    def _mark(self) -> tuple[int, float]:
        lines = self.lines()
        return (lines[-1]["step"], lines[-1]["wall_seconds"]) if lines else (0, 0.0)


def until(true: Callable[[], bool], seconds: float, pause: float = 0.1) -> bool:
    """Waits; whether it became true in this time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True

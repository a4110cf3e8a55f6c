"""Keeps the index up with a folder of trajectories: files that come, that change and that go while the page is open."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from cluster.browsing.index import Index, UnreadableFile

PAUSE = 2.0  # seconds between two looks at the folder, at least
SHARE = 0.05  # of the time that looking may take, where the folder is large or far


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A file as it was when it was last read."""

    number: int  # in the index
    stamp: tuple[int, int]  # its time of change and its size
    problem: str  # why it cannot be read; "" where it was


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the index is."""

    read: int  # files
    files: int  # in the folder
    problems: tuple[str, ...]  # of files that cannot be read
    complete: bool  # whether the whole folder has been looked at once


class Following:
    """A thread that looks at the folder again and again. `look` does it once, for whoever wants no thread."""

    def __init__(self, folder: Path, index: Index) -> None:
        self._folder, self._index = folder, index
        self._seen: dict[Path, Seen] = {}
        self._numbers = 0
        self._files = 0
        self._complete = False
        self._problem = ""  # why the index cannot be brought up to date; "" where it can
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trajectories", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, behind the file that it is reading."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        seen = list(self._seen.values())
        problems = tuple(why for why in (*(one.problem for one in seen), self._problem) if why)
        return Progress(read=len(seen), files=max(self._files, len(seen)), problems=problems, complete=self._complete)

    def look(self) -> None:
        """Brings the index up to what is in the folder now; the newest steps first."""
        there, changes = dict(_files_in(self._folder)), self._index.changes
        self._files = len(there)
        for file in [file for file in self._seen if file not in there]:
            self._index.remove(self._seen.pop(file).number)
        for file, stamp in there.items():
            if self._over.is_set():
                return
            before = self._seen.get(file)
            if before is None or before.stamp != stamp:
                self._read(file, stamp, before)
        if self._index.changes != changes:
            self._index.settle()
        self._complete = True

    def _read(self, file: Path, stamp: tuple[int, int], before: Seen | None) -> None:
        if before is not None:
            self._index.remove(before.number)
        self._numbers += 1
        problem = ""
        try:
            self._index.add(self._numbers, file)
        except UnreadableFile as failure:
            problem = str(failure)
        self._seen = {**self._seen, file: Seen(number=self._numbers, stamp=stamp, problem=problem)}

    def _run(self) -> None:
        pause = 0.0
        while not self._over.wait(pause):
            started = time.monotonic()
            try:
                self.look()
                self._problem = ""
            except duckdb.Error as failure:  # such as of a full disk: the next look may succeed
                self._problem = f"the index cannot be brought up to date: {failure}"
            pause = max(PAUSE, (time.monotonic() - started) / SHARE if self._complete else 0.0)


def _files_in(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    """The complete files of a run, the newest steps first."""
    steps = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal()]
    for step in sorted(steps, key=lambda path: -int(path.name.removeprefix("step-"))):
        for file in sorted(step.glob("groups*.parquet")):
            try:
                found = file.stat()
            except OSError:
                continue  # it has gone meanwhile
            yield file, (found.st_mtime_ns, found.st_size)

"""The thread of a learner rank that writes checkpoints to disk, so that training goes on meanwhile."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType

from learner.types import MARKER, Written

NO_FILES: Mapping[str, int] = MappingProxyType({})
Job = Callable[[], Iterable[Path]]  # writes files and names them


class Writer:
    """Does the jobs of one folder after those of another, each in the order of their coming. After a job that fails,
    be it that the disk is full, what is left of its folder is not tried: `finish` says why."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._last: Future[None] | None = None
        self._folder = Path()
        self._files: dict[str, int] = {}  # below the folder -> bytes
        self._problem = ""

    def begin(self, folder: Path) -> None:
        """The jobs that come write into this folder, which is made; those of the one before it are done first."""
        self.wait()
        self._folder, self._files, self._problem = folder, {}, ""
        self.add(partial(_made, folder))

    def add(self, job: Job) -> None:
        """A job for the thread; returns at once."""
        self._last = self._thread.submit(self._do, job)

    def wait(self) -> None:
        """Returns when all jobs are done, or left out after a failure."""
        if self._last is not None:
            self._last.result()

    def finish(self) -> Written:
        """Waits, and says what was written or why it was not."""
        self.wait()
        return Written(files=dict(self._files), problem=self._problem)

    def close(self) -> None:
        """Waits, and ends the thread."""
        self._thread.shutdown()

    def _do(self, job: Job) -> None:
        if self._problem:
            return
        try:
            for path in job():
                on_disk(path)
                self._files[str(path.relative_to(self._folder))] = path.stat().st_size
        except Exception as failure:  # of whatever kind: a checkpoint that cannot be written ends no training
            self._problem = f"{type(failure).__name__}: {failure}"


def mark_complete(folder: Path, files: Mapping[str, int] = NO_FILES) -> None:
    """Writes the marker of a folder whose files are all there, when they are on disk.

    Args:
        folder: whose marker it is.
        files: below the folder -> bytes, noted in the marker: those that must be whole for whoever reads the folder.
    """
    for path in folder.iterdir():
        on_disk(path)
    marker = folder / MARKER
    marker.write_text(json.dumps(dict(files), indent=1) + "\n", encoding="utf-8")
    on_disk(marker)
    on_disk(folder)


def not_whole(folder: Path) -> str:
    """What is wrong with the files that the marker of a folder notes: a sentence without a full stop, "" where all are
    as they were written.

    Raises:
        OSError: the marker cannot be read.
        ValueError: it is no marker.
    """
    for name, size in json.loads((folder / MARKER).read_text(encoding="utf-8") or "{}").items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if (found := path.stat().st_size) != size:
            return f"{path} was cut or damaged: it has {found} bytes, and {size} were written"
    return ""


def on_disk(path: Path) -> None:
    """Returns when what was written to a file, or into a folder, is safe from a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _made(folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    return ()

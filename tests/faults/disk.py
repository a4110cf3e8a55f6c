"""A file system of its own that is full whenever that is wanted."""

import os
import subprocess
from pathlib import Path

ROOM = 4 * 2**30  # bytes; memory is taken only for what is written
SPARE = 16 * 2**10  # bytes that a full one still takes: a line of metrics, no file of weights


class Disk:
    """A file system in memory, mounted on a folder; where this process may not mount, the folder is as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.mounted = _succeeds("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "winnow-faults", str(folder))

    def fill(self) -> None:
        """From now on nothing can be written but a few KiB."""
        if not self.mounted:
            return
        state = os.statvfs(self.folder)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        self._resize(used + SPARE)

    def free(self) -> None:
        """There is room again."""
        if self.mounted:
            self._resize(ROOM)

    def leave(self) -> None:
        """Gives the folder back, and what was on the file system up."""
        if self.mounted:
            _succeeds("umount", "--lazy", str(self.folder))

    def _resize(self, size: int) -> None:
        _succeeds("mount", "-o", f"remount,size={size}", str(self.folder))


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False

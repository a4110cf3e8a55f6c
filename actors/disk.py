"""Files on a disk that may be full: whole lines or none, and how a full disk is told from other failures."""

import errno
from contextlib import suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
RAYS = "Local disk is full"  # of a node that has no room for what its object store cannot hold
# What errors say that have lost their number: on their way from an actor, in Rust's libraries, and torch's, which gives
# no reason.
WORDS = ("No space left on device", "Disk quota exceeded", "inline_container.cc", RAYS)


def disk_is_full(failure: BaseException) -> bool:
    """Whether something could not be written because the disk, or a person's share of it, is full."""
    if isinstance(failure, OSError) and failure.errno in FULL:
        return True
    return any(words in str(failure) for words in WORDS)


def append(file: Path, line: str) -> None:
    """Adds a line to a file: all of it or, where that fails, nothing.

    Raises:
        OSError: it cannot be written.
    """
    left = (line + "\n").encode()
    with file.open("ab", buffering=0) as stream:
        end = stream.seek(0, 2)
        try:
            while left:
                left = left[stream.write(left) :]
        except OSError:
            with suppress(OSError):
                stream.truncate(end)
            raise

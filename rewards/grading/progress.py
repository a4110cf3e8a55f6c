"""How far a process is with what it was asked, in memory that it shares with its owner: what it has not sent yet, and
since when it is at the next answer, can be told even where it hangs or has died."""

import mmap
import os

_SIZE = 16  # bytes: two numbers of 64 bits


class Progress:
    """Of one process, which writes it; its owner reads it."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is that of a file in memory (`os.memfd_create`), which may be closed then."""
        if not os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, _SIZE)
        page = memoryview(mmap.mmap(descriptor, _SIZE))
        self._made, self._since = page[:8].cast("q"), page[8:].cast("d")

    def begin(self, now: float) -> None:
        """It has been asked something; `now` is on the clock of time.monotonic, which all processes share."""
        self._since[0] = now

    def add(self, now: float) -> None:
        """An answer is made."""
        self._since[0] = now
        self._made[0] += 1

    @property
    def made(self) -> int:
        """Answers so far."""
        return self._made[0]

    def seconds_at_it(self, now: float) -> float:
        """For how long it has been at the answer in hand, seconds."""
        return now - self._since[0]

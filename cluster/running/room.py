"""A full disk costs time and nothing else: whatever is to be written waits until there is room."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from actors.disk import disk_is_full
from actors.errors import WinnowError

Result = TypeVar("Result")
RETRY_SECONDS = 10.0  # between two tries


class Room:
    """The room on the disks that a run writes to."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` is told when the run begins to wait for room, and when it goes on."""
        self._say, self._waiting = say, 0  # the number of writes that wait

    async def wait_for(self, write: Callable[[], Awaitable[Result]]) -> Result:
        """What `write` gives. While the disk is full it is tried again, without end: what it has is only here.

        Args:
            write: has done all or nothing when it fails, so that another try does no harm.

        Raises:
            whatever else `write` raises.
        """
        waits = False
        try:
            while True:
                try:
                    return await write()
                except (WinnowError, OSError) as failure:
                    if not disk_is_full(failure):
                        raise
                    if not waits:
                        waits = True
                        self._count(1, f"the run waits for room on the disk, and loses nothing: {failure}")
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            if waits:
                self._count(-1, "the run no longer waits for room on the disk")

    def _count(self, change: int, sentence: str) -> None:
        """Says the sentence with the first write that waits, and when none is left."""
        before, self._waiting = self._waiting, self._waiting + change
        if not before or not self._waiting:
            self._say(" ".join(sentence.split()))

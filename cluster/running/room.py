"""A full disk costs time and nothing else: the run waits until there is room."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from actors.disk import disk_is_full
from actors.errors import BrokenPart

Result = TypeVar("Result")
RETRY_SECONDS = 10.0  # between two tries


async def when_there_is_room(write: Callable[[], Awaitable[Result]], say: Callable[[str], None]) -> Result:
    """What `write` gives. While the disk is full it is tried again, without end: what is trained by then is only here.

    Args:
        write: has written all or nothing when it fails, so that another try does no harm.
        say: is told once that the run waits, and once that it goes on.

    Raises:
        whatever else `write` raises.
    """
    waited = False
    while True:
        try:
            result = await write()
        except (BrokenPart, OSError) as failure:
            if not disk_is_full(failure):
                raise
            if not waited:
                say(f"the disk is full: {failure}. The run waits until there is room, and loses nothing; make some")
                waited = True
            await asyncio.sleep(RETRY_SECONDS)
        else:
            if waited:
                say("there is room on the disk again: the run goes on")
            return result

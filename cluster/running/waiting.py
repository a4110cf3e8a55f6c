"""Says what a run still waits for while its parts start."""

import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from cluster.reporting.display import Progress
from cluster.reporting.words import clock

Result = TypeVar("Result")
NAMED = 4  # parts that are named, of all that are waited for


class Waiting:
    """The parts of a run that have not started yet."""

    def __init__(self, display: Progress, *parts: str) -> None:
        """`parts` are their names."""
        self._display, self._left, self._began = display, dict.fromkeys(parts), time.monotonic()
        display.status(f"waiting for {self._words()}")

    def over(self, part: str) -> None:
        """A part has started."""
        self._left.pop(part, None)
        said = f"{part} is ready after {clock(time.monotonic() - self._began)}"
        self._display.status(f"{said}; waiting for {self._words()}" if self._left else said)

    async def until(self, part: str, start: Coroutine[Any, Any, Result]) -> Result:
        """What the start of a part gives."""
        found = await start
        self.over(part)
        return found

    def _words(self) -> str:
        """What is waited for."""
        names, more = list(self._left)[:NAMED], len(self._left) - NAMED
        return ", ".join(names) + (f" and {more} more" if more > 0 else "")

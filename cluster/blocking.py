"""Calls that block until the work of an event loop is done, also where a loop runs already."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_blocking(work: Coroutine[Any, Any, Result]) -> Result:
    """As `asyncio.run`, and also where a loop of this thread is running, as in a cell of a notebook: that loop stands
    still until the work is done, as in every call that blocks. The work stays in the thread of its caller, because
    signals reach a main thread alone: the first interrupt of a cell has a run end with a checkpoint, as Ctrl-C does."""
    around = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:  # the thread's own loop stays what it is
            return runner.run(work)
    finally:
        asyncio._set_running_loop(around)

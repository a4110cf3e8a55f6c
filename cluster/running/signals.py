"""SIGTERM, as batch systems send it before they kill: a run ends as it does at Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """While it lasts, SIGTERM interrupts as Ctrl-C does.

    Raises:
        Terminated: instead of the KeyboardInterrupt that SIGTERM brought about.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        asked.set()
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)  # asyncio cancels what runs, which then closes its files
        else:
            raise Terminated  # of a process that ignores Ctrl-C, such as one in a shell's background

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if asked.is_set():
            raise Terminated from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)

"""SIGINT, as Ctrl-C sends it, SIGTERM, as batch systems and Ray send it before they kill, and SIGHUP, when a terminal
goes.

While a run trains, the first of them has it end at its next safe point, with a checkpoint; the second ends it at once.
At any other time each of them ends the process at once, and what it has open is closed.

A batch system, Ray and a terminal send them to a whole family of processes. So a parent that supervises a run passes on
what it gets as a signal of another number, `passed_on`, which asks a run that has not been asked yet, and does nothing
to one that has.
"""

import asyncio
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias, TypeVar

Result = TypeVar("Result")
Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None
EXIT_OF_SIGNAL = 128  # and the number of the signal that ended a process, as shells have it
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_SECOND = 1.0  # in which a second signal is the first one again, passed on as it is by a parent that got it too
JOB, JOB_WAIT, JOB_SECONDS = "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_JOB_STOP_WAIT_TIME_S", "3"  # Ray's names and default


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM or SIGHUP."""

    def __init__(self, number: signal.Signals = signal.SIGTERM) -> None:
        """`number` is the signal that asked."""
        super().__init__()
        self.signal = number


def passed_on(number: signal.Signals) -> int:
    """The number of the signal by which a parent passes one of ASKING on."""
    return signal.SIGRTMIN + number


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """While it lasts, SIGTERM interrupts as Ctrl-C does, and so does SIGHUP where it is not ignored (nohup), and what a
    parent passes on of them.

    Raises:
        Terminated: instead of the KeyboardInterrupt that one of them brought about, with its notes.
    """
    if not _in_main_thread():
        yield
        return
    asked: queue.SimpleQueue[signal.Signals] = queue.SimpleQueue()

    def interrupt(number: int, frame: FrameType | None) -> None:
        _set(dict.fromkeys(parents, signal.SIG_IGN))
        asked.put(signal.Signals(number))
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)  # asyncio cancels what runs, which then closes its files
        else:
            raise Terminated(signal.Signals(number))  # of a process that ignores Ctrl-C, as in a shell's background

    def passed(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.Signals(number - signal.SIGRTMIN))

    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray blocks it in all that it starts, jobs among them
    own, parents = _handlers(signal.SIGTERM, signal.SIGHUP), _handlers(*map(passed_on, ASKING))
    before = own | parents | _handlers(signal.SIGINT)
    _set(dict.fromkeys(own, interrupt) | dict.fromkeys(parents, passed))
    try:
        yield
    except KeyboardInterrupt as interrupted:
        if asked.empty():
            raise
        terminated = Terminated(asked.get())
        for note in getattr(interrupted, "__notes__", ()):
            terminated.add_note(note)
        raise terminated from None
    finally:
        _set(before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """While it lasts, none of these signals does anything: for what is written when a process has been asked to end,
    which a parent that got the signal too may ask again."""
    if not _in_main_thread():
        yield
        return
    before = _handlers(*ASKING, *map(passed_on, ASKING))
    _set(dict.fromkeys(before, signal.SIG_IGN))
    try:
        yield
    finally:
        _set(before)


class StopRequest:
    """Whether a run has been asked to end at its next safe point, and by which signal."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.signal: signal.Signals | None = None  # the one that asked
        self.hurried = False  # whether a second one has come
        self._first = 0.0  # when it came, on the clock of `time.monotonic`

    @contextmanager
    def listening(self, told: Callable[[signal.Signals], None]) -> Iterator[None]:
        """While it lasts, the first of these signals sets `asked`; another one, later than ONE_SECOND, does what it
        did before. Where it ends within that time, the next signal is judged so too. Call it in the event loop that
        waits for `asked`.

        Args:
            told: is told of the first signal, in the event loop.
        """
        if not _in_main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before, parents = _handlers(*ASKING), _handlers(*map(passed_on, ASKING))

        def stop(number: int, frame: FrameType | None) -> None:
            now = time.monotonic()
            if self.signal is None:
                self.signal, self._first = signal.Signals(number), now
                loop.call_soon_threadsafe(self.asked.set)
                loop.call_soon_threadsafe(told, self.signal)
            elif now - self._first > ONE_SECOND:
                self.hurried = True
                _set(before)
                signal.raise_signal(number)

        def passed(number: int, frame: FrameType | None) -> None:
            if self.signal is None:
                stop(number - signal.SIGRTMIN, frame)

        _set(dict.fromkeys(before, stop) | dict.fromkeys(parents, passed))
        try:
            yield
        finally:
            _set(parents if self.signal is None else dict.fromkeys(parents, signal.SIG_IGN))
            if self.signal is None or time.monotonic() - self._first > ONE_SECOND:
                _set(before)

    async def unless_asked(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        """The result of `work`; None where the run is asked to end before it is done, and `work` is cancelled then."""
        doing, asked = asyncio.create_task(work), asyncio.create_task(self.asked.wait())
        try:
            await asyncio.wait({doing, asked}, return_when=asyncio.FIRST_COMPLETED)
            return await doing if doing.done() else None
        finally:
            for task in (doing, asked):
                task.cancel()
            await asyncio.gather(doing, asked, return_exceptions=True)


def said_at(number: signal.Signals, in_hand: str) -> str:
    """What a run says when it is asked to end.

    Args:
        number: the signal that asked.
        in_hand: what there is to go on from already, a sentence with a small first letter.
    """
    seconds = os.environ.get(JOB_WAIT, JOB_SECONDS) if JOB in os.environ and number == signal.SIGTERM else ""
    hurry = (
        f". Ray kills a stopped job {seconds} s after it asked; where a step and a checkpoint take longer, set "
        f"{JOB_WAIT} where you call winnow submit"
        if seconds
        else ". Once more ends it at once"
    )
    asked = f"asked to stop ({number.name}): the step under way is finished and a checkpoint written"
    return f"{asked}{hurry}. Until then {in_hand}"


def _handlers(*numbers: int) -> dict[int, Handler]:
    """What this process does at these signals, but for those that it ignores and goes on to ignore."""
    return {number: found for number in numbers if (found := signal.getsignal(number)) is not signal.SIG_IGN}


def _set(handlers: Mapping[int, Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()

"""An event loop in a thread of its own, in which the episodes of a person's environment are played.

Nothing that an environment does holds the engine up. What blocks this loop holds other episodes up: it is found with
its line, and ended where Python can end it. Where it cannot, the loop is given up with all episodes in it, and those
that come are played in a new one.
"""

import asyncio
import ctypes
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from actors.rollouts.lines import awaited_in, failure_in, in_thread

BLOCKED_SECONDS = 5.0  # that the loop may give no sign of life
END_SECONDS = 1.0  # between two tries to end what is still being played when the loop ends
ADVICE = "await what takes long, or run it with asyncio.to_thread"


class EpisodeFailed(Exception):
    """An environment did not come to its end; the message says why, with the line of the person's file."""


class _Blocked(BaseException):
    """Raised in a thread from outside, in whatever blocks it."""


def raise_in(thread: int, kind: type[BaseException]) -> None:
    """Raises something in a thread, by its identifier, as soon as what it runs is Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


class Apart:
    """Plays the environment of one file. Made inside a running event loop, which waits for it; `close` ends it."""

    def __init__(self, file: str, blocked_seconds: float = BLOCKED_SECONDS) -> None:
        """
        Args:
            file: whose lines are named.
            blocked_seconds: that the loop may give no sign of life.
        """
        self._file, self._seconds = file, blocked_seconds
        self._thread = _Thread()
        self._playing: set[_Played] = set()
        self._blocked = ""  # where the loop was blocked when it was last looked at; "" where it was not
        self._watch = asyncio.create_task(self._watching())

    async def play(self, begin: Callable[[], Coroutine[Any, Any, Any]], seconds: float) -> Any:
        """What an environment returns.

        Args:
            begin: makes its coroutine, in the thread.
            seconds: that it may take.

        Raises:
            EpisodeFailed: it raised something, took longer, or blocked the loop.
        """
        played = _Played(self, begin)
        under_way = asyncio.run_coroutine_threadsafe(played.run(), self._thread.loop)
        ended = asyncio.wrap_future(under_way)
        self._playing.add(played)
        try:
            await asyncio.wait({ended, played.lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if played.lost.done():
                raise EpisodeFailed(played.lost.result())
            if not ended.done():
                where = awaited_in(played.coroutine, self._file)
                raise EpisodeFailed(f"{where}: the episode took longer than rollout.episode_seconds = {seconds:g}")
            return ended.result()
        finally:
            self._playing.discard(played)
            played.given_up = True
            under_way.cancel()
            played.lost.cancel()

    def close(self) -> None:
        """Plays nothing more."""
        self._watch.cancel()
        self._thread.end()

    def why(self, failure: BaseException) -> str:
        """What a person is told of what ended an environment."""
        return self._blocked if isinstance(failure, _Blocked) else failure_in(failure, self._file)

    async def _watching(self) -> None:
        """Takes: nothing. Waits for: its clock. Runs until `close`."""
        while True:
            alive, thread = threading.Event(), self._thread
            thread.loop.call_soon_threadsafe(alive.set)
            await asyncio.sleep(self._seconds)
            where = "" if alive.is_set() else in_thread(thread.ident, self._file)
            if not where:  # it has answered, or no line of the file is being run: the machine is slow
                self._blocked = ""
            elif not self._blocked:
                self._blocked = f"{where}: blocks all episodes for more than {self._seconds:g} s: {ADVICE}"
                thread.interrupt()
            else:
                self._give_up(thread)

    def _give_up(self, thread: "_Thread") -> None:
        """Plays what comes in another thread; what is in this one is lost."""
        blocking = thread.task
        self._thread = _Thread()
        for played in self._playing:
            mine = played.task is not None and played.task is blocking
            played.lose(self._blocked if mine else f"lost with another episode. {self._blocked}")
        self._blocked = ""
        thread.end()


class _Played:
    """An environment that is being played."""

    def __init__(self, apart: Apart, begin: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.coroutine: Coroutine[Any, Any, Any] | None = None
        self.task: asyncio.Task[Any] | None = None  # of the thread
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # why its thread was given up
        self.given_up = False  # whether nobody waits for it any more
        self._apart, self._begin = apart, begin

    async def run(self) -> Any:
        """What the environment returns, in the thread."""
        self.task = asyncio.current_task()
        self.coroutine = self._begin()
        try:
            return await self.coroutine
        except BaseException as failure:  # a person's file raises what it likes
            if self.given_up:
                raise
            raise EpisodeFailed(self._apart.why(failure)) from None

    def lose(self, why: str) -> None:
        """Its thread was given up."""
        if not self.lost.done():
            self.lost.set_result(why)


class _Thread:
    """A thread with an event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="environments", daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int:
        """Its identifier."""
        return self._thread.ident or 0

    @property
    def task(self) -> "asyncio.Task[Any] | None":
        """What runs in it now."""
        return asyncio.current_task(self.loop)

    def interrupt(self) -> None:
        """Raises `_Blocked` in whatever it runs, as soon as that is Python."""
        raise_in(self.ident, _Blocked)

    def end(self) -> None:
        """Ends it as soon as nothing blocks it."""
        self._ended = True
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _run(self) -> None:
        while not self._ended:
            with suppress(_Blocked):  # where it came when nothing was blocked any more
                self.loop.run_forever()
        # One that does not let itself be ended keeps the thread: freed while it waits, its code would run in whatever
        # thread collects garbage then, and might never leave it.
        while left := asyncio.all_tasks(self.loop):
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(left, timeout=END_SECONDS))
        self.loop.close()

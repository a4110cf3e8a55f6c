"""An environment of other code: one for each episode, in a thread of its own.

What blocks the thread holds nobody else up, and what only the thread may use that made it (a connection to SQLite, say)
is used by no other. Methods that are coroutines run in the event loop of the episodes.
"""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from actors.rollouts.apart import raise_in

if TYPE_CHECKING:
    from actors.rollouts.episode import Task

Make = Callable[..., Any]  # gives an environment; it is told the task where it takes one


class _GivenUp(BaseException):
    """Raised in a thread from outside: nobody waits any more for what it does."""


class Instance:
    """An environment from where it is made to where it is closed: `async with Instance(make, task) as environment`."""

    def __init__(self, make: Make, task: "Task") -> None:
        """
        Args:
            make: gives the environment.
            task: what the episode is about.
        """
        self._make: Callable[[], Any] = partial(make, task) if _takes_task(make) else make
        self._made: Any = None
        self._open = False
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="environment of others", daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        try:
            self._made = await self.run(self._make)
        except BaseException:
            self._calls.put(None)
            raise
        self._open = True
        return self

    async def __aexit__(self, failed: type[BaseException] | None, *_: object) -> None:
        try:
            await self.close()
        except Exception:  # where something has failed before, that is what people are told
            if failed is None:
                raise
        finally:
            self._calls.put(None)

    @property
    def kind(self) -> type:
        """Its class."""
        return type(self._made)

    def has(self, method: str) -> bool:
        """Whether it has such a method."""
        return callable(getattr(self._made, method, None))

    def method(self, name: str) -> Callable[..., Any]:
        """One of its methods.

        Raises:
            TypeError: it has none of that name.
        """
        if not self.has(name):
            raise TypeError(f"the environment must have a method {name}(), and {_kind(self._made)} has none")
        return getattr(self._made, name)

    async def call(self, name: str, *given: object, **named: object) -> Any:
        """What a method gives back; whatever it raises is raised here."""
        return await self.run(self.method(name), *given, **named)

    async def run(self, function: Callable[..., Any], *given: object, **named: object) -> Any:
        """What a function gives back that is run in the thread; whatever it raises is raised here. It is ended where
        nobody waits for it any more."""
        waits_for_thread = self._thread.ident or 0  # `actors.rollouts.lines` reads it
        answer = self._asked(partial(function, *given, **named))
        try:
            found = await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            if answer.running():
                raise_in(waits_for_thread, _GivenUp)
            raise
        return await found if inspect.isawaitable(found) else found

    async def close(self) -> Any:
        """What its method `close` gives back; None where it has none or is closed already. It is closed even where
        nobody waits for that to the end."""
        if not self._open:
            return None
        self._open = False
        if not self.has("close"):
            return None
        found = await asyncio.shield(asyncio.wrap_future(self._asked(self.method("close"))))
        return await found if inspect.isawaitable(found) else found

    def _asked(self, function: Callable[[], Any]) -> "Future[Any]":
        """The answer of the thread, which runs one function after the other."""
        answer: Future[Any] = Future()
        self._calls.put(partial(_answer, answer, partial(contextvars.copy_context().run, function)))
        return answer

    def _run(self) -> None:
        while True:
            with suppress(_GivenUp):
                if (call := self._calls.get()) is None:
                    return
                call()


def accepts(function: Callable[..., Any], name: str) -> bool:
    """Whether a function takes a parameter of this name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a function that is written in C and does not say what it takes
        return False
    return any(one.name == name or one.kind is one.VAR_KEYWORD for one in parameters)


def _answer(answer: "Future[Any]", function: Callable[[], Any]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(function())
    except StopIteration as failure:  # no future can hold one
        ended = RuntimeError(f"StopIteration: {failure}").with_traceback(failure.__traceback__)
        answer.set_exception(ended)
    except BaseException as failure:  # a person's code raises what it likes
        answer.set_exception(failure)


def _takes_task(make: Make) -> bool:
    """Whether it cannot be called without an argument, and can with one."""
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        return False
    try:
        signature.bind()
    except TypeError:
        return True
    return False


def _kind(made: object) -> str:
    return "None" if made is None else f"{type(made).__module__}.{type(made).__qualname__}"

"""What the tests' process notes while they run: assertions that held or fell, and exceptions that nobody expected."""

import builtins
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Fault(BaseException):
    """The tests cannot be run, whatever the response is."""


class Skipped(Exception):
    """A test says that it is not to be run."""


class _Alone:
    """Whether a call of the response is a whole statement of a test."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


class Checks:
    """The notes of one test. As a context it notes whether the assertion in its body held."""

    def __init__(self) -> None:
        self.asked = 0  # questions to the code in all tests
        self.held = 0  # assertions that held so far
        self.fell = ""  # of the first assertion that did not hold: how; "" where all held
        self._raised: list[BaseException] = []  # what the response raised and no handler has caught
        self._missing: list[BaseException] = []  # of these, those for names that it does not define
        self._depth = 0
        self.alone = _Alone()  # around a call that is a whole statement

    def clear(self) -> None:
        """Begins with the next test."""
        self.held, self.fell, self._depth = 0, "", 0
        self._raised.clear()
        self._missing.clear()

    def __enter__(self) -> Self:
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if kind is None:
            self.held += not self._depth
        elif not self.fell:
            self.fell = "an assertion failed" if issubclass(kind, AssertionError) else f"raised {kind.__name__}"

    def noted(self, raised: BaseException, *, missing: bool = False) -> None:
        """Notes what the response raised in a test's call."""
        self._raised.append(raised)
        if missing:
            self._missing.append(raised)

    def claim(self, expected: bool) -> None:
        """Takes the exception that is being handled for one that the test caught.

        Args:
            expected: whether the test would have failed without it, so that it is a check of its own.
        """
        error = sys.exc_info()[1]
        if error is not None and self.take(error) and expected:
            self.held += 1

    def take(self, error: BaseException | None) -> bool:
        """Strikes an exception of the response off the list, or those that it came of; whether there was one."""
        found = False
        for _ in range(20):
            if error is None:
                break
            for place, raised in enumerate(self._raised):
                if raised is error and all(one is not error for one in self._missing):
                    del self._raised[place]
                    found = True
                    break
            error = error.__cause__ or error.__context__
        return found

    @property
    def unexpected(self) -> str:
        """What the response raised and no test caught; "" for nothing."""
        if not self._raised:
            return ""
        return f"{type(self._raised[0]).__name__}: {self._raised[0]}"[:200]

    def next(self, iterator: Any, *default: Any) -> Any:
        """The builtin, whose end is an exception like any other: `map` would take it for its own."""
        try:
            return builtins.next(iterator, *default)
        except StopIteration as end:
            self.noted(end)
            raise


# ---- unittest and contextlib ----


def watch_unittest(checks: Checks) -> None:
    """Lets the assertions of `unittest` be noted, and its expected exceptions be taken."""
    import unittest
    from unittest import case

    contexts: Any = vars(case)["_AssertRaisesContext"]
    for name in dir(unittest.TestCase):
        method = getattr(unittest.TestCase, name)
        if name.startswith(("assert", "fail")) and callable(method) and not isinstance(method, type):
            setattr(unittest.TestCase, name, _watched(method, checks))
    leave = contexts.__exit__

    def left(self: Any, kind: Any, error: Any, trace: Any) -> Any:
        with checks:
            caught = leave(self, kind, error, trace)
        if caught:
            checks.take(error)
        return caught

    contexts.__exit__ = left
    vars(unittest).update(main=lambda *_, **__: None)  # its cases are run in any case


def _watched(method: Callable[..., Any], checks: Checks) -> Callable[..., Any]:
    def noting(*values: Any, **named: Any) -> Any:
        with checks:
            return method(*values, **named)

    return noting


def watch_suppress(checks: Checks) -> None:
    """Takes what `contextlib.suppress` swallows for caught by the test."""
    import contextlib

    contexts: Any = contextlib.suppress
    leave = contexts.__exit__

    def left(self: Any, kind: Any, error: Any, trace: Any) -> Any:
        caught = leave(self, kind, error, trace)
        if caught:
            checks.take(error)
        return caught

    contexts.__exit__ = left

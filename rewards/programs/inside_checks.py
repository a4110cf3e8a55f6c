"""What the tests' process notes while they run: assertions that held or fell, and exceptions that nobody expected.

Tests that are functions or classes are run here.
"""

import builtins
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, TracebackType
from typing import Any, Self

_MOST_CASES = 10_000  # of one parametrized test


class Fault(BaseException):
    """The tests cannot be run, whatever the response is."""


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


# ---- functions and classes of tests ----


def run_tests(names: dict[str, Any], called: frozenset[str], done: set[int], checks: Checks, candidate: Any) -> None:
    """Runs the test functions and classes that are there and that nothing has run yet.

    These are functions named test... or check that the tests themselves do not call, `unittest` cases, and classes
    named Test... with such methods. A function with one argument gets the candidate.

    Raises:
        Fault: a function wants arguments that nobody has.
        AssertionError: a case of `unittest` fails.
    """
    for name, value in list(names.items()):
        if id(value) in done:
            continue
        if isinstance(value, FunctionType) and name not in called and _is_test(name, value):
            done.add(id(value))
            for arguments in _arguments(value, names, candidate):
                _judge(value(**arguments), checks)
        elif isinstance(value, type) and value.__module__ == names["__name__"]:
            done.add(id(value))
            if "unittest" in sys.modules and issubclass(value, sys.modules["unittest"].TestCase):
                _run_case(value, checks)
            elif name.startswith("Test") and not name.endswith("Case"):
                _run_class(value, names, checks)


def _is_test(name: str, value: FunctionType) -> bool:
    return (name.startswith("test") or name == "check") and not hasattr(value, "winnow_fixture")


def _judge(result: Any, checks: Checks) -> None:
    """Takes what a test function returns: yes or no, or a coroutine to run."""
    if hasattr(result, "__await__") and hasattr(result, "send"):
        import asyncio

        result = asyncio.run(result)
    if result is True:
        checks.held += 1
    elif result is False:
        checks.fell = checks.fell or "a test function returned False"


def _arguments(test: Any, names: dict[str, Any], candidate: Any) -> Iterator[dict[str, Any]]:
    """The arguments of each call of a test function."""
    code, given = test.__code__, len(test.__defaults__ or ())
    wanted = [name for name in code.co_varnames[: code.co_argcount - given] if name != "self"]
    tables = getattr(test, "winnow_cases", [[{}]])
    for case in _combined(tables):
        arguments = dict(case)
        for name in wanted:
            if name in arguments:
                continue
            fixture: Any = names.get(name)
            if hasattr(fixture, "winnow_fixture"):
                arguments[name] = fixture()
            elif len(wanted) == 1:
                arguments[name] = candidate
            else:
                raise Fault(f"the test function {test.__name__} wants arguments that nobody gives: {', '.join(wanted)}")
        yield arguments


def _combined(rows: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = [{}]
    for table in rows:
        cases = [{**one, **other} for one in cases for other in table]
    return cases[:_MOST_CASES]


def _run_class(kind: type, names: dict[str, Any], checks: Checks) -> None:
    for name, value in list(vars(kind).items()):
        if not name.startswith("test") or not isinstance(value, FunctionType | staticmethod):
            continue
        for arguments in _arguments(getattr(value, "__func__", value), names, None):
            instance = kind()
            for setup in ("setup_class", "setup_method", "setUp"):
                if hasattr(instance, setup):
                    getattr(instance, setup)()
            _judge(getattr(instance, name)(**arguments), checks)


def _run_case(kind: Any, checks: Checks) -> None:
    unittest = sys.modules["unittest"]
    suite, result = unittest.defaultTestLoader.loadTestsFromTestCase(kind), unittest.TestResult()
    suite.run(result)
    for _, trace in [*result.failures, *result.errors]:
        raise AssertionError(trace.strip().splitlines()[-1])
    for test in result.unexpectedSuccesses:
        raise AssertionError(f"{test} was expected to fail")


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

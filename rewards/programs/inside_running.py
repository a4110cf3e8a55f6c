"""Runs tests that are functions or classes, with what they ask for by the names of their arguments."""

import io
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, SimpleNamespace
from typing import Any

from rewards.programs.inside_checks import Checks, Fault, Skipped

_MOST_CASES = 10_000  # of one parametrized test
_GENERATOR = 0x20  # inspect.CO_GENERATOR
_Case = dict[str, Any]  # values of arguments by name; of a fixture's parameter behind "="


def run_tests(names: dict[str, Any], called: frozenset[str], done: set[int], checks: Checks, candidate: Any) -> None:
    """Runs the test functions and classes that are there and that nothing has run yet.

    These are functions named test... or check that the tests themselves do not call, `unittest` cases, and classes
    named Test... with such methods. A function with one argument that no fixture gives gets the candidate. One that
    skips itself counts for nothing, but fails where it has called the code before: the code could make it.

    Raises:
        Fault: a function wants arguments that nobody has.
        AssertionError: a case of `unittest` fails, or a test skips itself too late.
    """
    for name, value in list(names.items()):
        if id(value) in done:
            continue
        if isinstance(value, FunctionType) and name not in called and _is_test(name, value):
            done.add(id(value))
            for case in _cases([value], names):
                _run(value, _Fixtures(names, None, case), checks, candidate)
        elif isinstance(value, type) and value.__module__ == names["__name__"]:
            done.add(id(value))
            if "unittest" in sys.modules and issubclass(value, sys.modules["unittest"].TestCase):
                _run_unittest(value, checks)
            elif name.startswith("Test") and not name.endswith("Case"):
                _run_class(value, names, checks)


def _is_test(name: str, value: FunctionType) -> bool:
    return (name.startswith("test") or name == "check") and not hasattr(value, "winnow_fixture")


def _run_class(kind: type, names: dict[str, Any], checks: Checks) -> None:
    there = {**names, **vars(kind)}
    for name in [name for one in reversed(kind.__mro__) for name in vars(one)]:
        value = getattr(kind, name)
        if not isinstance(value, FunctionType) or not _is_test(name, value):
            continue
        for case in _cases([kind, value], there):
            instance = kind()
            for setup in ("setup_class", "setup_method", "setUp"):
                if hasattr(instance, setup):
                    _set_up(getattr(instance, setup))
            _run(getattr(instance, name), _Fixtures(there, instance, case), checks, None)


def _set_up(function: Callable[..., Any]) -> None:
    function(*[None] * _wants_one(function))  # pytest gives setup_method the method


def _wants_one(function: Any) -> bool:
    code = getattr(function, "__func__", function).__code__
    return bool(code.co_argcount - hasattr(function, "__self__") == 1)


def _run(test: Any, fixtures: "_Fixtures", checks: Checks, candidate: Any) -> None:
    """Runs a test once and takes what it returns: yes or no, or a coroutine to run."""
    before = checks.asked
    if hasattr(test, "winnow_skipped"):
        return
    try:
        result = test(**fixtures.arguments(test, candidate))
        if hasattr(result, "__await__") and hasattr(result, "send"):
            import asyncio

            result = asyncio.run(result)
    except Skipped as reason:
        if checks.asked > before:
            raise AssertionError(f"the test skips itself after it called the code: {reason}") from None
        return
    finally:
        fixtures.close()
    if result is True:
        checks.held += 1
    elif result is False:
        checks.fell = checks.fell or "a test function returned False"


def _run_unittest(kind: Any, checks: Checks) -> None:
    unittest = sys.modules["unittest"]

    class Result(unittest.TestResult):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.before = 0  # questions to the code before the test

        def startTest(self, test: Any) -> None:
            self.before = checks.asked
            super().startTest(test)

        def addSkip(self, test: Any, reason: str) -> None:
            if checks.asked > self.before:
                self.failures.append((test, f"the test skips itself after it called the code: {reason}"))

    suite, result = unittest.defaultTestLoader.loadTestsFromTestCase(kind), Result()
    suite.run(result)
    for _, trace in [*result.failures, *result.errors]:
        raise AssertionError(trace.strip().splitlines()[-1])
    for test in result.unexpectedSuccesses:
        raise AssertionError(f"{test} was expected to fail")


# ---- arguments and fixtures ----


def _wanted(function: Any) -> list[str]:
    """The arguments of a function that have no value of their own."""
    code, given = function.__code__, len(function.__defaults__ or ())
    return [name for name in code.co_varnames[: code.co_argcount - given] if name not in ("self", "cls")]


def _cases(marked: list[Any], there: Mapping[str, Any]) -> list[_Case]:
    """The arguments of each call of a test that its tables, and the parameters of its fixtures, give."""
    tables = [rows for one in marked for rows in vars(one).get("winnow_cases", [])]
    found, named = _fixtures_in(there), {key for rows in tables for row in rows for key in row}
    needed = [name for name, one in found.items() if one.winnow_fixture.get("autouse")]
    needed += [name for name in _wanted(marked[-1]) if name in found and name not in named]
    for name in needed:  # grows
        needed += [other for other in _wanted(found[name]) if other in found and other not in needed]
        if params := found[name].winnow_fixture.get("params"):
            tables.append([{f"{name}=": getattr(one, "only", one)} for one in params])
    cases: list[_Case] = [{}]
    for rows in tables:
        cases = [{**one, **other} for one in cases for other in rows][:_MOST_CASES]
    return cases


def _fixtures_in(there: Mapping[str, Any]) -> dict[str, Any]:
    return {
        value.winnow_fixture.get("name") or name: value
        for name, value in there.items()
        if isinstance(value, FunctionType) and hasattr(value, "winnow_fixture")
    }


class _Fixtures:
    """The fixtures of one call of a test."""

    def __init__(self, there: Mapping[str, Any], instance: Any, case: _Case) -> None:
        self._functions = _fixtures_in(there)
        self._instance = instance
        self._case = case
        self._made: dict[str, Any] = {}
        self._open: list[Iterator[Any]] = []
        self._closing: list[Callable[[], None]] = []

    def arguments(self, test: Any, candidate: Any) -> dict[str, Any]:
        """What a test is called with.

        Raises:
            Fault: it wants what nobody has.
        """
        for name, function in self._functions.items():
            if function.winnow_fixture.get("autouse"):
                self._value(name)
        function = getattr(test, "__func__", test)
        wanted = _wanted(function)
        found = {name: value for name, value in self._case.items() if not name.endswith("=")}
        for name in set(wanted) & (self._functions.keys() | _BUILT_IN.keys()) - found.keys():
            found[name] = self._value(name)
        if len(wanted) == 1 and self._instance is None:
            found.setdefault(wanted[0], candidate)
        if missing := [name for name in wanted if name not in found]:
            names = ", ".join(missing)
            raise Fault(f"the test function {function.__name__} wants arguments that nobody gives: {names}")
        return found

    def close(self) -> None:
        """Runs what fixtures have behind their `yield`."""
        for generator in reversed(self._open):
            next(generator, None)
        for close in self._closing:
            close()

    def _value(self, name: str) -> Any:
        if name in self._made:
            return self._made[name]
        if name not in self._functions:
            if name not in _BUILT_IN:
                raise Fault(f"a fixture wants an argument that nobody gives: {name}")
            self._made[name] = _BUILT_IN[name](self._closing)
            return self._made[name]
        function = self._functions[name]
        given = {
            other: self._request(name) if other == "request" else self._value(other) for other in _wanted(function)
        }
        if function.__code__.co_varnames[:1] in (("self",), ("cls",)):
            given[function.__code__.co_varnames[0]] = self._instance
        made = function(**given)
        if function.__code__.co_flags & _GENERATOR:
            self._open.append(made)
            made = next(made)
        elif hasattr(made, "__await__") and hasattr(made, "send"):
            import asyncio

            made = asyncio.run(made)
        self._made[name] = made
        return made

    def _request(self, name: str) -> Any:
        return SimpleNamespace(param=self._case.get(f"{name}="), addfinalizer=self._closing.append)


def _captured(closing: list[Callable[[], None]]) -> Any:
    """pytest's capsys: what is printed from now on."""
    before, text = sys.stdout, io.StringIO()
    sys.stdout = text
    closing.append(lambda: setattr(sys, "stdout", before))

    class Captured:
        def readouterr(self) -> Any:
            printed = text.getvalue()
            text.seek(0)
            text.truncate()
            return SimpleNamespace(out=printed, err="")

    return Captured()


def _folder(_: list[Callable[[], None]]) -> Any:
    import pathlib
    import tempfile

    return pathlib.Path(tempfile.mkdtemp())


_BUILT_IN: dict[str, Callable[[list[Callable[[], None]]], Any]] = {"capsys": _captured, "tmp_path": _folder}

"""What runs the tests, in a sandbox and a process of its own: the code that they test answers from another one.

The names that a response defines are stand-ins here. Calling one sends the arguments and brings back a plain value,
so the comparison and its result are out of the response's reach.
"""

import _thread
import builtins
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any

from rewards.programs.inside import Channel, Gone, confine, decode, encode
from rewards.programs.inside_checks import Checks, Fault, run_tests, watch_suppress, watch_unittest

_SHOWN = 80  # characters of a value or a test in a report


# ---- stand-ins ----


class Remote:
    """An object that lives with the response's code. It equals nothing but itself, whatever the code says."""

    __slots__ = ("_ask", "_reference")
    __contains__ = None  # `expected in found` would tell the code what is expected

    def __init__(self, ask: Callable[..., Any], reference: list[Any]) -> None:
        object.__setattr__(self, "_ask", ask)
        object.__setattr__(self, "_reference", reference)

    def __call__(self, /, *values: Any, **named: Any) -> Any:
        return self._ask("call", self, values, named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", self, key)

    def __iter__(self) -> Iterator[Any]:
        return self._ask("iter", self)

    def __next__(self) -> Any:
        return self._ask("next", self)

    def __len__(self) -> int:
        return self._ask("len", self)

    def __bool__(self) -> bool:
        return self._ask("bool", self)

    def __str__(self) -> str:
        return self._ask("str", self)


class Solution:
    """The response's code as the tests see it: what they ask goes to the program's process."""

    def __init__(self, channel: Channel, in_place: bool = False) -> None:
        """`in_place`: whether arguments show what a call did to them also where it is no whole statement."""
        self.channel = channel
        self.checks = Checks()
        self.last = ""  # what the code answered last, for the report
        self.asked = 0  # questions so far
        self._in_place = in_place
        self._known: dict[int, Remote] = {}
        self._turn = _thread.allocate_lock()  # tests may start threads

    def name(self, name: str) -> Remote:
        """The stand-in for a global name of the response's code; "" for its only function."""
        return Remote(self.ask, ["name", name])

    def loaded(self) -> None:
        """Waits until the code has loaded; raises what it raised."""
        self._answer("load", ())

    def ask(self, asked: str, target: Remote, *values: Any) -> Any:
        """Asks the program; returns its answer or raises the exception that it answers with.

        Raises:
            Fault: an argument of the test cannot be sent.
            Gone: the program does not answer, or answers with nonsense.
        """
        self.asked += 1
        with self._turn:
            try:
                self.channel.send([encode(part, _refer) for part in (asked, target, *values)])
            except (OverflowError, RecursionError) as failure:
                raise Fault(f"an argument of a test cannot be sent: {failure}") from None
            return self._answer(asked, values)

    def _answer(self, asked: str, values: tuple[Any, ...]) -> Any:
        match self.channel.receive():
            case ["value", data, *changes]:
                try:
                    value = decode(data, self._resolve)
                    if asked == "call" and (self._in_place or self.checks.alone.depth):
                        for place, new in changes:
                            _overwrite(values[type(place) is str][place], decode(new, self._resolve))
                except (Gone, TypeError, ValueError, LookupError, RecursionError) as failure:
                    self.channel.lose(str(failure))
                self.last = f"returned {_short(value)}"
                return value
            case ["failure" | "missing" as kind, str(name), str(said)]:
                self.last = f"raised {name[:_SHOWN]}"
                raised = _EXCEPTIONS.get(name, RuntimeError)(said)
                if asked not in _PROTOCOL or name != _PROTOCOL[asked]:
                    self.checks.noted(raised, missing=kind == "missing")
                raise raised
        self.channel.lose("sent something that is no answer")

    def _resolve(self, reference: list[Any]) -> Remote:
        match reference:
            case ["object", int(place)]:
                return self._known.setdefault(place, Remote(self.ask, reference))
        raise ValueError("no such reference")


# What says "no more" or "none" when Python itself asks, as in a `for` loop, hasattr() or list().
_PROTOCOL = {"next": "StopIteration", "get": "AttributeError", "len": "TypeError"}


def _overwrite(old: Any, new: Any) -> None:
    """Does to a test's own argument what the code did to its copy; parts that are equal stay the test's own."""
    if type(old) is list and type(new) is list:
        old[:] = [_merged(old[i] if i < len(old) else None, item) for i, item in enumerate(new)]
    elif isinstance(old, dict) and isinstance(new, dict):
        kept = {key: _merged(old.get(key), item) for key, item in new.items()}
        old.clear()
        dict.update(old, kept)
    elif isinstance(old, set) and isinstance(new, set):
        old.clear()
        old.update(new)
    elif hasattr(old, "appendleft") and type(old) is type(new):
        old.clear()
        old.extend(new)


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, list | dict | set) and isinstance(new, list | dict | set) and type(new) in type(old).__mro__:
        _overwrite(old, new)
        return old
    if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        for one, other in zip(old, new, strict=True):
            _merged(one, other)
    try:
        return old if old == new else new
    except RecursionError:
        return new


def _refer(value: Any) -> list[Any]:
    if type(value) is Remote:
        return object.__getattribute__(value, "_reference")
    raise Fault(f"a test passes a {type(value).__name__}, which cannot be sent to the response's code")


def _exceptions() -> dict[str, type[Exception]]:
    found = {}
    for name, kind in vars(builtins).items():
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                kind("")
            except TypeError:  # UnicodeDecodeError and such want more than a text
                kind = ValueError
            found[name] = kind
    return found


_EXCEPTIONS = _exceptions()


def _short(value: Any) -> str:
    if type(value) is Remote:
        return "an object"
    try:
        text = repr(value)
    except (ValueError, RecursionError, MemoryError):  # an int of thousands of digits, a nest, a giant
        text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


# ---- tests ----


def main(job: dict[str, Any]) -> None:
    """Runs the job and reports a JSON object per line on the output.

    The job holds `setup` and `tests` (compiled), or `calls` (pairs of arguments and what is expected), the `names` and
    `modules` that they use, `entry`, `called`, `helpers`, `in_place` and `pipes`.

    The reports are {"failed": why} where the code did not load or the setup fails by its fault, {"test": number,
    "failed": why, or "", "held": how many assertions did} for each test, both with "gone" (what ended the program, or
    ""), {"fault": why} where the tests cannot be run at all, and {"end": true, "asked": questions} after the last.
    """
    output = confine(job, keep_output=False)
    reports = os.fdopen(output, "w", encoding="utf-8", errors="backslashreplace")
    solution = Solution(Channel(*job["pipes"]), job["in_place"])
    try:
        for report in run(job, solution):
            print(json.dumps(report), file=reports, flush=True)
    except Fault as fault:
        print(json.dumps({"fault": str(fault)}), file=reports, flush=True)
    os._exit(0)


def run(job: dict[str, Any], solution: Solution) -> Iterator[dict[str, Any]]:
    """The reports of `main`, one by one."""
    names = _namespace(job, solution)
    why, done = _load(solution), set[int]()
    for place, source in enumerate(job["setup"]):
        why = why or _attempt(solution, source, names)
        if job["entry"]:  # a prompt defines it too, without a body
            names[job["entry"]] = names["candidate"] = solution.name(job["entry"])
        if place < job["plain"]:  # the prompt's own functions are no tests
            done.update(id(value) for value in list(names.values()))
    if why:
        yield {"failed": why, "gone": solution.channel.gone}
    tests = [] if why else [*job["tests"], *job["calls"]]
    for number, test in enumerate(tests):
        why = _attempt(solution, test, names, job, done)
        yield {"test": number, "failed": why, "gone": solution.channel.gone, "held": solution.checks.held}
    yield {"end": True, "asked": solution.asked}


def _namespace(job: dict[str, Any], solution: Solution) -> dict[str, Any]:
    """The names that the tests begin with."""
    module = ModuleType("__main__")
    sys.modules["__main__"] = sys.modules["tests"] = module
    names = module.__dict__
    names.update((name, importlib.import_module(name)) for name in job["modules"])
    names.update((name, solution.name(name)) for name in job["names"])
    names.update({"__checks__": solution.checks, "next": solution.checks.next, "__file__": "tests.py"})
    names.update({"exit": sys.exit, "quit": sys.exit, "candidate": solution.name(job["entry"])})
    sys.modules["solution"] = _Module(solution)
    if "unittest" in job["helpers"]:
        watch_unittest(solution.checks)
    if "pytest" in job["helpers"]:
        sys.modules["pytest"] = importlib.import_module("rewards.programs.inside_pytest").small_pytest(solution.checks)
    if "contextlib" in job["modules"] or "contextlib" in job["helpers"]:
        watch_suppress(solution.checks)
    if job["random"]:
        importlib.import_module("random").seed(0)  # the same tests every time
    return names


class _Module(ModuleType):
    """The response's code as a module that tests import names from."""

    def __init__(self, solution: Solution) -> None:
        super().__init__("solution")
        self.__dict__["__all__"] = []  # what a star would bring is among the names already
        self.__dict__["_name"] = solution.name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.__dict__["_name"](name)


def _load(solution: Solution) -> str:
    try:
        solution.loaded()
    except Gone as gone:
        return f"it {gone} while it was loaded"
    except Exception as failure:  # what the code raised
        return f"it does not load: {solution.last}: {str(failure)[:_SHOWN]}"
    return ""


def _attempt(
    solution: Solution,
    test: CodeType | list[Any],
    names: dict[str, Any],
    job: dict[str, Any] | None = None,
    done: set[int] | None = None,
) -> str:
    """Why this part of the tests fails; "" where it does not. With the job, its functions and classes are run too.

    Raises:
        Fault: it fails before any of it called the response's code.
    """
    solution.last = ""
    checks = solution.checks
    checks.clear()
    try:
        if isinstance(test, list):
            _call(solution, names["candidate"], *test)
        else:
            exec(test, names)
        if job is not None and done is not None and isinstance(test, CodeType):
            run_tests(names, job["called"], done, checks, names["candidate"])
    except Gone as gone:
        return f"it {gone}"
    except AssertionError as failure:
        return f"it {solution.last}" if solution.last else _uncalled(solution, failure)
    except SystemExit as end:
        if end.code not in (None, 0, False):
            return f"it {solution.last or 'was not called'}, and the test ended with status {end.code}"
        if not checks.held:
            raise Fault(f"the tests ended early, with status {end.code or 0}, before they asserted anything") from None
    except Exception as failure:  # any: it is the test's way to say that it failed
        return _why_raised(solution, failure)
    return _why_not(solution)


def _uncalled(solution: Solution, failure: AssertionError) -> str:
    if not solution.asked:
        raise Fault(f"the tests fail by themselves, before they call the code: AssertionError: {failure}") from None
    return "it was not called"


def _why_raised(solution: Solution, failure: Exception) -> str:
    said = str(failure)[:_SHOWN]
    if not solution.asked:
        why = f"{type(failure).__name__}: {said}"
        raise Fault(f"the tests fail by themselves, before they call the code: {why}") from None
    if solution.last.startswith("raised"):
        return f"it {solution.last}: {said}"
    return f"it {solution.last or 'was not called'}, and the test raised {type(failure).__name__}: {said}"


def _why_not(solution: Solution) -> str:
    """Why a test fails that came to its end; "" where it does not."""
    if lost := solution.channel.gone:  # the lines may have caught what its end raised
        return f"it {lost}"
    if unexpected := solution.checks.unexpected:
        return f"it raised {unexpected}, which the test does not expect"
    if solution.checks.fell:
        return f"it {solution.last or 'was not called'}; {solution.checks.fell}, and the test went on"
    return ""


# ---- calls ----


def _call(
    solution: Solution, candidate: Remote, values: list[Any], named: Mapping[str, Any], expected: list[Any]
) -> None:
    """Calls the entry point and compares what it returns.

    Args:
        solution: the response's code.
        candidate: its entry point.
        values: the arguments in their order.
        named: the arguments by name.
        expected: what it may return, as JSON has it.

    Raises:
        AssertionError: it returns something else.
    """
    found = candidate(*values, **named)
    if any(_alike(found, one) for one in expected):
        solution.checks.held += 1
        return
    solution.last += f", expected {_short(expected[-1])}"
    raise AssertionError


def _alike(found: Any, expected: Any) -> bool:
    """Whether a value is what JSON has for it: tuples are lists there, and keys are texts."""
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(_alike, found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        keyed = {_key(key): value for key, value in found.items()}
        return (
            keyed.keys() == set(map(_key, expected))
            and len(keyed) == len(found)
            and all(_alike(keyed[_key(key)], value) for key, value in expected.items())
        )
    if isinstance(found, int | float) and isinstance(expected, int | float):
        if not isinstance(found + expected, float):
            return found == expected
        return found == expected or abs(found - expected) <= 1e-9 * max(1.0, abs(expected))
    return type(found) is type(expected) and bool(found == expected)


def _key(key: Any) -> Any:
    return str(key) if isinstance(key, int | float) and not isinstance(key, bool) else key

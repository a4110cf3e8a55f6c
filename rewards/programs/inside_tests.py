"""What runs the tests, in a sandbox and a process of its own: the code that they test answers from another one.

The names that a response defines are stand-ins here. Calling one sends the arguments and brings back a plain value,
so the comparison and its result are out of the response's reach.
"""

import builtins
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rewards.programs.inside import Channel, Gone, confine, decode, encode

_SHOWN = 80  # characters of a value or a test in a report


class Fault(BaseException):
    """The tests cannot be run, whatever the response is."""


def names_under_test(sources: list[str], entry: str = "") -> set[str]:
    """The names that a response has to define for these tests.

    These are the entry point and the names that the tests use and neither define nor find among the builtins or, in
    front of a dot, the standard library. A builtin is tested where there is no such name and the tests call only this
    one: a response that redefines `len` beside its function changes no test.
    """
    import ast  # not needed in the sandbox, where every import costs each verdict its time

    used: set[str] = {entry} - {""}
    called: set[str] = set()
    bound: set[str] = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.alias(name=name, asname=other):
                bound.add(other or name.partition(".")[0])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(node.func.id)
    known = set(vars(builtins))
    if free := used - (bound - {entry}) - known - modules_named(sources):
        return free
    redefined = (called & known) - bound
    return redefined if len(redefined) == 1 else set()


def modules_named(sources: list[str]) -> set[str]:
    """The modules of the standard library that tests use without importing them, as in `math.pi`."""
    import ast

    nodes = [node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return {node.value.id for node in nodes if isinstance(node.value, ast.Name)} & sys.stdlib_module_names


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

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.last = ""  # what the code answered last, for the report
        self.asked = 0  # questions so far
        self._known: dict[int, Remote] = {}

    def name(self, name: str) -> Remote:
        """The stand-in for a global name of the response's code."""
        return Remote(self.ask, ["name", name])

    def loaded(self) -> None:
        """Waits until the code has loaded; raises what it raised."""
        self._answer()

    def ask(self, asked: str, target: Remote, *values: Any) -> Any:
        """Asks the program; returns its answer or raises the exception that it answers with.

        Raises:
            Fault: an argument of the test cannot be sent.
            Gone: the program does not answer, or answers with nonsense.
        """
        self.asked += 1
        try:
            self.channel.send([encode(part, _refer) for part in (asked, target, *values)])
        except (OverflowError, RecursionError) as failure:
            raise Fault(f"an argument of a test cannot be sent: {failure}") from None
        return self._answer()

    def _answer(self) -> Any:
        match self.channel.receive():
            case ["value", data]:
                try:
                    value = decode(data, self._resolve)
                except Gone as failure:
                    self.channel.lose(str(failure))
                self.last = f"returned {_short(value)}"
                return value
            case ["failure", str(name), str(said)]:
                self.last = f"raised {name[:_SHOWN]}"
                raise _EXCEPTIONS.get(name, RuntimeError)(said)
        self.channel.lose("sent something that is no answer")

    def _resolve(self, reference: list[Any]) -> Remote:
        match reference:
            case ["object", int(place)]:
                return self._known.setdefault(place, Remote(self.ask, reference))
        raise ValueError("no such reference")


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

    The job holds `setup` and `tests` (sources), the `names` and `modules` that they use, `entry` and `pipes`.

    The reports are {"failed": why} where the code did not load or the setup fails by its fault, {"test": number,
    "failed": why, or ""} for each test, both with "gone" (what ended the program, or ""), {"fault": why} where the
    tests cannot be run at all, and {"end": true} after the last.
    """
    output = confine(job, keep_output=False)
    reports = os.fdopen(output, "w", encoding="utf-8", errors="backslashreplace")
    solution = Solution(Channel(*job["pipes"]))
    try:
        for report in run(job, solution):
            print(json.dumps(report), file=reports, flush=True)
    except Fault as fault:
        print(json.dumps({"fault": str(fault)}), file=reports, flush=True)
    os._exit(0)


def run(job: dict[str, Any], solution: Solution) -> Iterator[dict[str, Any]]:
    """The reports of `main`, one by one."""
    setup, tests, entry = job["setup"], job["tests"], job["entry"]
    names: dict[str, Any] = {"__name__": "tests"}
    names.update((name, importlib.import_module(name)) for name in job["modules"])
    names.update((name, solution.name(name)) for name in job["names"])
    if any("random" in source for source in setup):
        importlib.import_module("random").seed(0)  # the same tests every time
    why = _load(solution)
    for source in setup:
        why = why or _attempt(solution, source, names)
        if entry:  # a prompt defines it too, without a body
            names[entry] = names["candidate"] = solution.name(entry)
    if why:
        yield {"failed": why, "gone": solution.channel.gone}
    for number, test in enumerate(tests if not why else []):
        why = _attempt(solution, test, names)
        yield {"test": number, "failed": why, "gone": solution.channel.gone}
    yield {"end": True}


def _load(solution: Solution) -> str:
    try:
        solution.loaded()
    except Gone as gone:
        return f"it {gone} while it was loaded"
    except Exception as failure:  # what the code raised
        return f"it does not load: {solution.last}: {str(failure)[:_SHOWN]}"
    return ""


def _attempt(solution: Solution, source: str, names: dict[str, Any]) -> str:
    """Why these lines of the tests fail; "" where they do not.

    Raises:
        Fault: they fail before any of them called the response's code.
    """
    solution.last = ""
    try:
        exec(source, names)
    except Gone as gone:
        return f"it {gone}"
    except AssertionError:
        return f"it {solution.last}" if solution.last else "it was not called"
    except Exception as failure:  # any: it is the test's way to say that it failed
        said = str(failure)[:_SHOWN]
        if not solution.asked:
            why = f"{type(failure).__name__}: {said}"
            raise Fault(f"the tests fail by themselves, before they call the code: {why}") from None
        if solution.last.startswith("raised"):
            return f"it {solution.last}: {said}"
        return f"it {solution.last or 'was not called'}, and the test raised {type(failure).__name__}: {said}"
    lost = solution.channel.gone  # the lines may have caught what its end raised
    return f"it {lost}" if lost else ""

"""What runs the model's code inside a sandbox: as a program with input and output, or as functions that are asked.

Nothing here is a secret or a safeguard: the code that it runs can change all of it. It never sees a test.
"""

import builtins
import importlib
import io
import os
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from rewards.programs.inside import Channel, Gone, confine, decode, encode

_CHANGING = ("list", "dict", "set", "deque", "Counter", "OrderedDict")  # arguments that a call can change, as sent
_MOST_PRINTED = 2**16  # characters between two questions
_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, list, tuple, set, frozenset, dict)


def main(job: dict[str, Any]) -> None:
    """Runs the job: `source` and `imports` (what is lent to it) and, for functions, also `prompt`, `entry`, `raised`,
    `printed` (whether the tests look at what it prints) and `pipes`."""
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # those of the module site, which is not loaded here
    if "pipes" not in job:
        confine(job, keep_output=True)
        whole, names = compile(job["source"], "<response>", "exec"), _module("__main__").__dict__
        names.update(_lent(whole, job.get("imports", "")))
        exec(whole, names)
        return
    confine(job, keep_output=False)
    printed = Printed() if job["printed"] else None
    sys.stdout = printed or sys.stdout
    program = TestedProgram(Channel(*job["pipes"]), _module("solution").__dict__, job["raised"], printed)
    try:
        program.load(job["prompt"], job["source"], job["entry"], job["imports"])
        while True:
            program.answer()
    except Gone:
        os._exit(0)


def _module(name: str) -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = module  # dataclasses and typing look there for the module of a class
    return module


class Printed(io.TextIOBase):
    """Keeps the beginning of what is printed, until it is taken."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._left = _MOST_PRINTED

    def write(self, text: str) -> int:
        """Takes a text."""
        kept = text[: self._left]
        self._parts.append(kept)
        self._left -= len(kept)
        return len(text)

    def taken(self) -> str:
        """What was printed since the last time."""
        text, self._left = "".join(self._parts), _MOST_PRINTED
        self._parts.clear()
        return text


class TestedProgram:
    """The model's code, loaded, and the objects of it that the tests have been told of."""

    def __init__(self, channel: Channel, names: dict[str, Any], raised: list[str], printed: Printed | None) -> None:
        self._channel = channel
        self._names = names
        self._raised = raised  # names of exceptions that the tests catch or expect
        self._printed = printed
        self._loop: Any = None  # of asyncio, once something is awaited
        self._objects: list[Any] = []
        self._places: dict[int, int] = {}  # id of an object: its place in the list, which keeps it alive

    def load(self, prompt: str, source: str, entry: str, imports: str) -> None:
        """Runs the code and tells the tests whether it loaded."""
        try:
            for part in _parts(prompt, source, entry):
                for name, value in _lent(part, imports):
                    self._names.setdefault(name, value)
                exec(part, self._names)
        except EOFError:  # it reads input when it is run alone, as a program would, and there is none; the tests decide
            self._channel.send(["value", None])
        except BaseException as failure:  # also SystemExit, and whatever else the code raises
            self._channel.send(self._failure(failure))
        else:
            self._channel.send(["value", None])

    def answer(self) -> None:
        """Answers one question: what is asked, the object, more values."""
        question = self._channel.receive()
        try:
            asked, target, *values = (decode(part, self._resolve) for part in question)
            reply = ["value", self._ask(asked, target, values)]
            if asked == "call":
                reply += self._changes(question, values)
        except _Missing as missing:
            reply = ["missing", "NameError", str(missing), []]
        except BaseException as failure:
            reply = self._failure(failure)
        try:
            self._channel.send(reply + ([[None, self._printed.taken()]] if self._printed else []))
        except (OverflowError, ValueError, RecursionError) as failure:  # too long or too deep for a message
            self._channel.send(self._failure(failure))

    def _ask(self, asked: str, target: Any, values: list[Any]) -> Any:
        if asked == "call":
            result = target(*values[0], **values[1])
            made = isinstance(target, type) and type(result) not in _PLAIN
            return self._refer(result) if made else encode(result, self._refer)
        if asked == "get":
            return encode(getattr(target, *values), self._refer)
        if asked == "set":
            return setattr(target, *values)
        if asked in _OPERATORS:
            return encode(_OPERATORS[asked](target, *values), self._refer)
        if asked in _AWAITED:
            return encode(self._run(_AWAITED[asked](target)), self._refer)
        return encode(getattr(builtins, asked)(target), self._refer)  # iter, next, len, str, repr, bool

    def _run(self, awaitable: Any) -> Any:
        import asyncio

        async def waiting() -> Any:
            return await awaitable

        self._loop = self._loop or asyncio.new_event_loop()
        return self._loop.run_until_complete(waiting())

    def _changes(self, question: Any, values: list[Any]) -> list[Any]:
        """[place or name, value] of each argument that the call has changed."""
        _, _, (_, positional), (_, named) = question
        sent = [*enumerate(positional), *((name, item) for name, item in named)]
        held = {**dict(enumerate(values[0])), **values[1]}
        found: list[Any] = []
        for place, before in sent:
            if type(before) is list and before and before[0] in _CHANGING:
                after = encode(held[place], self._refer)
                if after != before:
                    found.append([place, after])
        return found

    def _failure(self, failure: BaseException) -> list[Any]:
        """The name of the nearest exception that every Python knows, what it says, and the code's own that it is."""
        known = next(kind.__name__ for kind in type(failure).__mro__ if vars(builtins).get(kind.__name__) is kind)
        try:
            said = str(failure.args[0] if failure.args and isinstance(failure.args[0], str) else failure)[:1000]
        except BaseException:  # an exception whose text fails is the code's too
            said = ""
        own = [name for name in self._raised if _is_a(failure, self._names.get(name))]
        return ["failure", known, said, own]

    def _refer(self, value: Any) -> list[Any]:
        if id(value) not in self._places:
            self._places[id(value)] = len(self._objects)
            self._objects.append(value)
        return ["awaitable" if hasattr(type(value), "__await__") else "object", self._places[id(value)]]

    def _resolve(self, reference: list[Any]) -> Any:
        kind, which = reference
        if kind == "object":
            return self._objects[which]
        if which in self._names:
            return self._names[which]
        if which.endswith("()"):  # Solution() of the entry point Solution().solve
            return self._resolve(["name", which[:-2]])()
        holder, dot, method = which.rpartition(".")
        if dot:
            return getattr(self._resolve(["name", holder]), method)
        methods = _methods(self._names.get("Solution"))
        if which in methods or (not which and methods):  # as LeetCode's answers are written
            return getattr(self._names["Solution"](), which or methods[-1])
        if not which:
            return _only_function(self._names)
        raise _Missing(f"name {which!r} is not defined")


_OPERATORS: dict[str, Any] = {
    "item": lambda target, key: target[key],
    "put": lambda target, key, value: target.__setitem__(key, value),
    "drop": lambda target, key: target.__delitem__(key),
    "enter": lambda target: target.__enter__(),
    "exit": lambda target: target.__exit__(None, None, None),
    "aiter": lambda target: target.__aiter__(),
}
_AWAITED: dict[str, Any] = {
    "await": lambda target: target,
    "anext": lambda target: target.__anext__(),
    "aenter": lambda target: target.__aenter__(),
    "aexit": lambda target: target.__aexit__(None, None, None),
}


def _is_a(failure: BaseException, kind: Any) -> bool:
    return isinstance(kind, type) and isinstance(failure, kind)


class _Missing(Exception):
    """The code does not define what the tests call."""


def _methods(kind: Any) -> list[str]:
    if not isinstance(kind, type):
        return []
    return [name for name, value in vars(kind).items() if callable(value) and not name.startswith("_")]


def _only_function(names: dict[str, Any]) -> Any:
    """The function that the code defines; of several the last that no other one calls.

    Raises:
        _Missing: it defines none.
    """
    functions = [
        value for value in names.values() if isinstance(value, FunctionType) and value.__module__ == "solution"
    ]
    named = {name for one in functions for name in _names_in(one.__code__) if name != one.__name__}
    outer = [one for one in functions if one.__name__ not in named]
    if not functions:
        raise _Missing("the code defines no function")
    return (outer or functions)[-1]


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _names_in(part)


def _lent(code: CodeType, imports: str) -> Iterator[tuple[str, Any]]:
    """The names that code uses and need not import: those of typing, and what the tests import themselves."""
    used = set(_names_in(code))
    if used & _TYPING:
        typing = importlib.import_module("typing")
        yield from ((name, getattr(typing, name)) for name in used & _TYPING)
    lent: dict[str, Any] = {}
    for line in imports.splitlines():
        if "*" in line or used.intersection(line.replace(",", " ").replace(".", " ").split()):
            try:
                exec(line, lent)
            except ImportError:
                continue
    yield from ((name, value) for name, value in lent.items() if name in used and not name.startswith("_"))


_TYPING = set(
    """Any Callable DefaultDict Deque Dict FrozenSet Generator Generic Hashable Iterable Iterator List Mapping
    MutableMapping NamedTuple NoReturn Optional Sequence Set Tuple Type TypeVar Union""".split()  # noqa: SIM905
)


def _parts(prompt: str, source: str, entry: str) -> list[CodeType]:
    """What to run in turn. Without the entry point in it, the source is taken as the rest of the prompt.

    Raises:
        SyntaxError: it is neither.
    """
    if not entry:
        return [compile(source, "<response>", "exec")]
    import ast  # both imports cost each verdict time, and most verdicts need neither
    import textwrap

    try:
        tree = ast.parse(source)
        if entry in _defined(tree):
            return [compile(prompt, "<prompt>", "exec"), compile(tree, "<response>", "exec")]
    except SyntaxError:
        pass  # a body alone is no program
    first, *rest = source.strip("\r\n").splitlines() or [""]
    # Its indentation may be whole, missing on the first line, where the prompt ended, or missing on all.
    for body in (source, "\n".join(["    " + first.lstrip(), *rest]), textwrap.indent(source, "    ")):
        try:
            return [compile(prompt.rstrip() + "\n" + body, "<response>", "exec")]
        except SyntaxError:
            continue
    return [compile(source, "<response>", "exec")]


def _defined(tree: Any) -> set[str]:
    import ast

    named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            named.add(node.id)
        if isinstance(node, ast.ImportFrom):
            named.update(alias.asname or alias.name for alias in node.names)
    return named

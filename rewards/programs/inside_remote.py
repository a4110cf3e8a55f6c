"""The response's code as the tests see it: stand-ins for what lives in the other process.

A stand-in says nothing of itself. It has no comparison, no arithmetic and no `in`, for the code would then decide what
a test finds, or be told what the test expects.
"""

import _thread
import builtins
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import CoroutineType, ModuleType
from typing import Any

from rewards.programs.inside import FRAME, Channel, Gone, decode, encode
from rewards.programs.inside_checks import Checks, Fault

SHOWN = 80  # characters of a value or a test in a report


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

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("put", self, key, value)

    def __delitem__(self, key: Any) -> None:
        self._ask("drop", self, key)

    def __enter__(self) -> Any:
        return self._ask("enter", self)

    def __exit__(self, *_: object) -> None:
        self._ask("exit", self)  # without the test's exception, which it may not swallow

    async def __aenter__(self) -> Any:
        return self._ask("aenter", self)

    async def __aexit__(self, *_: object) -> None:
        self._ask("aexit", self)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._ask("aiter", self)

    async def __anext__(self) -> Any:
        return self._ask("anext", self)


async def _awaited(remote: Remote) -> Any:
    """What an awaitable of the code gives: it runs in its own process, one at a time."""
    return object.__getattribute__(remote, "_ask")("await", remote)


class Solution:
    """The response's code as the tests see it: what they ask goes to the program's process."""

    def __init__(self, channel: Channel, in_place: bool = False) -> None:
        """`in_place`: whether arguments show what a call did to them also where it is no whole statement."""
        self.channel = channel
        self.checks = Checks()
        self.last = ""  # what the code answered last, for the report
        self._in_place = in_place
        self._known: dict[int, Remote] = {}
        self._exceptions: dict[str, type[Exception]] = {}  # of the code, by name, those that the tests catch or expect
        self._turn = _thread.allocate_lock()  # tests may start threads

    def name(self, name: str) -> Remote:
        """The stand-in for a global name of the response's code; "" for its only function."""
        return Remote(self.ask, ["name", name])

    def exception(self, name: str) -> type[Exception]:
        """The class that stands for an exception of the code: raised wherever the code raises that one."""
        return self._exceptions.setdefault(name, type(name, (Exception,), {}))

    def loaded(self) -> None:
        """Waits until the code has loaded; raises what it raised."""
        self._answer("load", ())

    def ask(self, asked: str, target: Remote, *values: Any) -> Any:
        """Asks the program; returns its answer or raises the exception that it answers with.

        Raises:
            Fault: an argument of the test cannot be sent.
            Gone: the program does not answer, or answers with nonsense.
        """
        self.checks.asked += 1
        with self._turn:
            try:
                self.channel.send([encode(part, _refer) for part in (asked, target, *values)])
            except (OverflowError, RecursionError) as failure:
                most = FRAME // 4 if isinstance(failure, OverflowError) else _DEEP
                if self.channel.taken > most:  # it may have been made of what the code gave
                    raise ValueError(f"an argument cannot be sent: {failure}") from None
                raise Fault(f"an argument of a test cannot be sent: {failure}") from None
            return self._answer(asked, values)

    def _answer(self, asked: str, values: tuple[Any, ...]) -> Any:
        match self.channel.receive():
            case ["value", data, *changes]:
                try:
                    value = decode(data, self._resolve)
                    self._print(changes)
                    if asked == "call" and (self._in_place or self.checks.alone.depth):
                        for place, new in changes:
                            _overwrite(values[type(place) is str][place], decode(new, self._resolve))
                except (Gone, TypeError, ValueError, LookupError, RecursionError) as failure:
                    self.channel.lose(str(failure))
                self.last = f"returned {shown(value)}"
                return value
            case ["failure" | "missing" as kind, str(name), str(said), list(kinds), *printed]:
                self._print(printed)
                self.last = f"raised {name[:SHOWN]}"
                raised = self._raised(name, kinds)(said)
                if asked not in _PROTOCOL or name != _PROTOCOL[asked]:
                    self.checks.noted(raised, missing=kind == "missing")
                raise raised
        self.channel.lose("sent something that is no answer")

    def _raised(self, name: str, kinds: list[Any]) -> type[Exception]:
        """The class of an exception of the code: a builtin, and those of the code's that the tests know by name."""
        known = _EXCEPTIONS.get(name, RuntimeError)
        own = tuple(self._exceptions[kind] for kind in kinds if type(kind) is str and kind in self._exceptions)
        if not own:
            return known
        return type(own[0].__name__, (*own, *([] if known is Exception else [known])), {})

    def _print(self, changes: list[Any]) -> None:
        """Prints what the code printed, which a test may catch; takes it off the list."""
        if changes and type(changes[-1]) is list and changes[-1][:1] == [None]:
            sys.stdout.write(str(changes.pop()[1]))

    def _resolve(self, reference: list[Any]) -> Any:
        match reference:
            case ["object" | "awaitable" as kind, int(place)]:
                remote = self._known.setdefault(place, Remote(self.ask, ["object", place]))
                return remote if kind == "object" else _awaited(remote)
        raise ValueError("no such reference")


# What says "no more" or "none" when Python itself asks, as in a `for` loop, hasattr() or list().
_PROTOCOL = {"next": "StopIteration", "anext": "StopAsyncIteration", "get": "AttributeError", "len": "TypeError"}
_DEEP = 2000  # bytes that a value of the depth needs which cannot be sent


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
    if type(value) is CoroutineType:
        raise TypeError("a coroutine cannot be sent to the response's code")
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


def shown(value: Any) -> str:
    if type(value) is Remote:
        return "an object"
    try:
        text = repr(value)
    except (ValueError, RecursionError, MemoryError):  # an int of thousands of digits, a nest, a giant
        text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


class SolutionModule(ModuleType):
    """The response's code as a module that tests import names from."""

    def __init__(self, solution: Solution, names: dict[str, Any]) -> None:
        super().__init__("solution")
        self.__dict__.update({name: value for name, value in names.items() if type(value) is type})
        self.__dict__["__all__"] = []  # what a star would bring is among the names already
        self.__dict__["_name"] = solution.name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.__dict__["_name"](name)

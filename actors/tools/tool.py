"""One tool: what the policy is told of it, what its calls may take, and what does them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from actors.tools.formats import Schema

MOST_WHY = 10_000  # characters of what went wrong, for people


class ToolFailure(Exception):
    """A call that gives no result; the message is a sentence for the policy."""


class Spoiled(ToolFailure):
    """The same, and whatever runs the tool is good for no other call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one call of a tool may take."""

    seconds: float
    memory_mib: int  # of the process that it runs in
    max_characters: int  # of what the policy reads of its result

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_mib", "max_characters"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"{name} must be a number above 0, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a call gave."""

    text: str  # for the policy
    failed: bool = False  # whether it gave nothing but this text
    why: str = ""  # for the person who offers the tool, where it is to blame: what went wrong, in full
    broken: bool = False  # whether the tool cannot be used at all: nothing that the policy is to blame for
    spoiled: bool = False  # whether the process that ran it is good for no other call


class Running(Protocol):
    """Tools in the process in which they run."""

    @property
    def schemas(self) -> Sequence[Schema]:
        """What there is to call."""
        ...

    def call(self, name: str, arguments: Mapping[str, Any], limits: Limits) -> Any:
        """What a call gives: a text, or what becomes one as JSON.

        Raises:
            ToolFailure: it gives nothing.
            Exception: the same, and the person who offers the tool should know of it.
        """
        ...


@runtime_checkable
class Kind(Protocol):
    """Tools that run in processes of their own. It travels there, and is equal where they are the same."""

    @property
    def bounded(self) -> bool:
        """Whether the process has the limit of memory."""
        ...

    def placed(self, folder: Path) -> "Kind":
        """The same, with paths that are taken from a folder: that of the environment's file."""
        ...

    def start(self) -> Running:
        """Makes them ready, in that process.

        Raises:
            ValueError: they cannot be used; the message says why.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Something that the policy can call."""

    schema: Schema  # its name, what it is for, and a JSON schema of its arguments
    limits: Limits
    work: Kind | Callable[..., Any]  # what does it: in a process of its own, or in the event loop of the environment

    @property
    def name(self) -> str:
        """By which it is called."""
        return str(self.schema["function"]["name"])


def failure(why: str, full: str = "") -> Result:
    """A call that gave no result, with a sentence for the policy and, in full, what a person should know."""
    return Result(text=f"Error: {why}", failed=True, why=full[:MOST_WHY])


def result_of(value: Any, max_characters: int) -> Result:
    """What a tool gave, as a text: a text as it is, other values as JSON."""
    if isinstance(value, Result):
        return value
    if isinstance(value, str):
        return Result(text=shortened(value, max_characters))
    if value is None:
        return failure("the tool returned nothing", "it returned None; it must return a text, or what JSON can hold")
    try:
        return Result(text=shortened(json.dumps(value, ensure_ascii=False), max_characters))
    except (TypeError, ValueError, RecursionError):
        why = f"the tool returned no text, but an object of the type {type(value).__name__}"
        return failure(why, f"{why}; it must return a text, or what JSON can hold")


def failed(problem: Exception, name: str, max_characters: int, full: str) -> Result:
    """What becomes of an exception in a tool.

    Args:
        problem: what it raised.
        name: the tool's.
        max_characters: most characters of the text.
        full: the traceback.
    """
    if isinstance(problem, ToolFailure):
        return replace(failure(shortened(str(problem), max_characters)), spoiled=isinstance(problem, Spoiled))
    return failure(shortened(f"{name} failed: {type(problem).__name__}: {problem}", max_characters), full)


def shortened(text: str, max_characters: int) -> str:
    """The beginning of a text that is too long, with a line that says so."""
    if len(text) <= max_characters:
        return text
    return f"{text[:max_characters]}\n[the first {max_characters} of {len(text)} characters]"


def by_name(tools: Sequence[Tool]) -> dict[str, Tool]:
    """The tools by name.

    Raises:
        ValueError: two have one name.
    """
    names = [tool.name for tool in tools]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two tools are named {twice[0]!r}")
    return dict(zip(names, tools, strict=True))

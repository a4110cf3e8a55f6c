"""One tool: what the policy is told of it, and what is done when it is called."""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from actors.tools.formats import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one call of a tool may take."""

    seconds: float
    memory_mib: int  # of the process that it runs in
    longest: int  # characters of what the policy reads of its result


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a call gave."""

    text: str  # for the policy
    failed: bool = False  # whether it gave nothing but this text
    why: str = ""  # of a failure, in full, for the person who wrote the tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Something that the policy can call."""

    name: str
    schema: Schema  # with the name, what it is for, and a JSON schema of the arguments
    function: Callable[..., Any]


def tool_of(function: Callable[..., Any]) -> Tool:
    """A function as a tool: its signature and docstring become the schema.

    Raises:
        ValueError: its docstring or its types do not say what the schema needs.
    """
    from transformers.utils.chat_template_utils import get_json_schema

    if not callable(function):
        raise ValueError(f"{function!r:.80} is no tool: give a function, or one of actors.tools")
    try:
        schema = get_json_schema(function)
    except Exception as failure:  # transformers raises several kinds
        raise ValueError(
            f"{failure}. A tool's docstring says what it does, and under 'Args:' one line for each argument; each "
            "argument has a type"
        ) from None
    schema["function"].pop("return", None)
    return Tool(name=schema["function"]["name"], schema=schema, function=function)


def failure(why: str, full: str = "") -> Result:
    """A call that gave no result, with a sentence for the policy."""
    return Result(text=f"Error: {why}", failed=True, why=full or why)


def result_of(value: Any) -> Result:
    """What a tool's function returned, as a text: a text as it is, other values as JSON."""
    if isinstance(value, str):
        return Result(text=value)
    if value is None:
        return failure("the tool returned nothing")
    try:
        return Result(text=json.dumps(value, ensure_ascii=False, allow_nan=True))
    except (TypeError, ValueError, RecursionError):
        return failure(f"the tool returned no text, but an object of the type {type(value).__name__}")


def shortened(text: str, longest: int) -> str:
    """The beginning of a text that is too long, with a line that says so."""
    return text if len(text) <= longest else f"{text[:longest]}\n[the first {longest} of {len(text)} characters]"


def is_coroutine(function: Callable[..., Any]) -> bool:
    """Whether a call of it is to be awaited."""
    return inspect.iscoroutinefunction(function)


def by_name(tools: list[Tool]) -> Mapping[str, Tool]:
    """The tools by name.

    Raises:
        ValueError: two have one name.
    """
    found = {tool.name: tool for tool in tools}
    if len(found) < len(tools):
        names = [tool.name for tool in tools]
        raise ValueError(f"two tools are named {next(name for name in names if names.count(name) > 1)!r}")
    return found

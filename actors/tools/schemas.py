"""What a policy is told of a tool: a name, what it is for, and a JSON schema of its arguments."""

import inspect
import re
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from pydantic import PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from actors.tools.formats import Schema

# function -> its name and docstring, and what a policy is told of it: each episode offers its tools anew.
_TOLD: WeakKeyDictionary[FunctionType, tuple[tuple[str, str | None], Schema]] = WeakKeyDictionary()
_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Yields|Raises|Examples?|Notes?):\s*")
_ARGUMENT = re.compile(r"(\*{0,2}\w+)\s*(?:\([^)]*\))?:\s*(.*)")


class Documented(NamedTuple):
    """A docstring in Google's style."""

    about: str  # what stands before its sections
    arguments: dict[str, str]  # name -> what is said of it


class _Untitled(GenerateJsonSchema):
    """JSON schemas in which no name stands twice."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """No argument has a title beside its name."""
        return False


def schema_of(function: Callable[..., Any]) -> Schema:
    """What a policy is told of a function, from its signature and docstring; nobody changes it.

    Raises:
        ValueError: they do not say enough.
    """
    if not isinstance(function, FunctionType):
        return _schema_of(function)
    words = function.__name__, function.__doc__
    told = _TOLD.get(function)
    if told is None or told[0] != words:
        told = _TOLD[function] = words, _schema_of(function)
    return told[1]


def _schema_of(function: Callable[..., Any]) -> Schema:
    name = getattr(function, "__name__", "")
    if not callable(function) or isinstance(function, type) or not name.isidentifier():
        raise ValueError(f"{function!r:.80} is no tool: give a function with a name, or a ready tool such as Python()")
    documented = documented_in(inspect.getdoc(function) or "")
    if not documented.about:
        raise ValueError(f"{name} has no docstring: the policy is told by it what the tool does")
    try:
        kind: Any = function
        found = TypeAdapter(kind).json_schema(schema_generator=_Untitled)
    except (PydanticUserError, NameError, TypeError, ValueError) as failure:
        reason = str(failure).partition("\n")[0].partition(". Set `")[0]
        raise ValueError(f"the types of {name} have no JSON schema: {reason}") from None
    if found.get("type") != "object":
        raise ValueError(f"{name} takes arguments that have no names: give each one a name and a type")
    for argument, schema in found.get("properties", {}).items():
        if said := documented.arguments.get(argument):
            schema.setdefault("description", said)
    return {"type": "function", "function": {"name": name, "description": documented.about, "parameters": found}}


def schema(name: str, description: str, **arguments: str) -> Schema:
    """That of a ready tool, all of whose arguments are texts and needed; each with a description."""
    properties = {argument: {"type": "string", "description": about} for argument, about in arguments.items()}
    parameters = {"type": "object", "properties": properties, "required": list(arguments)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def documented_in(text: str) -> Documented:
    """What a docstring says, line by line; a line that is indented further goes on with the argument above it."""
    about, arguments, section, argument, margin = list[str](), dict[str, str](), "", "", 0
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if not indent and (found := _SECTION.fullmatch(line)):
            section, margin = found[1], 0
        elif not section:
            about.append(line)
        elif section in ("Args", "Arguments", "Parameters") and line.strip():
            margin = margin or indent
            if indent <= margin and (said := _ARGUMENT.fullmatch(line.strip())):
                argument, arguments[said[1]] = said[1], said[2]
            elif argument:
                arguments[argument] += f" {line.strip()}"
    return Documented("\n".join(about).strip(), arguments)

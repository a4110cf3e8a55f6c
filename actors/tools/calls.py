"""The calls of tools in what a policy says: found, and checked against the tools that there are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from actors.data.messages import Call
from actors.tools.formats import Read, Schema, Written

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

THOUGHT, END_OF_THOUGHT = "<think>", "</think>"  # what a policy only thinks of is no call
CUT = "the turn was cut before its end"
MOST_CALLS = 16  # of a turn, that are made
TOO_MANY = f"at most {MOST_CALLS} calls of a turn are made"
MOST_NAME = 80  # characters of a tool's name that is told again
MOST_DEPTH = 64  # of arguments in arguments; what travels between processes may not be nested much deeper


class Said(NamedTuple):
    """A turn, taken apart."""

    content: str
    calls: tuple[Call, ...]


class Calls:
    """Finds the calls of these tools."""

    def __init__(self, tools: Mapping[str, Schema], read: Read) -> None:
        """
        Args:
            tools: by name.
            read: reads the format in which the policy writes calls.

        Raises:
            ValueError: what a tool says of its arguments is no JSON schema.
        """
        self._tools = {name: _validator(tool) for name, tool in tools.items()}
        self._read = read

    def of(self, text: str, number: int, *, cut: bool) -> Said:
        """What was said beside the calls of a turn, and the calls.

        Args:
            text: of the turn, with the control tokens of its calls.
            number: of calls in the conversation before them.
            cut: whether the turn was cut by its length.
        """
        before, end, behind = text.rpartition(END_OF_THOUGHT)
        if THOUGHT in behind:
            return Said(text, ())
        found = self._read(behind)
        calls = [
            Call(
                id=call_id(number + place),
                name=written.name[:MOST_NAME],
                arguments=_object(written.arguments),
                problem=self._problem(written) if place < MOST_CALLS else TOO_MANY,
            )
            for place, written in enumerate(found.calls)
        ]
        if found.problem:
            why = CUT if cut else found.problem
            calls = [Call(id=call_id(number), name="", problem=f"the call cannot be read: {why}")]
        return Said(before + end + found.content, tuple(calls))

    def _problem(self, written: Written) -> str:
        """Why a call cannot be made; "" where it can."""
        name, arguments = written.name, written.arguments
        if name not in self._tools:
            return f"there is no tool {name[:MOST_NAME]!r}; there are {', '.join(self._tools)}"
        if not isinstance(arguments, dict):
            return f"the arguments of {name} must be a JSON object, got {str(arguments)[:80]!r}"
        if _is_deep(arguments):
            return f"the arguments of {name} are nested too deeply"
        wrong = _wrong(arguments, self._tools[name])
        return f"wrong arguments for {name}: {wrong}" if wrong else ""


def call_id(number: int) -> str:
    """The id of a call, by its number in the conversation."""
    return f"call{number % 100_000:05d}"


def _validator(tool: Schema) -> "Validator":
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    found = tool["function"].get("parameters") or {}
    try:
        Draft202012Validator.check_schema(found)
    except SchemaError as problem:
        raise ValueError(f"the schema of the tool {tool['function']['name']} is none: {problem.message}") from None
    return Draft202012Validator(found)


def _object(arguments: Any) -> dict[str, Any]:
    """The arguments where they are an object that can travel between processes; else none."""
    return arguments if isinstance(arguments, dict) and not _is_deep(arguments) else {}


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            part
            for each in level
            if isinstance(each, dict | list)
            for part in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def _wrong(arguments: Mapping[str, object], validator: "Validator") -> str:
    """What is wrong with arguments; "" where nothing is."""
    from jsonschema.exceptions import best_match

    schema: Any = validator.schema
    known = schema.get("properties") or {}
    if extra := sorted(set(arguments) - set(known)) if not schema.get("additionalProperties") else []:
        return f"it takes no {extra[0][:80]!r}, only {', '.join(known) or 'nothing'}"
    try:
        found = best_match(validator.iter_errors(arguments))
    except Exception as problem:  # a schema that a server wrote may refer to what is not there
        return f"its schema cannot be used: {problem}"
    if found is None:
        return ""
    where = ".".join(map(str, found.absolute_path))
    return f"{where}: {found.message[:300]}" if where else str(found.message[:300])

"""The calls of tools in what a policy says: found, and checked against the tools that there are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from actors.data.messages import Call
from actors.tools.formats import Read, Schema, Written

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

THOUGHT, END_OF_THOUGHT = "<think>", "</think>"  # what a policy only thinks of is no call
CUT = "the turn was cut before its end"


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
        calls = [self._checked(written, number + place) for place, written in enumerate(found.calls)]
        if found.problem:
            why = CUT if cut else found.problem
            calls = [Call(id=call_id(number), name="", problem=f"the call cannot be read: {why}")]
        return Said(before + end + found.content, tuple(calls))

    def _checked(self, written: Written, number: int) -> Call:
        arguments = written.arguments if isinstance(written.arguments, dict) else {}
        if written.name not in self._tools:
            problem = f"there is no tool {written.name[:80]!r}; there are {', '.join(self._tools)}"
        elif not isinstance(written.arguments, dict):
            problem = f"the arguments of {written.name} must be a JSON object, got {str(written.arguments)[:80]!r}"
        else:
            problem = _wrong(arguments, self._tools[written.name])
            problem = f"wrong arguments for {written.name}: {problem}" if problem else ""
        return Call(id=call_id(number), name=written.name, arguments=arguments, problem=problem)


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

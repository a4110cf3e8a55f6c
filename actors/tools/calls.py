"""The calls of tools in what a policy says: found, and checked against the tools that there are."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from actors.data.messages import Call
from actors.tools.formats import Read, Schema, Written

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
        """
        self._tools, self._read = tools, read

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
        tool = self._tools.get(written.name)
        arguments = written.arguments if isinstance(written.arguments, dict) else {}
        if tool is None:
            problem = f"there is no tool {written.name[:80]!r}; there are {', '.join(self._tools)}"
        elif not isinstance(written.arguments, dict):
            problem = f"the arguments of {written.name} must be a JSON object, got {str(written.arguments)[:80]!r}"
        else:
            problem = _wrong(arguments, tool["function"].get("parameters") or {})
            problem = f"wrong arguments for {written.name}: {problem}" if problem else ""
        return Call(id=call_id(number), name=written.name, arguments=arguments, problem=problem)


def call_id(number: int) -> str:
    """The id of a call, by its number in the conversation."""
    return f"call{number % 100_000:05d}"


def _wrong(arguments: dict[str, Any], schema: Mapping[str, Any]) -> str:
    """What is wrong with arguments; "" where nothing is."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    known = schema.get("properties") or {}
    if extra := sorted(set(arguments) - set(known)) if schema.get("additionalProperties", False) is False else []:
        return f"it takes no {extra[0][:80]!r}, only {', '.join(known) or 'nothing'}"
    found = best_match(Draft202012Validator(schema).iter_errors(arguments))
    if found is None:
        return ""
    where = ".".join(map(str, found.absolute_path))
    return f"{where}: {found.message[:300]}" if where else str(found.message[:300])

"""The formats in which policies write calls of tools, one for each way in which families of models were taught to.

All but one are read by vLLM's own parsers (`actors.tools.parsers`). What those cannot read is no call to them; here it
is one that has a problem, which the policy is told. JSON is read here: a line that is nothing but an object with a name
and arguments. It is for policies whose chat template knows no calls.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Schema = dict[str, Any]  # of a function, as chat templates take it: {"type": "function", "function": {...}}

DESCRIBED = """You can use tools. To call one, write a line that is nothing but a JSON object with its name and its \
arguments, such as
{"name": "NAME", "arguments": {"ARGUMENT": "VALUE"}}
Each call is a line of its own. What the tools say comes behind your turn. These are the tools, with JSON schemas of \
their arguments:
"""


class Written(NamedTuple):
    """A call as it is written."""

    name: str
    arguments: Any  # a JSON object where it is right


class Found(NamedTuple):
    """What was found in a text."""

    content: str  # what is said beside the calls
    calls: tuple[Written, ...] = ()
    problem: str = ""  # why something that begins as a call is none


Read = Callable[[str], Found]  # of a text with its control tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format that vLLM reads."""

    parser: str  # its name of it
    begin: str  # what calls begin with
    end: str = ""  # what each ends with, where the parser closes those that were cut
    bare: bool = False  # whether a turn that begins with an object is a call, too


# In the order in which they are tried on what a chat template shows; the last one takes any JSON object for a call.
FORMATS = {
    "hermes": Format(parser="hermes", begin="<tool_call>"),
    "qwen3_coder": Format(parser="qwen3_coder", begin="<tool_call>", end="</tool_call>"),
    "mistral": Format(parser="mistral", begin="[TOOL_CALLS]"),
    "llama": Format(parser="llama3_json", begin="<|python_tag|>", bare=True),
}
JSON = "json"


def described(tools: Sequence[Schema]) -> str:
    """What a policy is told of tools in words, where no chat template does."""
    return DESCRIBED + "".join(f"{json.dumps(tool['function'], ensure_ascii=False)}\n" for tool in tools) + "\n"


def with_problems(form: Format, read: Read) -> Read:
    """Reads a format; what begins as a call and is none has a problem."""

    def reading(text: str) -> Found:
        found = read(text)
        _, marked, behind = text.partition(form.begin)
        begins = marked or (form.bare and text.lstrip().startswith("{") and '"name"' in text)
        if found.calls and form.end and text.count(form.end) < len(found.calls):
            return Found(content=found.content, problem="it has no end")
        if found.calls or not begins:
            return found
        return Found(
            content=text.partition(form.begin)[0] if marked else "", problem=why_not(behind if marked else text)
        )

    return reading


def read_json(text: str) -> Found:
    """Calls that are written as lines of JSON, fenced or not."""
    said, calls, problem, left = "", list[Written](), "", text
    while left:
        line, _, behind = left.partition("\n")
        if not line.lstrip().startswith("{"):
            said, left = f"{said}{left[: len(line) + 1]}", behind
            continue
        try:
            found, end = json.JSONDecoder().raw_decode(left.lstrip())
        except (ValueError, RecursionError):
            problem = problem or ('"name"' in line and '"arguments"' in line and why_not(left)) or ""
            said, left = f"{said}{left[: len(line) + 1]}", behind
            continue
        end += len(left) - len(left.lstrip())
        if isinstance(found, dict) and isinstance(found.get("name"), str) and "arguments" in found:
            calls.append(Written(found["name"], found["arguments"]))
        else:
            said += left[:end]
        left = left[end:]
    return Found(content=said, calls=tuple(calls), problem="" if calls else problem)


def why_not(text: str) -> str:
    """What keeps a text from being a call that is JSON."""
    begin = min((place for place in map(text.find, "{[") if place >= 0), default=-1)
    if begin < 0:
        return "it holds no JSON object"
    try:
        json.JSONDecoder().raw_decode(text[begin:])
    except RecursionError:
        return "its JSON is nested too deeply"
    except ValueError as failure:
        return f"its JSON cannot be read: {failure}"
    return "it must be an object with a name and arguments"

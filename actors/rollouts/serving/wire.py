"""OpenAI's chat completions as they travel: what a request asks for, and what an answer, its pieces or an error say.

Fields that nobody here knows are let through, as clients send more of them every year. What would have the policy
sample otherwise than its run does is refused where an agent relies on it, such as a form of the answer, and left alone
where it only tunes, such as a temperature.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.data.messages import Call, Message
from actors.rollouts.chat import TOOL
from actors.settings import MOST_STOPS
from actors.tools.calls import call_id
from actors.tools.formats import Schema

ASSISTANT = "assistant"
ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
TEXTS = {"text": "text", "refusal": "refusal"}  # parts of a content that are text -> where it stands in them
# What would change how the policy samples -> the values that change nothing.
TUNED: dict[str, tuple[object, ...]] = {
    "temperature": (None,),
    "top_p": (None,),
    "top_k": (None, 0, -1),
    "min_p": (None, 0),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "logit_bias": (None, {}),
}
CONSTRAINED = ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs")
ASK_FOR_IT = "what is trained must be sampled as the run samples: ask for it in a message"


class Refused(Exception):
    """A request that is not answered. The status is one after which clients do not try again."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request asks for."""

    messages: tuple[Message, ...]  # the last one is not the assistant's; calls are numbered through
    model: str
    tools: Mapping[str, Schema]  # by name
    calls: bool = True  # whether calls of tools are looked for in the turn
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    usage: bool = False  # whether a stream ends with the counts of tokens
    logprobs: bool = False
    tuned: Mapping[str, object] = field(default_factory=dict)  # how it would have the policy sample

    @property
    def calls_so_far(self) -> int:
        """How many calls of tools its messages hold."""
        return sum(len(message.calls) for message in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A turn of the policy."""

    finish: str  # stop, length or tool_calls
    prompt_tokens: int
    completion_tokens: int = 0
    id: str = "chatcmpl-0"
    content: str = ""
    calls: tuple[Call, ...] = ()
    tokens: tuple[str, ...] = ()  # the text of each sampled token, where it was asked for
    logprobs: tuple[float, ...] = ()  # of each sampled token, where they were asked for


def asked_of(body: bytes) -> Asked:
    """What the body of a request asks for.

    Raises:
        Refused: it is no request, or asks for what a policy in training does not do.
    """
    try:
        row = json.loads(body)
    except (ValueError, RecursionError) as failure:
        raise Refused(f"the body is not JSON: {failure}") from None
    if not isinstance(row, dict):
        raise Refused(f"the body must be a JSON object, got {str(row)[:80]}")
    _refuse_unusual(row)
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(f"must be a list of messages, one at least, got {messages!r:.80}", param="messages")
    said = _messages(messages)
    if said[-1].role == ASSISTANT:
        raise Refused("must not end with the assistant's, which the policy does not go on with", param="messages")
    return Asked(
        messages=said,
        model=str(row.get("model") or "policy"),
        tools=_tools(row.get("tools")),
        calls=row.get("tool_choice") != "none",
        max_tokens=_count(row, "max_completion_tokens") or _count(row, "max_tokens"),
        stop=_stops(row.get("stop")),
        stream=bool(row.get("stream")),
        usage=bool(_object(row, "stream_options").get("include_usage")),
        logprobs=bool(row.get("logprobs")),
        tuned={name: row[name] for name, neutral in TUNED.items() if name in row and row[name] not in neutral},
    )


def keys_of(asked: Asked) -> list[bytes]:
    """For each message, what is equal where two requests tell the same up to there, with the same tools."""
    keys = [_digest(b"", asked.tools)]
    for message in asked.messages:
        keys.append(key_behind(keys[-1], message))
    return keys[1:]


def key_behind(key: bytes, message: Message) -> bytes:
    """The same with one more message. However the JSON of calls is written, and whatever their ids, they are equal."""
    return _digest(key, [message.role, message.content, [[call.name, call.arguments] for call in message.calls]])


def answer_of(asked: Asked, answer: Answer, created: int) -> dict[str, Any]:
    """The answer to a request that wants it whole. `created` is in seconds since 1970."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.content or (None if answer.calls else "")}
    if answer.calls:
        message["tool_calls"] = _calls(answer)
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": answer.finish,
        "logprobs": _logprobs(answer) if asked.logprobs else None,
    }
    return _head(asked, answer, created, "chat.completion") | {"choices": [choice], "usage": _usage(answer)}


def chunks_of(asked: Asked, answer: Answer, created: int) -> Iterator[str]:
    """The answer to a request that wants a stream, as server-sent events. It is sampled by then: the turn comes in one
    piece."""
    head = _head(asked, answer, created, "chat.completion.chunk") | ({"usage": None} if asked.usage else {})
    delta: dict[str, Any] = {"role": "assistant", "content": answer.content}
    if answer.calls:
        delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(_calls(answer))]
    logprobs = _logprobs(answer) if asked.logprobs else None
    yield _event(head | {"choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}]})
    yield _event(head | {"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": answer.finish}]})
    if asked.usage:
        yield _event(head | {"choices": [], "usage": _usage(answer)})
    yield "data: [DONE]\n\n"


def error_of(message: str, *, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def models_of(*names: str) -> dict[str, Any]:
    """The list of these models."""
    return {"object": "list", "data": [model_of(name) for name in names]}


def model_of(name: str) -> dict[str, Any]:
    """One model: any name is the policy's."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "winnow"}


def _refuse_unusual(row: Mapping[str, Any]) -> None:
    if row.get("n") not in (None, 1):
        raise Refused(f"must be 1, got {row['n']!r:.80}: send a request for each choice", param="n")
    if _object(row, "response_format").get("type", "text") != "text":
        raise Refused(f"must be text, got {row['response_format']!r:.80}: {ASK_FOR_IT}", param="response_format")
    if row.get("tool_choice") not in (None, "auto", "none"):
        raise Refused(f"must be 'auto' or 'none', got {row['tool_choice']!r:.80}: {ASK_FOR_IT}", param="tool_choice")
    for name in CONSTRAINED:
        if row.get(name) is not None:
            raise Refused(f"must be left out, got {row[name]!r:.80}: {ASK_FOR_IT}", param=name)
    for name in ("functions", "function_call"):
        if row.get(name) is not None:
            raise Refused(f"must be left out, got {row[name]!r:.80}: name functions in tools", param=name)
    if row.get("modalities") not in (None, ["text"]) or row.get("audio") is not None:
        raise Refused("a policy says text only", param="modalities")


def _messages(rows: Sequence[Any]) -> tuple[Message, ...]:
    """The messages. Calls of tools get numbers of their own, so that no id is one that a chat template refuses."""
    found, calls = list[Message](), dict[str, Call]()
    number = 0
    for place, row in enumerate(rows):
        where = f"messages[{place}]"
        if not isinstance(row, dict) or not isinstance(row.get("role"), str) or row["role"] not in ROLES:
            role = row.get("role") if isinstance(row, dict) else row
            raise Refused(f"{where} must have a role of {', '.join(ROLES)}, got {str(role)[:80]!r}", param="messages")
        role, content, made = ROLES[row["role"]], row.get("content"), list[Call]()
        if content is None and role != ASSISTANT:
            raise Refused(f"{where} has no content", param="messages")
        called = row.get("tool_calls") if role == ASSISTANT else None
        for call in called if isinstance(called, list) else []:
            made.append(_call(where, call, number))
            calls[str(call.get("id"))] = made[-1]
            number += 1
        result_of = calls.get(str(row.get("tool_call_id"))) if role == TOOL else None
        if role == TOOL and result_of is None:
            raise Refused(f"{where} answers no call of a message before it", param="messages")
        found.append(Message(role, _text(where, content), calls=tuple(made), result_of=result_of))
    return tuple(found)


def _call(where: str, row: object, number: int) -> Call:
    function = row.get("function") if isinstance(row, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not isinstance(function, dict):
        raise Refused(f"{where} has a call {str(row)[:80]} that names no function", param="messages")
    arguments = function.get("arguments") or "{}"
    try:
        read = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise Refused(f"{where} has a call of {name} whose arguments are no JSON object", param="messages")
    return Call(id=call_id(number), name=name, arguments=read)


def _text(place: str, content: object) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise Refused(f"{place} has the content {str(content)[:80]!r}, expected a text", param="messages")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get(TEXTS[kind]) if isinstance(part, dict) and kind in TEXTS else None
        if not isinstance(text, str):
            raise Refused(f"{place} has a part {kind or str(part)[:80]!r}; a policy reads text only", param="messages")
        texts.append(text)
    return "".join(texts)


def _tools(tools: object) -> dict[str, Schema]:
    from jsonschema import Draft202012Validator, SchemaError

    found = dict[str, Schema]()
    for tool in [] if tools is None else tools if isinstance(tools, list) else [tools]:
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Refused(f"must be a list of functions with names, got {str(tool)[:80]}", param="tools")
        try:
            Draft202012Validator.check_schema(function.get("parameters") or {})
        except (SchemaError, RecursionError) as problem:
            raise Refused(
                f"{function['name']} has parameters that are no JSON schema: {str(problem)[:300]}", param="tools"
            ) from None
        found[function["name"]] = {"type": "function", "function": function}
    return found


def _stops(stop: object) -> tuple[str, ...]:
    texts = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise Refused(f"must be texts, none of them empty, got {str(stop)[:80]!r}", param="stop")
    if len(texts) > MOST_STOPS:
        raise Refused(f"must be at most {MOST_STOPS} texts, got {len(texts)}", param="stop")
    return tuple(texts)


def _count(row: Mapping[str, Any], name: str) -> int | None:
    value = row.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise Refused(f"must be a number of tokens, at least 1, got {str(value)[:80]}", param=name)
    return value


def _object(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = row.get(name)
    if found is not None and not isinstance(found, dict):
        raise Refused(f"must be an object, got {str(found)[:80]}", param=name)
    return found or {}


def _head(asked: Asked, answer: Answer, created: int, kind: str) -> dict[str, Any]:
    return {"id": answer.id, "object": kind, "created": created, "model": asked.model}


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}
        for call in answer.calls
    ]


def _usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


def _logprobs(answer: Answer) -> dict[str, Any]:
    said = zip(answer.tokens, answer.logprobs, strict=True)
    return {
        "content": [
            {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": []}
            for token, logprob in said
        ],
        "refusal": None,
    }


def _digest(before: bytes, told: object) -> bytes:
    return hashlib.blake2b(before + json.dumps(told, sort_keys=True).encode(), digest_size=16).digest()


def _event(row: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(row)}\n\n"

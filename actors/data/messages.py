"""Prompts that are chat messages, as datasets hold them: found, checked and brought to one form."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewards import ChatMessage

ROLES = {  # of ShareGPT, OASST and their like
    "human": "user",
    "prompter": "user",
    **dict.fromkeys(("gpt", "bot", "model", "chatgpt", "bing", "bard"), "assistant"),
}
OTHER_NAMES = {  # of roles that some chat templates know by these; another template is told the usual one
    "developer": "system",
    **dict.fromkeys(("observation", "function", "function_response", "tool_response", "ipython"), "tool"),
}
CALL_ROLES = ("function_call", "tool_call")  # of messages that are a call of a tool
CALL_KEYS = ("tool_calls", "function_call")  # under which the assistant's messages have calls beside their content
THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")  # under which they have thoughts beside it
SYSTEM_ROLES = ("system", "developer")
NAMES = (("role", "content"), ("from", "value"))  # of the two parts of a message
WRITTEN = re.compile(r"""\s*\[\s*\{\s*["'](?:role|content|from|value)["']\s*:""")  # how a list of them begins as text


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a tool, as a model wrote it."""

    id: str  # that its result is told by; nine letters and digits, as Mistral's templates want it
    name: str  # of the tool; "" where it cannot be read
    arguments: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""  # why it cannot be made, for the model: not to be read, no such tool, other arguments


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str  # system, user, assistant, or what else the chat template knows
    content: str
    calls: tuple[Call, ...] = ()  # of tools, that the assistant makes beside the content
    result_of: Call | None = None  # the call whose result the content is, where a tool speaks


Asked = str | tuple[Message, ...]  # a prompt as its row holds it: a text, or messages


def messages_in(cell: Any) -> tuple[Message, ...] | None:
    """The chat messages that a cell holds; None where it holds something else.

    Args:
        cell: a list of {"role", "content"} or {"from", "value"}, or an object with one under "messages" or
            "conversations". A content is a text, or a list of parts of type "text".

    Raises:
        ValueError: some of it are messages and some not, a content is no text, or nothing is asked in them.
    """
    if isinstance(cell, Mapping):
        held = [cell[name] for name in ("messages", "conversations") if name in cell]
        return messages_in(held[0]) if len(held) == 1 else None
    if isinstance(cell, str) or not isinstance(cell, Sequence):
        return None
    names = next((names for names in NAMES if any(_has(item, names) for item in cell)), None)
    if names is None:
        return None
    messages = tuple(_message(number, item, names) for number, item in enumerate(cell, start=1))
    if all(message.role in SYSTEM_ROLES for message in messages):
        raise ValueError("holds messages of the system alone; a prompt needs one of the user")
    return messages


def written_messages(text: str) -> tuple[Message, ...] | None:
    """The messages of a text that is nothing but a list of them, as JSON or in Python's way: so do tables without
    nested columns hold them. None for any other text.

    Raises:
        ValueError: it begins as such a list and cannot be read, or see `messages_in`.
    """
    if not WRITTEN.match(text):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return messages_in(found) if isinstance(found, list) else None
    raise ValueError(
        f"holds a text that begins as chat messages and cannot be read as such: {text[:80]!r}. Write them as JSON"
    )


def question_of(asked: Asked) -> str:
    """What was asked, for judges and for people: a text as it is, one user's message, or all turns with their roles."""
    turns = [message for message in _before_the_answer(asked) if message.role not in SYSTEM_ROLES]
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in turns)


def conversation_of(asked: Asked, system: str = "") -> tuple[ChatMessage, ...]:
    """What was asked, message by message under the usual names of roles, for models that grade.

    Args:
        asked: what the row asks.
        system: the message of the system where the messages begin with none; "" for none.

    Returns:
        The messages; none where there is one alone, which is the question.
    """
    messages = _before_the_answer(asked)
    if system and messages[0].role not in SYSTEM_ROLES:
        messages.insert(0, Message("system", system))
    if len(messages) == 1:
        return ()
    return tuple(ChatMessage(OTHER_NAMES.get(each.role, each.role), each.content) for each in messages)


def _before_the_answer(asked: Asked) -> list[Message]:
    """The messages of a prompt, without the beginning of the answer that it may end with."""
    if isinstance(asked, str):
        return [Message("user", asked)]
    turns = sum(message.role not in SYSTEM_ROLES for message in asked)
    return list(asked[:-1] if asked[-1].role == "assistant" and turns > 1 else asked)


def _has(item: Any, names: tuple[str, str]) -> bool:
    return isinstance(item, Mapping) and names[0] in item and names[1] in item


def _message(number: int, item: Any, names: tuple[str, str]) -> Message:
    if not _has(item, names):
        raise ValueError(f"holds a message {number} without {names[0]!r} and {names[1]!r}: {str(item)[:80]!r}")
    role, content = item[names[0]], item[names[1]]
    if key := next((key for key in CALL_KEYS if item.get(key)), ""):
        raise ValueError(
            f"holds a message {number} with {key}: write the calls into its content, as the model writes them"
        )
    if key := next((key for key in THOUGHT_KEYS if str(item.get(key) or "").strip()), ""):
        raise ValueError(
            f"holds a message {number} with {key}: write the thoughts into its content, as the model writes them, such "
            "as between <think> and </think> in front of the answer; or remove them"
        )
    if not isinstance(role, str) or not role.isascii() or not role.isprintable() or not role.strip():
        raise ValueError(f"holds a message {number} whose role is {role!r}, expected a text such as 'user'")
    role = role.strip().lower()
    if role in CALL_ROLES:
        raise ValueError(
            f"holds a message {number} whose role is {role!r}: make it the assistant's, and write the call into its "
            "content as the model writes it"
        )
    return Message(role=ROLES.get(role, role), content=_content(number, content))


def _content(number: int, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise ValueError(f"holds a message {number} whose content is {str(content)[:80]!r}, expected a text")
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str) or (isinstance(part, Mapping) and part.get("type", "text") != "text"):
            raise ValueError(f"holds a message {number} with the part {str(part)[:80]!r}; a policy reads text only")
        texts.append(text)
    return "".join(texts)

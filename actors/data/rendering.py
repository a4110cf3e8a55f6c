"""From what a row asks to what the policy reads: the template around it, the chat template around both, tokens."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.data.messages import OTHER_NAMES, SYSTEM_ROLES, Asked, Message
from actors.data.reading import DataRow
from actors.errors import DataError
from actors.settings import DataSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Renderer:
    """Renders and tokenizes prompts, the same for training, evaluation, warm-up and stored responses."""

    def __init__(self, data: DataSettings, tokenizer: "PreTrainedTokenizerBase") -> None:
        """
        Args:
            data: the templates.
            tokenizer: the model's.

        Raises:
            DataError: the chat template that is asked for is not there.
        """
        self._data, self._tokenizer = data, tokenizer
        has = getattr(tokenizer, "chat_template", None)
        self._chat = data.chat if data.chat is not None else bool(has or data.chat_template)
        self._template = _chosen_template(data.chat_template, has) if self._chat else None
        self._leading = [] if self._chat else leading_tokens(tokenizer)
        self._hidden: dict[Hashable, tuple[int, ...] | None] = {}  # what `_hides` found, by what it looked at
        if self._hides([Message("user", "")]):
            raise DataError(
                "the chat template leaves out what the user says, so every prompt would be the same: set "
                "data.chat_template to another one, or data.chat to false"
            )

    @property
    def chats(self) -> bool:
        """Whether a chat template is in use."""
        return self._chat

    def render(self, asked: Asked, system: str = "", tools: Sequence[Mapping[str, Any]] = (), before: str = "") -> str:
        """The text that the policy sees.

        A text stands in `data.template`, and where the model chats, that is a user's message. Of messages, the last of
        the user stands in `data.template`. A system message comes from the messages themselves, else from `system`,
        else from `data.system`. Messages that end with the assistant's are continued by the policy; behind any other
        the template opens the assistant's turn.

        Args:
            asked: what the row asks.
            system: its own system message.
            tools: JSON schemas of functions, which the chat template shows.
            before: a text that stands in front of the first message.

        Raises:
            DataError: messages for a model without chat template, or messages that the chat template refuses or shows
                nothing of.
        """
        if not self._chat:
            if system or self._data.system:
                raise DataError(
                    "there is a system message (data.system or data.system_column), and no chat template is in use: "
                    "put the text into data.template, or set data.chat_template"
                )
            return before + self._fill(_only_text(asked))
        messages = [Message("user", asked)] if isinstance(asked, str) else self.in_known_roles(asked)
        last = max((place for place, message in enumerate(messages) if message.role == "user"), default=None)
        if last is not None:
            messages[last] = Message("user", self._fill(messages[last].content))
        if messages[0].role not in SYSTEM_ROLES and (system or self._data.system):
            messages.insert(0, Message("system", system or self._data.system))
        if before:
            messages[0] = replace(messages[0], content=before + messages[0].content)
        try:
            text = self.templated(messages, tools)
        except Exception as failure:  # a template is a program and raises what it likes
            roles = ", ".join(message.role for message in messages)
            raise DataError(
                f"the chat template refuses the messages ({roles}): {failure}. Where it knows no system message, put "
                "the text into data.template; another template is set by data.chat_template"
            ) from failure
        self.check_shown(messages, tools)
        return text

    def templated(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The messages in the chat template, as they are; it raises what it likes.

        Args:
            messages: the conversation.
            tools: JSON schemas of the functions that the policy may call, as chat templates take them.
        """
        goes_on = messages[-1].role == "assistant"
        tokenizer: Any = self._tokenizer
        return str(
            tokenizer.apply_chat_template(
                [_told(message) for message in messages],
                tokenize=False,
                add_generation_prompt=not goes_on,
                **({"continue_final_message": True} if goes_on else {}),
                **({"chat_template": self._template} if self._template else {}),
                **({"tools": list(tools)} if tools else {}),
                **self._data.chat_arguments,
            )
        )

    def check_shown(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> None:
        """Makes sure that the chat template shows the texts of a conversation that it takes.

        Raises:
            DataError: it shows nothing of a message.
        """
        for place in (self._chat and self._hides(messages, tools)) or ():
            if messages[place].content.strip() and not messages[place].calls:  # some show a call without its text
                role = messages[place].role
                raise DataError(
                    f"the chat template leaves out the {role} message: "
                    + ("put its text into data.template" if role in SYSTEM_ROLES else "give it a role that is shown")
                    + ", or set data.chat_template to another template"
                )

    def in_known_roles(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, with the usual name of each role where the chat template does not show its other name."""
        return [
            replace(message, role=OTHER_NAMES[message.role])
            if message.role in OTHER_NAMES and not self._knows(message)
            else message
            for message in messages
        ]

    def _knows(self, message: Message) -> bool:
        """Whether the chat template shows a message of this role, where such messages usually stand."""
        user, assistant = Message("user", ""), Message("assistant", "")
        return self._hides([message, user] if message.role in SYSTEM_ROLES else [user, assistant, message]) == ()

    def _hides(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> tuple[int, ...] | None:
        """The places of the messages of whose text the chat template shows nothing; None where it refuses them. Of an
        order of roles it is looked at once, with texts that no template holds."""
        seen = tuple((each.role, bool(each.calls), each.result_of is None) for each in messages), bool(tools)
        if seen not in self._hidden:
            standins = [replace(each, content=f"zq{place}contentqz") for place, each in enumerate(messages)]
            try:
                text = self.templated(standins, tools)
            except Exception:  # a template is a program and raises what it likes
                self._hidden[seen] = None
            else:
                self._hidden[seen] = tuple(n for n, each in enumerate(standins) if each.content not in text)
        return self._hidden[seen]

    def render_row(self, row: DataRow) -> str:
        """The text that the policy sees of a row.

        Raises:
            DataError: see `render`; the row is named.
        """
        return self.render_asked(row.place, row.prompt, row.system)

    def render_asked(self, place: str, asked: Asked, system: str = "") -> str:
        """The text that the policy sees of what the row at a place asks.

        Raises:
            DataError: see `render`; the place is named.
        """
        try:
            return self.render(asked, system)
        except DataError as problem:
            raise DataError(f"{place}: {problem}") from problem

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered prompts. What a tokenizer sets before a plain text, such as BOS, stands before each; a
        chat template writes its own."""
        if not texts:
            return []
        ids = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        start = self._leading
        return [found if found[: len(start)] == start else [*start, *found] for found in ids]

    def _fill(self, text: str) -> str:
        return self._data.template.replace("{prompt}", text)


def _told(message: Message) -> dict[str, Any]:
    """A message as chat templates take it."""
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in message.calls
        ]
    if message.result_of is not None:
        told |= {"tool_call_id": message.result_of.id, "name": message.result_of.name}
    return told


def leading_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The special tokens that the tokenizer sets before a text, such as BOS; what it sets behind it is not wanted."""
    plain, full = (list(tokenizer("0", add_special_tokens=add)["input_ids"]) for add in (False, True))
    starts = range(len(full) - len(plain) + 1)
    return next((full[:start] for start in starts if plain and full[start : start + len(plain)] == plain), [])


def _only_text(asked: Asked) -> str:
    """The text of a prompt for a model that does not chat."""
    if isinstance(asked, str):
        return asked
    if len(asked) == 1 and asked[0].role == "user":
        return asked[0].content
    raise DataError(
        f"the prompt is {len(asked)} chat messages ({', '.join(message.role for message in asked)}), and no chat "
        "template is in use: set data.chat_template to a file with one, or give the prompts as text"
    )


def _chosen_template(asked: str, has: Any) -> str | None:
    """The template's text, or its name among those of the tokenizer; None is the tokenizer's own one."""
    names = sorted(has) if isinstance(has, dict) else []
    if asked in names:
        return asked
    if asked:
        file = Path(asked)
        if file.is_file():
            try:
                if text := file.read_text(encoding="utf-8-sig"):
                    return text
                raise DataError(f"{file} (data.chat_template) is empty")
            except UnicodeDecodeError as failure:
                raise DataError(f"{file} (data.chat_template) is not UTF-8: save it as that") from failure
        known = f"; the tokenizer names {', '.join(names)}" if names else ""
        raise DataError(f"data.chat_template = {asked!r} is no file with a chat template{known}")
    if not has:
        raise DataError(
            "data.chat is true, but the tokenizer has no chat template: set data.chat_template to a file with one, or "
            "data.chat to false"
        )
    if names and "default" not in names:
        raise DataError(f"the tokenizer has the chat templates {', '.join(names)}: choose by data.chat_template")
    return None

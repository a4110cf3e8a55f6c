"""What the model's chat template puts around the turns of a conversation, as pieces that a token stream is added to.

A stream is opened with a rendered beginning and then only appended to: what follows a turn is what the template shows
behind it in a short conversation of stand-ins, from the end of that turn on. So nothing that stands in a stream is
rendered or tokenized again. A template may show a past turn otherwise once another follows, such as without its
thoughts. Which do is found when this is made; their past is looked at before each turn, and where it has changed the
conversation goes on in a new stream, as the model will see it in use.

What opened a stream stays as it was then: a system message that a template moves, a date that it writes, its default
system message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from actors.data.messages import Asked, Call, Message
from actors.data.rendering import Renderer
from actors.errors import DataError
from actors.settings import DataSettings
from rewards.models.plain import plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAID, ASKED = "zqturnqz", "zqaskedqz"  # contents that no template holds
THOUGHT = "<think>\nzqthoughtqz\n</think>\n\n"  # what templates take for thoughts, in front of a turn
TOOL = "tool"  # the role of tools
ROLES = ("user", TOOL)  # who may speak between two turns of the policy
CALLED = Call(id="call00000", name="zqtoolqz", arguments={"zqnameqz": "zqvalueqz"})  # a call that no template holds
CALLED_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": CALLED.name,
        "description": "zqdescribedqz",
        "parameters": {
            "type": "object",
            "properties": {"zqnameqz": {"type": "string", "description": "zqvaluedqz"}},
            "required": ["zqnameqz"],
        },
    },
}


class Results(Enum):
    """How a template shows what tools say behind a turn."""

    BEHIND_TEXT = "behind text"  # whatever the turn was
    BEHIND_CALLS = "behind calls"  # where the turn is told with its calls apart from its text
    BY_USER = "by user"  # not at all: the user says it


class Chat:
    """The chat template of a run, examined. Without one a text has nothing around it, whoever says it."""

    def __init__(self, data: DataSettings, tokenizer: "PreTrainedTokenizerBase") -> None:
        """
        Args:
            data: names the template and its arguments.
            tokenizer: the model's.

        Raises:
            DataError: the template shows no second turn, or not what was said in it.
        """
        self._renderer, self._tokenizer = Renderer(data, tokenizer), tokenizer
        self.system = data.system  # of seats that have none of their own
        self._special = frozenset(getattr(tokenizer, "all_special_ids", ()))
        self.keeps = True  # whether it shows every past turn as it was
        self.ends: tuple[int, ...] = ()  # tokens that end a turn
        self._said = self._ids(SAID)  # token ids of the stand-in for a turn
        self._behind_question = ""  # what stands between a question and the policy's first turn
        if self._renderer.chats:
            self._behind_question = self._shown([Message("user", ASKED)], ASKED)
            self._examine()

    @cached_property
    def results(self) -> Results:
        """How the template shows results of tools."""
        for kind in (Results.BEHIND_TEXT, Results.BEHIND_CALLS):
            try:
                if self.chats and ASKED in self._text_behind_turn([_result(ASKED)], kind):
                    return kind
            except DataError:
                continue
        return Results.BY_USER

    @cached_property
    def called(self) -> str:
        """What the template shows of a turn that only calls CALLED_TOOL, with whatever stands before it; "" where it
        shows no tools, or no calls."""
        if not self.shows_tools:
            return ""
        value = CALLED.arguments["zqnameqz"]
        try:
            messages = [Message("user", ASKED), Message("assistant", "", calls=(CALLED,)), _result(SAID)]
            before, _, behind = self._rendered(messages, [CALLED_TOOL]).rpartition(value)
        except DataError:
            return ""
        ids = self._ids(behind)
        end = self._tokenizer.decode(ids[: self._end_of(ids)], skip_special_tokens=True)
        return before.rpartition(ASKED)[2] + value + str(end) if before else ""

    @cached_property
    def shows_tools(self) -> bool:
        """Whether there is a template that has a place for tools."""
        try:
            return self.chats and "zqdescribedqz" in self._rendered([Message("user", ASKED)], [CALLED_TOOL])
        except DataError:
            return False

    @property
    def chats(self) -> bool:
        """Whether there is a template."""
        return self._renderer.chats

    def opening(self, system: str, message: Message, tools: Sequence[Mapping[str, Any]] = (), before: str = "") -> str:
        """What a conversation begins with, up to the policy's first turn.

        Args:
            system: the system message; "" for none.
            message: what is said first.
            tools: JSON schemas of functions, which the template shows.
            before: a text that stands in front of everything else.

        Raises:
            DataError: the template refuses it or leaves out a message, or there is none for a system message or a role.
        """
        return self.whole([*([Message("system", system)] if system else []), message], tools, before)

    def whole(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), before: str = "") -> str:
        """A conversation that somebody tells, up to the policy's next turn; see `opening`."""
        messages = [self._plain(message) for message in messages]
        if self.chats:
            messages[0] = replace(messages[0], content=plain(before, self._tokenizer) + messages[0].content)
            text = self._rendered(messages, tools)
            self._renderer.check_shown(messages, tools)
            return text
        if messages[0].role == "system":
            raise DataError(
                "a seat has a system message, and no chat template is in use: put it into what you say, or set "
                "data.chat_template"
            )
        return plain(before, self._tokenizer) + "\n".join(message.content for message in messages)

    def opening_of(self, asked: Asked, system: str, tools: Sequence[Mapping[str, Any]], before: str) -> str:
        """The same of what a row of the data asks, with the row's own system message."""
        return self._renderer.render(asked, system, self._plain_tool(list(tools)), plain(before, self._tokenizer))

    def opened(self, opening: str) -> list[int]:
        """Token ids of the beginning of a stream."""
        return self._renderer.tokens([opening])[0]

    def following(self, said: Sequence[Message], turn: Sequence[int]) -> list[int]:
        """Token ids of what comes behind a turn of the policy, up to its next one: the end of the turn, what is said,
        and the opening of the next turn. Of the end, what the policy has sampled itself is left out.

        Args:
            said: by others than the policy, at least one message; no control token is read in it.
            turn: token ids that the policy sampled.

        Raises:
            DataError: the template refuses the role, or leaves out what it says.
        """
        said = [self._plain(message) for message in said]
        if not self.chats:
            return self._ids("\n".join(message.content for message in said))
        by_calls = said[0].role == TOOL and self.results is Results.BEHIND_CALLS
        ids = self._behind_turn(said, Results.BEHIND_CALLS if by_calls else Results.BEHIND_TEXT)
        if not by_calls:
            self._renderer.check_shown([Message("user", ASKED), Message("assistant", SAID), *said])
        there = next((size for size in range(self._end_of(ids), 0, -1) if list(turn[-size:]) == ids[:size]), 0)
        return ids[there:]

    def shown(self, messages: Sequence[Message]) -> str:
        """What the template shows of a conversation behind its question, up to the policy's next turn."""
        return self._shown([Message("user", ASKED), *(self._plain(message) for message in messages)], ASKED)

    def again(self, opening: str, past: Sequence[Message], turn: Message, said: Sequence[Message]) -> str:
        """The whole conversation as the template shows it now, where that is not what stands in the stream; else "".

        Args:
            opening: what the conversation began with.
            past: all that was said behind it, before the policy's last turn.
            turn: that turn.
            said: what follows on it.
        """
        before = self.shown(past) if past else self._behind_question
        now = self.shown([*past, turn, *said])
        if unchanged(before, self._plain(turn).content, now) or not opening.endswith(self._behind_question):
            return ""
        return opening.removesuffix(self._behind_question) + now

    def still_shows(self, before: str, turn: Message, now: str) -> bool:
        """Whether a conversation is shown now as it was `before` a turn, with the turn behind it."""
        return unchanged(before, self._plain(turn).content, now)

    def _examine(self) -> None:
        advice = "set data.chat_template to one that shows conversations of several turns"
        try:
            ids = self._behind_turn([Message("user", ASKED)])
        except DataError as problem:
            raise DataError(f"an environment has conversations of several turns, and {problem}: {advice}") from None
        if ASKED not in self.shown([Message("assistant", SAID), Message("user", ASKED)]):
            raise DataError(f"the chat template leaves out what the user says behind a turn: {advice}")
        self.ends = tuple(ids[self._end_of(ids) - 1 : self._end_of(ids)])
        self.keeps = all(self._keeps(role, thought) for role in ROLES for thought in ("", THOUGHT))

    def _keeps(self, role: str, thought: str) -> bool:
        """Whether three turns stay as they were shown; the role speaks between them. A role that the template does not
        take is nobody's."""
        messages, before = list[Message](), self._behind_question
        for number in range(3):
            said = f"{thought}{SAID}{number}"
            behind = Message(role, f"{ASKED}{number}", result_of=CALLED if role == TOOL else None)
            messages += [Message("assistant", said), behind]
            try:
                now = self.shown(messages)
            except DataError:
                return True
            if not unchanged(before, said, now):
                return False
            before = now
        return True

    def _behind_turn(self, said: Sequence[Message], kind: Results = Results.BEHIND_TEXT) -> list[int]:
        """Token ids of all that the template shows behind a turn that nothing ended."""
        text = self._text_behind_turn(said, kind)
        if kind is Results.BEHIND_CALLS:  # the end of the call, which is the policy's, stands before the turn's
            ids = self._ids(text)
            return ids[max(0, self._end_of(ids) - 1) :]
        ids = self._ids(SAID + text)
        if ids[: len(self._said)] == self._said:  # so that what follows is tokenized as behind a text
            return ids[len(self._said) :]
        return self._ids(text)

    def _text_behind_turn(self, said: Sequence[Message], kind: Results) -> str:
        """What the template shows behind the text of a turn, or behind the value of its call."""
        by_calls = kind is Results.BEHIND_CALLS
        turn = Message("assistant", "", calls=(CALLED,)) if by_calls else Message("assistant", SAID)
        return self._shown(
            [Message("user", ASKED), turn, *said], str(CALLED.arguments["zqnameqz"]) if by_calls else SAID
        )

    def _end_of(self, ids: Sequence[int]) -> int:
        """How many of the token ids behind a turn end it: those up to the first control token."""
        return next((place for place, token in enumerate(ids, start=1) if token in self._special), 0)

    def _shown(self, messages: Sequence[Message], behind: str) -> str:
        """What the template shows behind the first place of a content."""
        text = self._rendered(messages)
        if behind not in text:
            left_out = next((message.role for message in messages if message.content == behind), "assistant")
            raise DataError(f"the chat template leaves out what the {left_out} says")
        return text.split(behind, 1)[1]

    def _rendered(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        try:
            return self._renderer.templated(messages, self._plain_tool(list(tools)))
        except Exception as failure:  # a template is a program and raises what it likes
            roles = ", ".join(message.role for message in messages)
            raise DataError(f"the chat template refuses the messages ({roles}): {failure}") from failure

    def _plain(self, message: Message) -> Message:
        calls = tuple(map(self._plain_call, message.calls))
        result_of = self._plain_call(message.result_of) if message.result_of is not None else None
        return replace(message, content=plain(message.content, self._tokenizer), calls=calls, result_of=result_of)

    def _plain_call(self, call: Call) -> Call:
        return replace(call, name=plain(call.name, self._tokenizer), arguments=self._plain_tool(call.arguments))

    def _plain_tool(self, part: Any) -> Any:
        """A JSON schema, or a part of one, with plain texts: a server may have written it."""
        if isinstance(part, Mapping):
            return {self._plain_tool(key): self._plain_tool(value) for key, value in part.items()}
        if isinstance(part, list | tuple):
            return [self._plain_tool(value) for value in part]
        return plain(part, self._tokenizer) if isinstance(part, str) else part

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _result(text: str) -> Message:
    return Message(TOOL, text, result_of=CALLED)


def unchanged(before: str, said: str, now: str) -> bool:
    """Whether a conversation is shown now as it was `before` a turn, with what was said in the turn behind it; white
    space around that aside."""
    return now.startswith(before) and now[len(before) :].lstrip().startswith(said.strip())


def turn_ends(data: DataSettings, tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """The tokens that end a turn of the policy in its chat template, but for the tokenizer's end of text; none without
    a template, or with one of single turns."""
    try:
        ends = Chat(data, tokenizer).ends
    except DataError:
        return ()
    return tuple(end for end in ends if end != tokenizer.eos_token_id)

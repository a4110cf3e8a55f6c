"""What the model's chat template puts around the turns of a conversation, as pieces that a token stream is added to.

A stream is opened with a rendered beginning and then only appended to: what follows a turn is what the template shows
behind it in a short conversation of stand-ins, from the end of that turn on. So nothing that stands in a stream is
rendered or tokenized again. A template may show a past turn otherwise once another follows, such as without its
thoughts. Which do is found when this is made; their past is looked at before each turn, and where it has changed the
conversation goes on in a new stream, as the model will see it in use.

What opened a stream stays as it was then: a system message that a template moves, a date that it writes, its default
system message.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.data.messages import Message
from actors.data.rendering import Renderer
from actors.errors import DataError
from actors.settings import DataSettings
from rewards.models.plain import plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAID, ASKED = "zqturnqz", "zqaskedqz"  # contents that no template holds
THOUGHT = "<think>\nzqthoughtqz\n</think>\n\n"  # what templates take for thoughts, in front of a turn
ROLES = ("user", "tool")  # who may speak between two turns of the policy


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

    def opening(self, system: str, role: str, text: str) -> str:
        """What a conversation begins with, up to the policy's first turn.

        Raises:
            DataError: the template refuses it, or there is none for a system message or a role.
        """
        text = plain(text, self._tokenizer)
        if self._renderer.chats:
            system = plain(system, self._tokenizer)
            return self._rendered([*([Message("system", system)] if system else []), Message(role, text)])
        if system:
            raise DataError(
                "a seat has a system message, and no chat template is in use: put it into what you say, or set "
                "data.chat_template"
            )
        return text

    def opened(self, opening: str) -> list[int]:
        """Token ids of the beginning of a stream."""
        return self._renderer.tokens([opening])[0]

    def following(self, role: str, text: str, turn: Sequence[int]) -> list[int]:
        """Token ids of what comes behind a turn of the policy, up to its next one: the end of the turn, what somebody
        says, and the opening of the next turn. Of the end, what the policy has sampled itself is left out.

        Args:
            role: who says it.
            text: what is said; no control token is read in it.
            turn: token ids that the policy sampled.

        Raises:
            DataError: the template refuses the role, or leaves out what it says.
        """
        text = plain(text, self._tokenizer)
        if not self._renderer.chats:
            return self._ids(text)
        ids = self._behind_turn(role, text)
        there = next((size for size in range(self._end_of(ids), 0, -1) if list(turn[-size:]) == ids[:size]), 0)
        return ids[there:]

    def shown(self, messages: Sequence[Message]) -> str:
        """What the template shows of a conversation behind its question, up to the policy's next turn."""
        return self._shown([Message("user", ASKED), *(self._plain(message) for message in messages)], ASKED)

    def again(self, opening: str, messages: Sequence[Message]) -> str:
        """The whole conversation as the template shows it now, where that is not what stands in the stream; else "".

        Args:
            opening: what the conversation began with.
            messages: all that was said behind it; the last two are the policy's last turn and what follows on it.
        """
        before = self.shown(messages[:-2]) if len(messages) > 2 else self._behind_question
        now = self.shown(messages)
        if unchanged(before, self._plain(messages[-2]).content, now) or not opening.endswith(self._behind_question):
            return ""
        return opening.removesuffix(self._behind_question) + now

    def _examine(self) -> None:
        advice = "set data.chat_template to one that shows conversations of several turns"
        try:
            ids = self._behind_turn("user", ASKED)
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
            messages += [Message("assistant", said), Message(role, f"{ASKED}{number}")]
            try:
                now = self.shown(messages)
            except DataError:
                return True
            if not unchanged(before, said, now):
                return False
            before = now
        return True

    def _behind_turn(self, role: str, text: str) -> list[int]:
        """Token ids of all that the template shows behind a turn that nothing ended."""
        messages = [Message("user", ASKED), Message("assistant", SAID), Message(role, text)]
        ids = self._ids(SAID + self._shown(messages, SAID))
        if ids[: len(self._said)] == self._said:  # so that what follows is tokenized as behind a text
            return ids[len(self._said) :]
        return self._ids(self._shown(messages, SAID))

    def _end_of(self, ids: Sequence[int]) -> int:
        """How many of the token ids behind a turn end it: those up to the first control token."""
        return next((place for place, token in enumerate(ids, start=1) if token in self._special), 0)

    def _shown(self, messages: Sequence[Message], behind: str) -> str:
        """What the template shows behind the first place of a content."""
        text = self._rendered(messages)
        if behind not in text:
            left_out = next(message.role for message in messages if message.content == behind)
            raise DataError(f"the chat template leaves out what the {left_out} says")
        return text.split(behind, 1)[1]

    def _rendered(self, messages: Sequence[Message]) -> str:
        try:
            return self._renderer.templated(messages)
        except Exception as failure:  # a template is a program and raises what it likes
            roles = ", ".join(message.role for message in messages)
            raise DataError(f"the chat template refuses the messages ({roles}): {failure}") from failure

    def _plain(self, message: Message) -> Message:
        return Message(message.role, plain(message.content, self._tokenizer))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def unchanged(before: str, said: str, now: str) -> bool:
    """Whether a conversation is shown now as it was `before` a turn, with what was said in the turn behind it; white
    space around that aside."""
    return now.startswith(before) and now[len(before) :].lstrip().startswith(said.strip())

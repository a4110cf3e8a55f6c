"""What was said in one conversation so far, and what comes into a stream before its next turn."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from actors.data.messages import Message
from actors.engines import Completion
from actors.rollouts.chat import TOOL, Chat
from actors.rollouts.episode import Means, Misuse, Task
from actors.rollouts.offers import Offer
from actors.rollouts.stream import Stream, Turn
from actors.rollouts.using import Toolbox, taken_apart, told
from actors.tools.formats import Schema
from actors.types import Finish, RowPrompt


class Past:
    """A conversation of the policy's. Whoever copies it has one that goes on by itself."""

    def __init__(self, means: Means, system: str | None) -> None:
        """
        Args:
            means: what its episode is played with.
            system: a system message before everything else; None for that of the data.
        """
        self.streams: tuple[Stream, ...] = ()  # all but the first continue it
        self.last_stream: Stream | None = None  # that of the last turn
        self.turns: tuple[Turn, ...] = ()
        self.toolbox = Toolbox()
        self._means, self._system = means, system
        self._opening = ""  # the text that the conversation began with
        self._messages: tuple[Message, ...] = ()  # what was said behind it, the last turn not among it
        self._last = Message("assistant", "")  # the last turn
        self._offer: Offer | None = None  # how the policy was told of tools

    @property
    def text(self) -> str:
        """Of all turns, one behind the other, stream by stream."""
        return "".join(stream.text for stream in self.streams)

    @property
    def tokens(self) -> int:
        """That were sampled."""
        return sum(turn.tokens for turn in self.turns)

    @property
    def begun(self) -> bool:
        """Whether anything was said in it."""
        return bool(self.streams)

    def copied(self, tokens: int | None = None) -> "Past":
        """A conversation that was this one up to now, token for token.

        Args:
            tokens: sampled ones of the last turn that are in it; None for all.
        """
        past = copy(self)  # all that it holds is never changed, only replaced, but for the last stream
        if not self.streams:
            return past
        stream = self.streams[-1]
        if tokens is None:
            past.last_stream = stream.copied()
        else:
            turn = past.turn_of(stream.last_turn[:tokens], Finish.LENGTH, self.turns[:-1], ended=False)
            past.turns = (*self.turns[:-1], turn)
            past.last_stream = stream.copied(tokens, turn.text)
        past.streams = (*self.streams[:-1], past.last_stream)
        return past

    def messages_of(self, said: str | Sequence[str], role: str) -> list[Message]:
        """What is said, as messages.

        Raises:
            Misuse: it is no text, or the role says no more than one.
        """
        texts = [said] if isinstance(said, str) else list(said) if isinstance(said, list | tuple) else []
        if not texts or not all(isinstance(text, str) for text in texts):
            raise Misuse(f"says {said!r:.80}: give a text, or the texts of several tools")
        if len(texts) > 1 and role != TOOL:
            raise Misuse(f'says {len(texts)} texts at once as {role!r}: only several tools can, with role="tool"')
        chat = self._means.chat
        if role != TOOL or not self.turns or chat is None:
            return [Message(role, texts[0])]
        return told(texts, self.turns[-1].calls, chat, offered=bool(self.toolbox.tools))

    def next(self, said: Sequence[Message], task: Task | None) -> tuple[Stream, np.ndarray]:
        """The stream that goes on, and the token ids that come into it before the next turn.

        Raises:
            Misuse: a task comes into a conversation that has begun.
            DataError: the chat template refuses what is said.
        """
        chat = self._means.chat
        if not self.streams:
            if task is not None and task.prompt is not None and self._system is None and not self.toolbox.tools:
                self._opening = task.prompt.text
                return Stream(), task.prompt.tokens
            assert chat is not None  # the environment is a person's own
            self._opening = self._begin(chat, said, task)
            return Stream(), np.array(chat.opened(self._opening), np.int32)
        assert chat is not None
        if task is not None:
            raise Misuse("a task opens a conversation, and this one has begun: say its question")
        if not chat.keeps and (again := chat.again(self._opening, self._messages, self._last, said)):
            return Stream(), np.array(chat.opened(again), np.int32)
        stream = self.streams[-1]
        return stream, np.array(chat.following(said, stream.last_turn), np.int32)

    def answered(self, said: Sequence[Message]) -> None:
        """What is said behind the last turn, if there is one, is part of the conversation."""
        if self.streams:
            self._messages += (self._last, *said)

    def turn_of(self, ids: list[int], finish: Finish, before: Sequence[Turn], *, ended: bool) -> Turn:
        """What the environment is told of a turn, which is the last one now.

        Args:
            ids: of its tokens.
            finish: of it.
            before: the turns before it.
            ended: whether nothing more of it can come.
        """
        tokenizer = self._means.engine.tokenizer
        text = str(tokenizer.decode(ids, skip_special_tokens=True))
        turn = Turn(text=text, tokens=len(ids), finish=finish, content=text, ended=ended)
        self._last = Message("assistant", text)
        if self._offer is None:
            return turn
        number = sum(len(turn.calls) for turn in before)
        cut = finish is Finish.LENGTH or not ended
        found = taken_apart(ids, tokenizer, self._offer.calls, number, cut=cut)
        if found.calls and found.apart:
            self._last = Message("assistant", found.content, calls=found.calls)
        return replace(turn, content=found.content, calls=found.calls)

    def add(self, stream: Stream, said: np.ndarray, completion: Completion, turn: Turn, speaker: str) -> None:
        """A turn has been sampled behind token ids int32[any number] that come into a stream with it; the speaker is
        as for `Stream.add`."""
        stream.add(said, completion, turn.text, speaker)
        if stream not in self.streams:
            stream.continues = bool(self.streams)
            self.streams += (stream,)
        self.last_stream = stream
        self.turns += (turn,)

    def go_on(self, step: Completion, turn: Turn) -> None:
        """More of the last turn has been sampled, which is this one now."""
        assert self.last_stream is not None  # in which the turn is
        self.last_stream.go_on(step, turn.text)
        self.turns = (*self.turns[:-1], turn)

    def _begin(self, chat: Chat, said: Sequence[Message], task: Task | None) -> str:
        """What the conversation begins with."""
        means, tools, before = self._means, tuple[Schema, ...](), ""
        if self.toolbox.tools and means.offers is not None:
            schemas = {name: tool.schema for name, tool in self.toolbox.tools.items()}
            self._offer = means.offers.of(schemas, self.toolbox.form)
            tools, before = self._offer.tools, self._offer.before
        if task is not None and isinstance(task.prompt, RowPrompt) and self._system is None:
            return chat.opening_of(task.prompt.asked, task.prompt.system, tools, before)
        message = Message("user", task.question) if task is not None else said[0]
        return chat.opening(chat.system if self._system is None else self._system, message, tools, before)

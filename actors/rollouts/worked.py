"""Worked answers as token streams: single answers, and conversations as an environment's episodes would hold them."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from actors.data.messages import Message
from actors.data.reading import WorkedRow
from actors.data.rendering import Renderer
from actors.errors import DataError
from actors.rollouts.chat import Chat
from actors.settings import DataSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class WorkedStream(NamedTuple):
    """What is imitated, T tokens."""

    tokens: np.ndarray  # int32[T]
    trained: np.ndarray  # bool[T], True on what the policy is to say, the end of its turns included


class WorkedRenderer:
    """Makes streams of worked answers. What the policy is to say is tokenized by itself, as it will sample it."""

    def __init__(self, data: DataSettings, tokenizer: "PreTrainedTokenizerBase") -> None:
        """`data` has the templates."""
        self._data, self._tokenizer, self._renderer = data, tokenizer, Renderer(data, tokenizer)
        self._chat: Chat | None = None  # where there are conversations
        self._roles: frozenset[str] = frozenset()  # that the chat template is known to take

    def fault(self, row: WorkedRow) -> str:
        """Why the templates refuse a row; "" where they take it."""
        try:
            self._renderer.render(row.prompt, row.system)
            if not isinstance(row.response, str):
                said = self._renderer.in_known_roles(row.response[1::2])
                for role in {message.role for message in said} - self._roles:
                    self._examined.following([Message(role, "0")], ())
                    self._roles |= {role}
        except DataError as problem:
            return str(problem)
        return ""

    def streams(self, rows: Sequence[WorkedRow]) -> list[WorkedStream]:
        """Of all rows, in their order; several of a conversation whose past the chat template shows otherwise later."""
        openings = [self._renderer.render(row.prompt, row.system) for row in rows]
        opened = self._renderer.tokens(openings)
        turns = iter(self._ids([turn for row in rows for turn in row.turns]))
        found = []
        for row, opening, before in zip(rows, openings, opened, strict=True):
            if isinstance(row.response, str):
                found.append(_stream([(before, False), ([*next(turns), self._eos], True)]))
            else:
                found += self._conversation(opening, before, self._renderer.in_known_roles(row.response), turns)
        return found

    def _conversation(
        self, opening: str, opened: list[int], said: Sequence[Message], turns: Iterator[list[int]]
    ) -> Iterator[WorkedStream]:
        """The streams of turns of the policy, whose token ids come next, and of what is said between them."""
        chat, pieces = self._examined, [(opened, False)]
        ends = list(chat.ends) or [self._eos]
        for place in range(0, len(said), 2):
            turn = [*next(turns), *ends]
            pieces.append((turn, True))
            if place + 1 == len(said):
                break
            other = said[place + 1]
            if not chat.keeps and (again := chat.again(opening, said[:place], said[place], [other])):
                yield _stream(pieces)
                pieces = [(chat.opened(again), False)]
            else:
                pieces.append((chat.following([other], turn), False))
        yield _stream(pieces)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return list(self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []

    @property
    def _eos(self) -> int:
        return int(self._tokenizer.eos_token_id)  # one without is refused when it is loaded

    @property
    def _examined(self) -> Chat:
        self._chat = self._chat or Chat(self._data, self._tokenizer)
        return self._chat


def _stream(pieces: Sequence[tuple[list[int], bool]]) -> WorkedStream:
    return WorkedStream(
        tokens=np.concatenate([np.array(ids, np.int32) for ids, _ in pieces]),
        trained=np.concatenate([np.full(len(ids), trained) for ids, trained in pieces]),
    )

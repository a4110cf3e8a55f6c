"""What agents say to one seat by its address, as token streams.

A request tells its whole past. The longest beginning of it that ends with a turn of the policy, told as it was answered
here, is where it goes on: what is new comes behind that turn's own token ids, and nothing of them is rendered or
tokenized again. Where another request went on from the same turn before, a new stream begins with a copy of these ids,
which is not trained on. A past that was told otherwise is rendered: all of it, or what stands behind the last turn that
is as it was.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from actors.data.messages import Message
from actors.engines import Completion
from actors.errors import DataError
from actors.rollouts.chat import TOOL, Chat, Results
from actors.rollouts.episode import Episode
from actors.rollouts.offers import Offer
from actors.rollouts.seeds import seed_of
from actors.rollouts.serving.wire import ASSISTANT, Answer, Asked, Refused, key_behind, keys_of
from actors.rollouts.stream import OPENING, Stream, Turn
from actors.rollouts.using import taken_apart, told
from actors.types import Finish

if TYPE_CHECKING:
    from actors.rollouts.seat import Seat


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Place:
    """Where a conversation may go on: behind a turn of the policy."""

    stream: Stream
    size: int  # tokens of the stream up to there
    turn: list[int]  # token ids of the turn
    sampled: int  # tokens of all turns of the conversation up to there
    message: Message  # the turn as the chat template is told of it


class _Next(NamedTuple):
    """What comes before a turn."""

    stream: Stream
    said: np.ndarray  # token ids that come into it, int32[any number]
    new: int  # how many of them, at the end, no stream has yet
    messages: Sequence[Message]  # that they are
    sampled: int | None  # tokens of the turns so far; None where a conversation begins


class Conversations:
    """All conversations that one seat has by its address; its state belongs to the loop of the rollout."""

    def __init__(self, seat: "Seat", episode: Episode, system: str | None) -> None:
        """
        Args:
            seat: says their turns.
            episode: of the seat.
            system: a system message for conversations that begin without one; None for that of the data.
        """
        self._seat, self._episode, self._system = seat, episode, system
        self._places: dict[bytes, list[_Place]] = {}  # by all that was said up to there
        self._growing: set[Stream] = set()  # in which a turn is being sampled
        self._shown = Counter[bytes]()  # how often these token ids were shown to the policy
        self._running: set[asyncio.Task[Answer]] = set()

    @property
    def most_tokens(self) -> int:
        """Of a stream."""
        means = self._episode.means
        return means.engine.max_model_len if means.max_tokens is None else means.max_tokens

    async def answer(self, asked: Asked) -> Answer:
        """The policy's turn in the conversation that a request tells. It is sampled to its end or, where the request is
        given up meanwhile, nothing of it is in a stream.

        Raises:
            Refused: the episode has ended, the chat template refuses the messages, or turns are asked for without end.
        """
        episode = self._episode
        if episode.over:
            raise self._misuse("was asked by its address after its episode had ended")
        if episode.count_of_turns.turns >= 2 * episode.means.max_turns:
            raise self._misuse(
                f"is asked for turns behind the last of rollout.max_turns = {episode.means.max_turns}: an agent must "
                "end where finish_reason is 'length'"
            )
        episode.turns += 1
        episode.count_of_turns.turns += 1
        running = asyncio.ensure_future(self._answer(asked))
        self._running.add(running)
        try:
            return await running
        except asyncio.CancelledError:
            if episode.over:
                raise Refused("the episode has ended", status=403, code="episode_over") from None
            raise
        except DataError as problem:
            raise Refused(str(problem), param="messages") from None
        finally:
            self._running.discard(running)
            running.cancel()

    def give_up(self) -> None:
        """Ends what is being sampled."""
        for running in self._running:
            running.cancel()

    def _misuse(self, why: str) -> Refused:
        """Fails the episode for what its agent did."""
        episode, why = self._episode, f"the seat {self._seat.name!r} {why}"
        episode.fail(f"{episode.means.where}: {why}")
        return Refused(why, status=403, code="episode_over")

    async def _answer(self, asked: Asked) -> Answer:
        episode, means = self._episode, self._episode.means
        self._tell_of(asked)
        offer, keys = self._offer(asked), keys_of(asked)
        stream, said, new, messages, sampled = self._next(asked, keys, offer)
        shown = stream.behind(said)
        left = min(means.sampling.max_tokens - (sampled or 0), self.most_tokens - len(shown))
        left = left if asked.max_tokens is None else min(left, asked.max_tokens)
        if left <= 0 or episode.count_of_turns.turns > means.max_turns:
            self._seat.say_nothing()
            return Answer(finish="length", prompt_tokens=len(shown))
        seed = self._seed(shown)
        sampling = replace(means.sampling, max_tokens=left, stop=(*means.sampling.stop, *asked.stop))
        self._growing.add(stream)
        try:
            (completion,) = await means.engine.generate(shown, sampling, seed)
        except Exception as failure:
            episode.broken = episode.broken or failure
            raise
        finally:
            self._growing.discard(stream)
        turn, message = self._turn(completion, asked, offer)
        self._seat.add(stream, said, completion, turn, messages[-1].role)
        results = sum(message.role == TOOL for message in messages)
        episode.count(OPENING if sampled is None else messages[-1].role, new, results)
        place = _Place(
            stream=stream,
            size=stream.size,
            turn=completion.tokens.tolist(),
            sampled=(sampled or 0) + turn.tokens,
            message=message,
        )
        key = key_behind(keys[-1], Message(ASSISTANT, turn.content, calls=turn.calls))
        self._places.setdefault(key, []).append(place)
        return self._answered(asked, completion, turn, seed, len(shown))

    def _answered(self, asked: Asked, completion: Completion, turn: Turn, seed: int, prompt_tokens: int) -> Answer:
        tokenizer, ids = self._episode.means.engine.tokenizer, completion.tokens.tolist()
        finish = "tool_calls" if turn.calls else "stop"
        return Answer(
            id=f"chatcmpl-{seed:012x}",
            content=turn.content,
            calls=turn.calls,
            finish=finish if completion.finish is Finish.STOP else "length",
            prompt_tokens=prompt_tokens,
            completion_tokens=len(ids),
            tokens=tuple(str(tokenizer.decode([token])) for token in ids) if asked.logprobs else (),
            logprobs=tuple(completion.logprobs.tolist()) if asked.logprobs else (),
        )

    def _next(self, asked: Asked, keys: Sequence[bytes], offer: Offer | None) -> _Next:
        """The stream that goes on, or a new one, and what comes into it before the turn."""
        chat, messages = self._chat, self._as_sampled(asked, keys)
        last = max((n for n, key in enumerate(keys) if key in self._places), default=None)
        if last is None:
            whole = np.array(chat.opened(self._shown_whole(messages, offer)), np.int32)
            return _Next(Stream(), whole, whole.size, messages, None)
        said, places = messages[last + 1 :], self._places[keys[last]]
        free = [place for place in places if self._is_free(place)]
        place = (free or places)[0]
        if not chat.keeps:
            now = self._shown_whole(messages, offer)
            if not chat.still_shows(self._shown_whole(messages[:last], offer), place.message, now):
                whole = np.array(chat.opened(now), np.int32)
                return _Next(Stream(), whole, whole.size, said, place.sampled)
        new = np.array(chat.following(_as_shown(said, chat), place.turn), np.int32)
        if free:
            return _Next(place.stream, new, new.size, said, place.sampled)
        copied = np.array(place.stream.behind(new[:0])[: place.size], np.int32)
        return _Next(Stream(), np.concatenate([copied, new]), new.size, said, place.sampled)

    def _is_free(self, place: _Place) -> bool:
        """Whether the stream ends there, and nobody else is going on with it."""
        return place.size == place.stream.size and place.stream not in self._growing

    def _as_sampled(self, asked: Asked, keys: Sequence[bytes]) -> list[Message]:
        """The messages, with the turns of the policy as they were sampled."""
        return [
            self._places[key][0].message if key in self._places else message
            for key, message in zip(keys, asked.messages, strict=True)
        ]

    def _shown_whole(self, messages: Sequence[Message], offer: Offer | None) -> str:
        """What the chat template shows of a conversation, up to the policy's next turn."""
        chat = self._chat
        system = chat.system if self._system is None else self._system
        first = [Message("system", system)] if system and messages[0].role != "system" else []
        tools, before = (offer.tools, offer.before) if offer is not None else ((), "")
        return chat.whole(_as_shown([*first, *messages], chat), tools, before)

    def _offer(self, asked: Asked) -> Offer | None:
        offers = self._episode.means.offers
        try:
            return offers.of(asked.tools) if asked.tools and offers is not None else None
        except (DataError, ValueError) as problem:
            raise Refused(str(problem), param="tools") from None

    def _turn(self, completion: Completion, asked: Asked, offer: Offer | None) -> tuple[Turn, Message]:
        """What the policy said: for the agent, whose texts to stop at are cut off, and for the chat template."""
        tokenizer, ids, finish = self._episode.means.engine.tokenizer, completion.tokens.tolist(), completion.finish
        text = str(tokenizer.decode(ids, skip_special_tokens=True))
        turn = Turn(text=text, tokens=len(ids), finish=finish, content=_until(text, asked.stop))
        if offer is None or not asked.calls:
            return turn, Message(ASSISTANT, text)
        try:
            found = taken_apart(ids, tokenizer, offer.calls, asked.calls_so_far, cut=finish is Finish.LENGTH)
        except Exception as failure:  # schemas of tools are the agent's, with references that may lead nowhere
            self._tell("tools", f"A call of an agent's tools is not read: {type(failure).__name__}: {failure}")
            return turn, Message(ASSISTANT, text)
        if not found.calls or not all(call.name for call in found.calls):  # one that cannot be read stays text
            return turn, Message(ASSISTANT, text)
        message = Message(ASSISTANT, found.content, calls=found.calls) if found.apart else Message(ASSISTANT, text)
        return replace(turn, content=found.content, calls=found.calls), message

    def _tell_of(self, asked: Asked) -> None:
        """Tells the log of what an agent wants otherwise than the run samples."""
        for name, value in asked.tuned.items():
            own = getattr(self._episode.means.sampling, name, None)
            if value != own:
                self._tell(
                    f"tuned {name}",
                    f"An agent asks for {name} = {str(value)[:80]}, which is not followed: what is trained is sampled "
                    "as the run samples" + ("" if own is None else f", {name} = {own:g}"),
                )

    def _tell(self, kind: str, text: str) -> None:
        if self._episode.means.endpoint is not None:
            self._episode.means.endpoint.tell_once(kind, text)

    def _seed(self, shown: Sequence[int]) -> int:
        """The sampling seed of a turn. What is shown decides on it, so that conversations at once may come in any
        order; those that show the same are counted."""
        digest = hashlib.blake2b(np.array(shown, np.int32).tobytes(), digest_size=16).digest()
        self._shown[digest] += 1
        return seed_of(f"{self._episode.seed}/{self._seat.name}/{digest.hex()}/{self._shown[digest]}")

    @property
    def _chat(self) -> Chat:
        chat = self._episode.means.chat
        assert chat is not None  # the environment is a person's own
        return chat


def _as_shown(messages: Sequence[Message], chat: Chat) -> list[Message]:
    """The messages as the chat template takes them: where it knows no tools, calls are written and a user tells the
    results."""
    found = list[Message]()
    for role, group in groupby(messages, key=lambda message: message.role):
        some = list(group)
        if role == TOOL and chat.results is Results.BY_USER:
            calls = [message.result_of for message in some if message.result_of is not None]
            found += told([message.content for message in some], calls, chat, offered=True)
        else:
            found += some if chat.shows_tools else map(_in_words, some)
    return found


def _in_words(message: Message) -> Message:
    calls = [json.dumps({"name": call.name, "arguments": call.arguments}) for call in message.calls]
    return replace(message, content="\n".join(filter(None, (message.content, *calls))), calls=())


def _until(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of what it stops at."""
    return text[: min((place for place in map(text.find, stops) if place >= 0), default=len(text))]

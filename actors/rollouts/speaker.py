"""Has the policy say the turns of one conversation. What it holds belongs to the event loop of the rollout."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from actors.engines import Completion, Sampling
from actors.rollouts.chat import TOOL
from actors.rollouts.episode import Episode, Task
from actors.rollouts.past import Past
from actors.rollouts.seeds import seed_of, turn_seed
from actors.rollouts.stream import OPENING, Stream, Turn
from actors.types import Finish


class Speaker:
    """What samples the turns of a seat."""

    def __init__(self, episode: Episode, name: str, system: str | None) -> None:
        """
        Args:
            episode: that the seat is part of.
            name: of the seat.
            system: its system message; None for that of the data.
        """
        self.past = Past(episode.means, system)
        self.count = episode.count_of_turns  # of turns that `rollout.max_turns` bounds
        self.asks = 0  # of it for a turn or more of one
        self.asks_in_vain = 0  # for more of a turn that has ended
        self.sampled = 0  # tokens that it has sampled itself, and no seat that it was forked from
        self._episode, self._name, self._is_fork = episode, name, False

    def forked(self, name: str, tokens: int | None) -> "Speaker":
        """One whose conversation is what this one's is now.

        Args:
            name: of the other seat.
            tokens: sampled ones of the last turn that are in it; None for all.
        """
        fork = Speaker(self._episode, name, None)
        fork.past, fork.count, fork._is_fork = self.past.copied(tokens), replace(self.count), True
        return fork

    async def say(
        self, said: str | Task | Sequence[str], role: str, max_tokens: int | None, stops: tuple[str, ...]
    ) -> Turn:
        """As a call of the seat."""
        episode, means, past = self._episode, self._episode.means, self.past
        episode.turns += 1
        self.count.turns += 1
        if self.count.turns > means.max_turns:
            return self.say_nothing()
        task = said if isinstance(said, Task) else None
        messages = [] if isinstance(said, Task) else past.messages_of(said, role)
        if past.toolbox.waits and means.runner is not None:
            past.toolbox = await past.toolbox.ready(means.runner)
        stream, ids = past.next(messages, task)
        most = self._most(stream.size + ids.size, max_tokens)
        if most <= 0:
            return self.say_nothing()
        if means.chat is not None:
            self._keep(past, said, role, ids.size)
            past.answered(messages)
        completion = await self._sampled(stream.behind(ids), most, stops, 0)
        ended = self._ends(completion, stops, stream.size + ids.size)
        turn = past.turn_of(completion.tokens.tolist(), completion.finish, past.turns, ended=ended)
        self.add(stream, ids, completion, turn, role if means.chat is not None else "")
        return turn

    async def more(self, stops: tuple[str, ...], max_tokens: int | None) -> Turn:
        """As `Seat.more`."""
        past, before = self.past, self.past.turns[-1]
        stream = past.last_stream
        most = 0 if before.ended or stream is None else self._most(stream.size, max_tokens)
        if stream is None or most <= 0:
            return self._no_more(before)
        completion = await self._sampled(stream.behind(np.empty(0, np.int32)), most, stops, before.tokens)
        ids = stream.last_turn + completion.tokens.tolist()
        ended = self._ends(completion, stops, stream.size)
        turn = past.turn_of(ids, completion.finish, past.turns[:-1], ended=ended)
        past.go_on(completion, turn)
        self._has_sampled(completion.tokens.size)
        text = _behind(before.text, turn.text)
        tokens = completion.tokens.size
        return Turn(text=text, tokens=tokens, finish=turn.finish, content=text, calls=turn.calls, ended=ended)

    def add(self, stream: Stream, said: np.ndarray, completion: Completion, turn: Turn, speaker: str) -> None:
        """As `Past.add`."""
        self.past.add(stream, said, completion, turn, speaker)
        self._has_sampled(turn.tokens)

    def say_nothing(self) -> Turn:
        """A turn for which there is no room."""
        self.past.turns += (turn := Turn(text="", tokens=0, finish=Finish.LENGTH),)
        self._has_sampled(0)
        return turn

    def _no_more(self, turn: Turn) -> Turn:
        """The step behind a turn that has ended, or has no room."""
        self.asks_in_vain += 1
        if not turn.ended:
            turn = replace(turn, finish=Finish.LENGTH, ended=True)
            self.past.turns = (*self.past.turns[:-1], turn)
        self._has_sampled(0)
        return Turn(text="", tokens=0, finish=turn.finish)

    def _has_sampled(self, tokens: int) -> None:
        self.asks += 1
        self.sampled += tokens
        self._episode.sampled_at = time.time()

    def _keep(self, past: Past, said: str | Task | Sequence[str], role: str, tokens: int) -> None:
        """Counts what is said and will be answered."""
        if not past.begun:
            return self._episode.count(OPENING, tokens)
        results = (1 if isinstance(said, str | Task) else len(said)) if role == TOOL else 0
        self._episode.count(role, tokens, results)

    def _most(self, size: int, most: int | None = None) -> int:
        """Tokens for which there is room behind a stream of this size, or `most` where that is less."""
        means = self._episode.means
        whole = means.engine.max_model_len if means.max_tokens is None else means.max_tokens
        left = min(means.sampling.max_tokens - self.past.tokens, whole - size)
        return left if most is None else min(left, most)

    def _ends(self, completion: Completion, stops: Sequence[str], size: int) -> bool:
        """Whether nothing more of a turn can come behind what was sampled behind a stream of this size."""
        if completion.finish is Finish.LENGTH:
            return self._most(size) <= completion.tokens.size
        at = completion.stopped_at
        return at not in stops or at in self._episode.means.sampling.stop

    async def _sampled(self, shown: list[int], most: int, stops: Sequence[str], so_far: int) -> Completion:
        """What the policy says behind these token ids, in a turn that has `so_far` tokens."""
        engine, whole = self._episode.means.engine, self._episode.means.sampling
        (completion,) = await engine.generate(shown, _asking(whole, most, stops, so_far), self._seed(so_far))
        return completion

    def _seed(self, so_far: int) -> int:
        """Of what is sampled next. That of a fork or of a later step of a turn follows from the seat and what it was
        asked alone, so that seats may be asked in any order."""
        if not self._is_fork and not so_far:
            return turn_seed(self._episode.seed, self.count.turns - 1)
        return seed_of(f"{self._episode.seed}/{self._name}/{self.asks}")


def _asking(whole: Sampling, most: int, stops: Sequence[str], so_far: int) -> Sampling:
    """How a step of a turn is sampled that has `so_far` tokens."""
    if most == whole.max_tokens and not stops and not so_far:
        return whole
    least = max(0, whole.min_tokens - so_far)
    return replace(whole, max_tokens=most, min_tokens=least, stop=(*whole.stop, *stops))


def _behind(before: str, text: str) -> str:
    """What a text has behind another one, of which the end may have been half a character."""
    same = next((place for place, pair in enumerate(zip(before, text, strict=False)) if pair[0] != pair[1]), None)
    return text[len(before) if same is None else same :]

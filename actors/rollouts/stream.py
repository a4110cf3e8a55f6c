"""One token stream of a conversation. It is only ever appended to: what the policy sampled stays as the engine gave it,
and mask, log-probabilities and versions come from the engine, never from ids or text."""

from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from actors.data.messages import Call
from actors.engines import Completion
from actors.sampled import SampledTurn, digest_of
from actors.types import POLICY, Finish, Trajectory

OPENING = "opening"  # who has said what a stream begins with
ASSISTANT = "assistant"  # the role of the policy, which goes on with its own turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """Whose turns a stream holds."""

    episode: int = 0  # of the group, counted from 0
    seat: str = POLICY
    siblings: str = POLICY  # name of the set of responses that it is compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the policy said at one time, or a step of it."""

    text: str  # all of it, special tokens left out
    tokens: int  # how many were sampled
    finish: Finish
    content: str = ""  # what was said beside calls of tools; where there are no tools, the text
    calls: tuple[Call, ...] = ()  # of tools; with a `problem` where one cannot be made
    ended: bool = True  # whether the policy has ended it, or has no room left; else `Seat.more` goes on with it


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnReward:
    """A reward of a turn."""

    place: int  # of its last token
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTurn:
    """Where the last turn of a stream begins."""

    piece: int = 0  # of the stream's
    start: int = 0  # its first token
    text: int = 0  # characters of the turns before it
    after: str = ""  # who spoke before it


class Stream:
    """What was said in it and what the policy sampled, in turn."""

    def __init__(self) -> None:
        self.continues = False  # whether it goes on with the response of another stream
        self.size = 0  # tokens in it
        self.text = ""  # of the turns, special tokens left out
        self._pieces: tuple[np.ndarray | Completion, ...] = ()
        self._turns: tuple[SampledTurn, ...] = ()
        self._rewards: tuple[TurnReward, ...] = ()
        self._last = LastTurn()

    def add(self, said: np.ndarray, turn: Completion, text: str, speaker: str) -> None:
        """Appends token ids int32[any number] that nobody trains on, and what the policy sampled behind them.

        Args:
            said: by the speaker.
            turn: of the policy.
            text: of the turn.
            speaker: the role of who spoke before it; a stream begins with what is OPENING, whoever said it. "" where
                there is one turn only, which needs no proof of what came between.
        """
        self._pieces += (said,)
        self.size += said.size
        after = OPENING if speaker and not self._turns else speaker
        self._last = LastTurn(piece=len(self._pieces), start=self.size, text=len(self.text), after=after)
        self._append(turn)
        self.text += text

    def go_on(self, step: Completion, text: str) -> None:
        """Appends what the policy sampled behind its last turn, which is more of it; `text` is that of the whole turn
        now."""
        self._append(step)
        self.text = self.text[: self._last.text] + text

    def copied(self, tokens: int | None = None, text: str = "") -> "Stream":
        """A stream of its own that begins with this one, token for token.

        Args:
            tokens: sampled ones of the last turn that it begins with; None for all.
            text: of these.
        """
        copied = copy(self)  # all that it holds is never changed, only replaced
        if tokens is None:
            return copied
        last, left = self._last, tokens
        steps = [piece for piece in self._pieces[last.piece :] if isinstance(piece, Completion)]
        copied._pieces, copied.size = self._pieces[: last.piece], last.start
        copied._turns = tuple(turn for turn in self._turns if turn.end <= last.start)
        for step in steps:
            if left > 0:
                copied._append(_beginning(step, left))
            left -= step.tokens.size
        copied.text = self.text[: last.text] + text
        copied._rewards = tuple(reward for reward in self._rewards if reward.place < copied.size)
        return copied

    def _append(self, step: Completion) -> None:
        """More of the last turn."""
        end, after = self.size + step.tokens.size, self._last.after
        if after:
            digest = digest_of(step.shown, step.tokens.tolist())
            first = self.size == self._last.start
            turn = SampledTurn(start=self.size, end=end, after=after if first else ASSISTANT, digest=digest)
            self._turns += (turn,)
        self._pieces += (step,)
        self.size = end

    def behind(self, said: np.ndarray) -> list[int]:
        """All token ids, and these behind them."""
        if not self._pieces:
            return said.tolist()
        return np.concatenate([*map(_tokens, self._pieces), said]).tolist()

    @property
    def last_turn(self) -> list[int]:
        """Token ids of the last turn; none before the first."""
        return [token for piece in self._pieces[self._last.piece :] for token in _tokens(piece).tolist()]

    def reward(self, value: float) -> None:
        """Adds a reward of the last turn, on its last token."""
        self._rewards += (TurnReward(place=self.size - 1, value=value),)

    @property
    def rewarded(self) -> bool:
        """Whether any turn has a reward of its own."""
        return bool(self._rewards)

    @property
    def rewards(self) -> np.ndarray:
        """The rewards of turns, float32[T], NaN on tokens without."""
        found = np.full(self.size, np.nan, np.float32)
        for one in self._rewards:
            found[one.place] = np.nan_to_num(found[one.place]) + one.value
        return found

    def trajectory(self, whose: Whose, finish: Finish) -> Trajectory:
        """The whole of it."""
        sampled, logprobs = np.zeros(self.size, bool), np.zeros(self.size, np.float32)
        versions, start = np.empty(self.size, np.int32), 0
        versions.fill(-1)
        tokens = [_tokens(piece) for piece in self._pieces]
        for piece, ids in zip(self._pieces, tokens, strict=True):
            end = start + ids.size
            if isinstance(piece, Completion):
                sampled[start:end], logprobs[start:end], versions[start:end] = True, piece.logprobs, piece.versions
            start = end
        return Trajectory(
            tokens=np.concatenate(tokens),
            sampled=sampled,
            logprobs=logprobs,
            versions=versions,
            finish=finish,
            text=self.text,
            episode=whose.episode,
            seat=whose.seat,
            siblings=whose.siblings,
            continues=self.continues,
            turns=self._turns,
        )


def _tokens(piece: np.ndarray | Completion) -> np.ndarray:
    return piece.tokens if isinstance(piece, Completion) else piece


def _beginning(step: Completion, tokens: int) -> Completion:
    """The first tokens of it."""
    if step.tokens.size <= tokens:
        return step
    return replace(step, tokens=step.tokens[:tokens], logprobs=step.logprobs[:tokens], versions=step.versions[:tokens])

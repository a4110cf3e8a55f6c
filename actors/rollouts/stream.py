"""One token stream of a conversation. It is only ever appended to: what the policy sampled stays as the engine gave it,
and mask, log-probabilities and versions come from the engine, never from ids or text."""

from dataclasses import dataclass

import numpy as np

from actors.data.messages import Call
from actors.engines import Completion
from actors.sampled import SampledTurn, digest_of
from actors.types import POLICY, Finish, Trajectory

OPENING = "opening"  # who has said what a stream begins with


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """Whose turns a stream holds."""

    episode: int = 0  # of the group, counted from 0
    seat: str = POLICY
    siblings: str = POLICY  # name of the set of responses that it is compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the policy said at one time."""

    text: str  # all of it, special tokens left out
    tokens: int  # how many were sampled
    finish: Finish
    content: str = ""  # what was said beside calls of tools; where there are no tools, the text
    calls: tuple[Call, ...] = ()  # of tools; with a `problem` where one cannot be made


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnReward:
    """A reward of a turn."""

    place: int  # of its last token
    value: float


class Stream:
    """What was said in it and what the policy sampled, in turn."""

    def __init__(self) -> None:
        self.continues = False  # whether it goes on with the response of another stream
        self.size = 0  # tokens in it
        self.text = ""  # of the turns, special tokens left out
        self._pieces: list[np.ndarray | Completion] = []
        self._turns: tuple[SampledTurn, ...] = ()
        self._rewards: tuple[TurnReward, ...] = ()

    def add(self, said: np.ndarray, turn: Completion, text: str, speaker: str) -> None:
        """Appends token ids int32[any number] that nobody trains on, and what the policy sampled behind them.

        Args:
            said: by the speaker.
            turn: of the policy.
            text: of the turn.
            speaker: the role of who spoke before it; a stream begins with what is OPENING, whoever said it. "" where
                there is one turn only, which needs no proof of what came between.
        """
        start = self.size + said.size
        end = start + turn.tokens.size
        if speaker:
            digest = digest_of(turn.shown, turn.tokens.tolist())
            after = speaker if self._turns else OPENING
            self._turns += (SampledTurn(start=start, end=end, after=after, digest=digest),)
        self._pieces += (said, turn)
        self.size = end
        self.text += text

    def behind(self, said: np.ndarray) -> list[int]:
        """All token ids, and these behind them."""
        if not self._pieces:
            return said.tolist()
        return np.concatenate([*map(_tokens, self._pieces), said]).tolist()

    @property
    def last_turn(self) -> list[int]:
        """Token ids of the last turn; none before the first."""
        return _tokens(self._pieces[-1]).tolist() if self._pieces else []

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

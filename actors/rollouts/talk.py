"""The policy's side of a rollout: one token stream that an environment appends to and the policy continues.

The stream is only ever appended to. What the policy sampled stays as the engine gave it; text of the environment is
tokenized once, when it is added, and nothing is rendered or tokenized again.
"""

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import numpy as np

from actors.engines import Completion, Sampler, Sampling
from actors.types import Finish, Prompt, Trajectory
from rewards import Case, Verdict
from rewards.models.plain import plain

Grade = Callable[[Case], Awaitable[Verdict]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the policy said at one time."""

    text: str  # special tokens left out
    tokens: int  # how many were sampled
    finish: Finish


class Talk:
    """One conversation between the policy and an environment. Call it to append text and have the policy answer.

    `sampling.max_tokens` is the most that the policy may sample in the whole conversation.
    """

    def __init__(self, engine: Sampler, task: Prompt, sampling: Sampling, seed: int, grade: Grade) -> None:
        """`grade` asks the run's reward about a response."""
        self._engine, self._task, self._sampling, self._seed, self._grade = engine, task, sampling, seed, grade
        self._stream: list[np.ndarray | Completion] = []  # what an environment added, what the policy sampled
        self._size = 0  # tokens in it
        self._turns: list[Turn] = []
        self.sampled_at = time.time()  # wall clock at the end of the last turn, seconds since 1970

    async def __call__(self, *added: str | np.ndarray) -> Turn:
        """Appends texts, or token ids int32[any number], that nobody trains on, then samples a turn of the policy.

        A text is only text: what tools, users and data say opens no turn and ends none. What opens and ends turns is
        given as token ids, see `markup`. When the conversation has no room left, the turn is empty and its finish is
        LENGTH.
        """
        for piece in added:
            tokens = self._text(piece) if isinstance(piece, str) else piece
            self._stream.append(tokens)
            self._size += tokens.size
        left = min(self._sampling.max_tokens - self.new_tokens, self._engine.max_model_len - self._size)
        turn = await self._sampled(left) if left > 0 else Turn(text="", tokens=0, finish=Finish.LENGTH)
        self._turns.append(turn)
        self.sampled_at = time.time()
        return turn

    async def grade(self) -> Verdict:
        """The verdict of the run's reward on all that the policy has said so far."""
        return await self._grade(
            Case(
                response=self.response,
                reference=self._task.reference,
                prompt=self._task.text,
                question=self._task.question,
                tokens=self.new_tokens,
                max_new_tokens=self._sampling.max_tokens,
            )
        )

    @property
    def response(self) -> str:
        """The text of all turns of the policy, one behind the other; span rewards count its characters."""
        return "".join(turn.text for turn in self._turns)

    @property
    def new_tokens(self) -> int:
        """Tokens that the policy has sampled so far."""
        return sum(turn.tokens for turn in self._turns)

    def trajectory(self) -> Trajectory:
        """The whole stream; mask, log-probabilities, versions and finish come from the engine, never from ids.

        Raises:
            ValueError: the policy was never asked.
        """
        if not self._turns:
            raise ValueError(f"the environment returned without a turn of the policy (prompt {self._task.id})")
        sampled, logprobs = np.zeros(self._size, bool), np.zeros(self._size, np.float32)
        versions, start = np.full(self._size, -1, np.int32), 0
        for piece in self._stream:
            end = start + _tokens(piece).size
            if isinstance(piece, Completion):
                sampled[start:end], logprobs[start:end], versions[start:end] = True, piece.logprobs, piece.versions
            start = end
        return Trajectory(
            tokens=np.concatenate([_tokens(piece) for piece in self._stream]),
            sampled=sampled,
            logprobs=logprobs,
            versions=versions,
            finish=self._turns[-1].finish,
            text=self.response,
        )

    def markup(self, text: str) -> np.ndarray:
        """Token ids int32[any number] of an environment's own text, such as "<|im_start|>user", in which control tokens
        are read as such. Never of what somebody else says."""
        return self._tokenized(text)

    def _text(self, text: str) -> np.ndarray:
        return self._tokenized(plain(text, self._engine.tokenizer))

    def _tokenized(self, text: str) -> np.ndarray:
        ids = self._engine.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return np.array(ids, np.int32)

    async def _sampled(self, most: int) -> Turn:
        tokens = np.concatenate([_tokens(piece) for piece in self._stream]).tolist()
        whole, seed = self._sampling, turn_seed(self._seed, len(self._turns))
        sampling = whole if most == whole.max_tokens else replace(whole, max_tokens=most)
        (completion,) = await self._engine.generate(tokens, sampling, seed)
        self._stream.append(completion)
        self._size += completion.tokens.size
        text = self._engine.tokenizer.decode(completion.tokens.tolist(), skip_special_tokens=True)
        return Turn(text=str(text), tokens=completion.tokens.size, finish=completion.finish)


def turn_seed(seed: int, turn: int) -> int:
    """The sampling seed of a turn, counted from 0: that of the response for the first, others derive from it."""
    if not turn:
        return seed
    return int.from_bytes(hashlib.blake2b(f"{seed}/{turn}".encode(), digest_size=6).digest())


def _tokens(piece: np.ndarray | Completion) -> np.ndarray:
    return piece.tokens if isinstance(piece, Completion) else piece

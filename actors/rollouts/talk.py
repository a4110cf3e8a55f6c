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
        self._stream: list[_Part] = []
        self._turns: list[Turn] = []
        self.sampled_at = time.time()  # wall clock at the end of the last turn, seconds since 1970

    async def __call__(self, *added: str | np.ndarray) -> Turn:
        """Appends texts, or token ids int32[any number], that nobody trains on, then samples a turn of the policy.

        A text is only text: what tools, users and data say opens no turn and ends none. What opens and ends turns is
        given as token ids, see `markup`. When the conversation has no room left, the turn is empty and its finish is
        LENGTH.
        """
        for piece in added:
            self._append(_unsampled(self._text(piece) if isinstance(piece, str) else piece), sampled=False)
        size = sum(part.tokens.tokens.size for part in self._stream)
        left = min(self._sampling.max_tokens - self.new_tokens, self._engine.max_model_len - size)
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
        parts = [part.tokens for part in self._stream]
        return Trajectory(
            tokens=np.concatenate([part.tokens for part in parts]),
            sampled=np.concatenate([np.full(part.tokens.tokens.size, part.sampled) for part in self._stream]),
            logprobs=np.concatenate([part.logprobs for part in parts]),
            versions=np.concatenate([part.versions for part in parts]),
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

    def _append(self, tokens: Completion, *, sampled: bool) -> None:
        if tokens.tokens.size:
            self._stream.append(_Part(tokens=tokens, sampled=sampled))

    async def _sampled(self, most: int) -> Turn:
        tokens = np.concatenate([part.tokens.tokens for part in self._stream]).tolist()
        sampling, seed = replace(self._sampling, max_tokens=most), turn_seed(self._seed, len(self._turns))
        (completion,) = await self._engine.generate(tokens, sampling, seed)
        self._append(completion, sampled=True)
        text = self._engine.tokenizer.decode(completion.tokens.tolist(), skip_special_tokens=True)
        return Turn(text=str(text), tokens=completion.tokens.size, finish=completion.finish)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A stretch of the stream."""

    tokens: Completion
    sampled: bool  # by the policy


def turn_seed(seed: int, turn: int) -> int:
    """The sampling seed of a turn, counted from 0: that of the response for the first, others derive from it."""
    if not turn:
        return seed
    return int.from_bytes(hashlib.blake2b(f"{seed}/{turn}".encode(), digest_size=6).digest())


def _unsampled(tokens: np.ndarray) -> Completion:
    """Tokens that nobody sampled, as a part of a trajectory: log-probability 0, version -1."""
    return Completion(
        tokens=tokens,
        logprobs=np.zeros(tokens.size, np.float32),
        versions=np.full(tokens.size, -1, np.int32),
        finish=Finish.STOP,
    )

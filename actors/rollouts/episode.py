"""One episode: what its seats have said so far, what it is worth in the end, and why it is worth nothing."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from actors.arrow import fault_of
from actors.engines import Sampler, Sampling
from actors.grading.tools import ToolRunner
from actors.rollouts.chat import Chat
from actors.rollouts.offers import Offers
from actors.rollouts.serving.endpoint import Endpoint
from actors.rollouts.stream import Whose
from actors.types import Finish, LeftRow, Prompt, Trajectory
from rewards import Case, Outcome, Verdict

if TYPE_CHECKING:
    from actors.rollouts.seat import Seat

Grade = Callable[[str, Case], Awaitable[Verdict]]  # (name of the reward, response) -> verdict
PLAYED: ContextVar["Episode | None"] = ContextVar("PLAYED", default=None)  # the episode that a task of asyncio is of


class Misuse(RuntimeError):
    """What an environment did and may not do. Whatever it makes of this, its episode has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What an episode is about: a row of the data, or what was made in another episode."""

    id: str
    question: str  # without templates
    reference: str  # what the reward compares with: the row's answer, or its columns as a JSON object
    reward: str  # name of the reward
    seed: int  # the same for all episodes of a group, so that they begin alike; another one at the row's next visit
    prompt: Prompt | None = None  # what the policy sees of the row; None where it was made

    def made(self, question: str, reference: str = "") -> "Task":
        """A task that an episode has made, for `Talk.solve`."""
        return Task(id=f"{self.id}/made", question=question, reference=reference, reward=self.reward, seed=self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What episodes are played with."""

    engine: Sampler
    sampling: Sampling  # with the most tokens that a seat may sample in an episode
    chat: Chat | None = None  # None where prompts are asked as they are
    offers: Offers | None = None  # of tools, where there is a chat
    runner: ToolRunner | None = None  # the same
    endpoint: Endpoint | None = None  # by which agents ask; the same
    max_turns: int = 1  # that all seats together may sample
    max_tokens: int | None = None  # of a stream, beside what the engine holds
    file: str = ""  # of the environment, where it is a person's own
    where: str = ""  # its file and line
    span_weight: float = 0.0  # of the rewards of turns
    wrong: float = -1.0  # the score of an episode that says False
    correct: float = 1.0  # and True


@dataclass(slots=True)
class TurnCount:
    """How many turns were asked for that `rollout.max_turns` bounds."""

    turns: int = 0


class Response(NamedTuple):
    """What one seat said, with its verdict."""

    trajectories: tuple[Trajectory, ...]  # all but the first continue it
    rewards: tuple[np.ndarray, ...]  # of turns, for each trajectory: float32[T], NaN on tokens without; or none at all
    verdict: Verdict


class Episode:
    """Its state belongs to the event loop of the rollout, `home`; an environment of a person's own runs in another."""

    def __init__(
        self,
        means: Means,
        task: Task,
        whose: Whose,
        seed: int,
        grade: Grade,
        home: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """
        Args:
            means: what it is played with.
            task: what it is about.
            whose: its number, and the seat of the policy where no other is named.
            seed: of its sampling.
            grade: asks a reward about a response.
            home: None where the environment runs in the same loop.
        """
        self.means, self.task, self.whose, self.seed, self.grade, self.home = means, task, whose, seed, grade, home
        self.seats: dict[str, Seat] = {}
        self.attempts: tuple[Episode, ...] = ()  # at tasks that were made in it
        self.failure = ""  # why nothing of it is trained on
        self.broken: Exception | None = None  # what engine or verifiers raised: no fault of the environment
        self.over = False  # whether nothing is said in it any more
        self.found: Any = None  # what the environment returned
        self.left: tuple[LeftRow, ...] = ()  # for later training, if it does not fail
        self.turns = 0  # that were asked for
        self.count_of_turns = TurnCount()  # all of them but those of forks, which have a count of their own
        self.said: dict[str, int] = {}  # tokens that were not sampled, by who said them
        self.calls = 0  # texts of tools
        self.failed_calls = 0  # of tools, that gave no result
        self.sampled_at = time.time()  # wall clock at the end of the last turn, seconds since 1970

    def fail(self, why: str) -> None:
        """Nothing of it is trained on, nor of its attempts; the first reason stays."""
        for episode in self.all:
            episode.failure = episode.failure or why

    def count(self, speaker: str, tokens: int, results: int = 0) -> None:
        """Something was said that nobody trains on.

        Args:
            speaker: the role of who said it; OPENING where a conversation began.
            tokens: of it.
            results: how many results of tools it was.
        """
        self.said[speaker] = self.said.get(speaker, 0) + tokens
        self.calls += results

    def close(self, found: Any = None) -> None:
        """Nothing is said in it any more. A turn that is still being sampled is a failure.

        Args:
            found: what the environment returned.
        """
        self.over, self.found = True, found
        for seat in self.seats.values():
            if seat.busy:
                self.fail(f"{self.means.where}: ended while a turn of the seat {seat.name!r} was being sampled")
            seat.give_up()
        for attempt in self.attempts:
            if not attempt.over:
                attempt.close()

    @property
    def all(self) -> list["Episode"]:
        """It, and the attempts at tasks that were made in it."""
        return [self, *(each for attempt in self.attempts for each in attempt.all)]

    @property
    def extra_tokens(self) -> int:
        """Tokens that were sampled beside its responses; below 0 where these share some that were sampled once."""
        return sum(seat.sampled for seat in self.seats.values()) - sum(seat.new_tokens for seat in self._trained)

    @property
    def verdicts(self) -> list[Verdict]:
        """Of each trained seat that spoke; without a score where the episode has failed, and one at least then."""
        return self._verdicts(self._trained)

    def responses(self) -> list[Response]:
        """What its trained seats said, with their verdicts; the first has what the episode has left."""
        trained = self._trained
        verdicts = self._verdicts(trained)
        if not trained:
            return [self._nothing(verdicts[0])]
        first, *others = [seat.said(verdict) for seat, verdict in zip(trained, verdicts, strict=True)]
        if not self.left or self.failure:
            return [first, *others]
        trajectories = replace(first.trajectories[0], left=self.left), *first.trajectories[1:]
        return [first._replace(trajectories=trajectories), *others]

    def forget(self) -> None:
        """Lets go of the seats, which hold it in turn: what refers to itself costs Python a search to free. Nothing is
        behind their addresses any more."""
        for seat in self.seats.values():
            seat.shut()
        self.seats.clear()

    @property
    def _trained(self) -> list["Seat"]:
        return [seat for seat in self.seats.values() if seat.trained and seat.is_response]

    def _verdicts(self, trained: Sequence["Seat"]) -> list[Verdict]:
        if not self.failure:
            try:
                return self._found(trained)
            except Misuse as problem:
                self.fail(f"{self.means.where}: {problem}")
        return [Verdict(outcome=Outcome.ERROR, score=None, why=self.failure)] * max(1, len(trained))

    def _found(self, trained: Sequence["Seat"]) -> list[Verdict]:
        """What the environment returned, as a verdict on each seat.

        Raises:
            Misuse: one has none, or something else than a score or a verdict.
        """
        found = self.found
        if not trained:
            raise Misuse("returned before a seat that is trained had spoken")
        if isinstance(found, Verdict) or not isinstance(found, Mapping):
            return [self._verdict(found, "")] * len(trained)
        if unknown := [name for name in found if name not in self.seats]:
            raise Misuse(f"returned a score of {unknown[0]!r}, and the seats are {', '.join(self.seats)}")
        if lacking := [seat.name for seat in trained if seat.name not in found]:
            raise Misuse(f"returned no score of the seat {lacking[0]!r}")
        return [self._verdict(found[seat.name], f" of the seat {seat.name!r}") for seat in trained]

    def _verdict(self, found: Any, whose: str) -> Verdict:
        if isinstance(found, Verdict):
            return storable(found)
        if isinstance(found, bool | np.bool_):
            found = self.means.correct if found else self.means.wrong
        number = found.item() if getattr(found, "ndim", None) == 0 and hasattr(found, "item") else found
        if not isinstance(number, int | float) or not math.isfinite(number):
            forgotten = "; does every way through it return something?" if found is None else ""
            raise Misuse(f"returned {found!r:.200}: expected a score{whose}, True, False or a verdict{forgotten}")
        outcome = Outcome.CORRECT if number > 0 else Outcome.WRONG
        return Verdict(outcome=outcome, score=float(number), why="the score of the environment")

    def _nothing(self, lost: Verdict) -> Response:
        """Where nothing was said: the prompt alone, so that people find out which it was."""
        prompt = self.task.prompt
        tokens = np.zeros(1, np.int32) if prompt is None else prompt.tokens
        empty = Trajectory(
            tokens=tokens,
            sampled=np.zeros(tokens.size, bool),
            logprobs=np.zeros(tokens.size, np.float32),
            versions=np.full(tokens.size, -1, np.int32),
            finish=Finish.ABORT,
            text="",
            episode=self.whose.episode,
            seat=self.whose.seat,
            siblings=self.whose.siblings,
        )
        return Response((empty,), (), lost)


def storable(verdict: Verdict) -> Verdict:
    """The verdict, or one that says why it cannot be stored."""
    fault = fault_of(verdict)
    why = f"the reward gave what cannot be stored: {fault}"
    return Verdict(outcome=Outcome.ERROR, score=None, why=why) if fault else verdict

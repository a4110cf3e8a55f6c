"""Evaluation on held-out prompts by the run's own generators, outside the ledger: nothing of it is trained on."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.disk import append
from actors.errors import RolloutFailed
from actors.pool import GeneratorPool
from actors.types import Prompt, Purpose, RolloutRequest
from cluster.preparing.data import benchmark_of
from cluster.reporting.words import counted
from cluster.running.room import Room
from rewards import Outcome


def requests_for(prompts: Sequence[Prompt], samples: int) -> list[RolloutRequest]:
    """A request for each prompt, numbered from 0: its seeds are the same in every evaluation."""
    return [
        RolloutRequest(group=number, prompt=prompt, visit=0, purpose=Purpose.EVALUATION, responses=samples)
        for number, prompt in enumerate(prompts)
    ]


def _nobody(done: int, prompts: int) -> None:
    """Is told how many prompts are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The responses of several groups that have a score."""

    responses: int
    correct: int

    @classmethod
    def of(cls, groups: Sequence[Sequence[Outcome]]) -> "Scored":
        """Of groups with these outcomes."""
        outcomes = [outcome for group in groups for outcome in group if outcome.scored]
        return cls(responses=len(outcomes), correct=sum(outcome is Outcome.CORRECT for outcome in outcomes))

    @property
    def accuracy(self) -> float:
        """Share of the correct ones; 0 without any."""
        return self.correct / max(1, self.responses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What an evaluation found."""

    step: int
    prompts: int
    scored: Scored

    @property
    def line(self) -> str:
        """A line for a person."""
        found = self.scored
        return (
            f"held-out accuracy after step {self.step}: {found.accuracy:.3f} ({found.correct} of "
            f"{counted(found.responses, 'response')} to {counted(self.prompts, 'prompt')})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """Samples the same prompts with the same seeds every time, so that two evaluations differ by the weights only."""

    pool: GeneratorPool
    prompts: Sequence[Prompt]
    samples: int  # responses to each
    file: Path  # a line for each evaluation
    room: Room  # for that line

    async def run(
        self, step: int, tokens: int, wall_seconds: float, advance: Callable[[int, int], None] = _nobody
    ) -> Evaluated:
        """What the live weights get right; a line of the file.

        Args:
            step: training steps so far.
            tokens: tokens sampled for training so far.
            wall_seconds: since the first step began.
            advance: is told how many of the prompts are done.

        A prompt that fails twice gives no response; the line says how many there were.
        """
        requests = requests_for(self.prompts, self.samples)
        began, done = time.monotonic(), 0

        async def outcomes_of(request: RolloutRequest) -> tuple[Outcome, ...]:
            nonlocal done
            found = await self._outcomes(request)
            done += 1
            advance(done, len(requests))
            return found

        graded = await asyncio.gather(*map(outcomes_of, requests))
        found = Evaluated(step=step, prompts=len(requests), scored=Scored.of(graded))
        each = [Scored.of([group]) for group in graded]
        line: dict[str, Any] = {
            "step": step,
            "tokens": tokens,
            "wall_seconds": wall_seconds,
            "seconds": time.monotonic() - began,
            "prompts": len(requests),
            "responses": found.scored.responses,
            "correct": found.scored.correct,
            "accuracy": found.scored.accuracy,
            "by_prompt": [[one.correct, one.responses] for one in each],
        }
        names = [benchmark_of(prompt.id) for prompt in self.prompts]
        if any(names):
            line["benchmarks"] = {
                name: Scored.of([group for own, group in zip(names, graded, strict=True) if own == name]).accuracy
                for name in dict.fromkeys(names)
            }
        await self.room.wait_for(lambda: asyncio.to_thread(append, self.file, json.dumps(line)))
        return found

    async def _outcomes(self, request: RolloutRequest) -> tuple[Outcome, ...]:
        try:
            summary, _ = await self.pool.rollout(request)
        except RolloutFailed:
            return ()
        return summary.outcomes

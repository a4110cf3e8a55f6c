"""Evaluation on held-out prompts by the run's own generators, outside the ledger: nothing of it is trained on."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.disk import append
from actors.errors import RolloutFailed
from actors.pool import GeneratorPool
from actors.types import Prompt, Purpose, RolloutRequest
from cluster.reporting.words import counted
from cluster.running.room import Room
from rewards import Outcome


def _nobody(done: int, prompts: int) -> None:
    """Is told how many prompts are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What an evaluation found."""

    step: int
    prompts: int
    responses: int  # that were judged
    correct: int  # of these

    @property
    def accuracy(self) -> float:
        """Over all judged responses."""
        return self.correct / max(1, self.responses)

    @property
    def line(self) -> str:
        """A line for a person."""
        return (
            f"held-out accuracy after step {self.step}: {self.accuracy:.3f} ({self.correct} of "
            f"{counted(self.responses, 'response')} to {counted(self.prompts, 'prompt')})"
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
        requests = [
            RolloutRequest(group=number, prompt=prompt, visit=0, purpose=Purpose.EVALUATION, responses=self.samples)
            for number, prompt in enumerate(self.prompts)
        ]
        done = 0

        async def outcomes_of(request: RolloutRequest) -> tuple[Outcome, ...]:
            nonlocal done
            found = await self._outcomes(request)
            done += 1
            advance(done, len(requests))
            return found

        graded = await asyncio.gather(*map(outcomes_of, requests))
        outcomes = [outcome for group in graded for outcome in group if outcome.scored]
        correct = sum(outcome is Outcome.CORRECT for outcome in outcomes)
        found = Evaluated(step=step, prompts=len(requests), responses=len(outcomes), correct=correct)
        line = {
            "step": step,
            "tokens": tokens,
            "wall_seconds": wall_seconds,
            "prompts": found.prompts,
            "responses": found.responses,
            "correct": found.correct,
            "accuracy": found.accuracy,
        }
        await self.room.wait_for(lambda: asyncio.to_thread(append, self.file, json.dumps(line)))
        return found

    async def _outcomes(self, request: RolloutRequest) -> tuple[Outcome, ...]:
        try:
            summary, _ = await self.pool.rollout(request)
        except RolloutFailed:
            return ()
        return summary.outcomes

"""One evaluation on held-out prompts, outside the ledger: nothing of it is trained on."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.disk import append
from actors.errors import RolloutFailed
from actors.pool import GeneratorPool
from actors.types import Prompt, Purpose, RolloutRequest, Summary
from cluster.preparing.data import benchmark_of
from cluster.reporting.words import counted
from cluster.running.room import Room
from cluster.running.state import Counters
from rewards import Outcome


def requests_for(prompts: Sequence[Prompt], samples: int) -> list[RolloutRequest]:
    """A request for each prompt, numbered from 0: its seeds are the same in every evaluation."""
    return [
        RolloutRequest(group=number, prompt=prompt, visit=0, purpose=Purpose.EVALUATION, responses=samples)
        for number, prompt in enumerate(prompts)
    ]


def read_evaluations(file: Path) -> dict[int, dict[str, Any]]:
    """step -> its line in a run's file of evaluations, the last one that is whole; nothing without a file."""
    found = {}
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        with suppress(ValueError, KeyError, TypeError):
            tree = json.loads(line)
            found[int(tree["step"])] = tree
    return found


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
    seconds: float  # that it took
    waited: float  # seconds that training waited for it
    evaluators: int

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

    prompts: Sequence[Prompt]
    samples: int  # responses to each
    file: Path  # a line for each evaluation
    room: Room  # for that line

    async def run(
        self,
        pool: GeneratorPool,
        at: Counters,
        waited: Callable[[], float],
        advance: Callable[[int, int], None] = _nobody,
        evaluators: int = 0,
    ) -> Evaluated:
        """What the weights of a step get right; a line of the file.

        Args:
            pool: generators that hold these weights until it is over.
            at: how far the run is.
            waited: gives how many seconds training has waited for it when its prompts are done.
            advance: is told how many of the prompts are done.
            evaluators: how many generators evaluate alone; 0 where they are those that sample for training.

        A prompt that fails twice gives no response; the line says how many there were.

        Raises:
            BrokenPart: no generator is left.
            RuntimeError: a generator sampled with other weights.
        """
        requests = requests_for(self.prompts, self.samples)
        began, done = time.monotonic(), 0

        async def outcomes_of(request: RolloutRequest) -> tuple[Outcome, ...]:
            nonlocal done
            found = await self._outcomes(pool, request, at.step)
            done += 1
            advance(done, len(requests))
            return found

        graded = await asyncio.gather(*map(outcomes_of, requests))
        found = Evaluated(
            step=at.step,
            prompts=len(requests),
            scored=Scored.of(graded),
            seconds=time.monotonic() - began,
            waited=waited(),
            evaluators=evaluators,
        )
        line = json.dumps(self._line(found, at, graded))
        await self.room.wait_for(lambda: asyncio.to_thread(append, self.file, line))
        return found

    def evaluated(self) -> dict[int, dict[str, Any]]:
        """The lines of the file, by step."""
        return read_evaluations(self.file)

    def _line(self, found: Evaluated, at: Counters, graded: Sequence[Sequence[Outcome]]) -> dict[str, Any]:
        each = [Scored.of([group]) for group in graded]
        line: dict[str, Any] = {
            "step": at.step,
            "version": at.step,
            "tokens": at.tokens,
            "wall_seconds": at.seconds,
            "seconds": found.seconds,
            "waited": found.waited,
            "evaluators": found.evaluators,
            "prompts": found.prompts,
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
        return line

    async def _outcomes(self, pool: GeneratorPool, request: RolloutRequest, version: int) -> tuple[Outcome, ...]:
        try:
            summary, _ = await pool.rollout(request)
        except RolloutFailed:
            return ()
        _check_version(summary, version)
        return summary.outcomes


def _check_version(summary: Summary, version: int) -> None:
    if summary.oldest_version not in (version, -1):
        raise RuntimeError(
            f"a response of the evaluation after step {version} is of the weights of step {summary.oldest_version}: "
            "this is a mistake in winnow"
        )

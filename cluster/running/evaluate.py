"""Evaluation on held-out prompts by the run's own generators, outside the ledger: nothing of it is trained on."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.disk import append
from actors.errors import RolloutFailed
from actors.pool import GeneratorPool
from actors.types import Prompt, Purpose, RolloutRequest
from cluster.running.room import Room
from rewards import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """Samples the same prompts with the same seeds every time, so that two evaluations differ by the weights only."""

    pool: GeneratorPool
    prompts: Sequence[Prompt]
    samples: int  # responses to each
    file: Path  # a line for each evaluation
    room: Room  # for that line

    async def run(self, step: int, tokens: int, wall_seconds: float) -> float:
        """Accuracy over all judged responses under the live weights; a line of the file.

        Args:
            step: training steps so far.
            tokens: tokens sampled for training so far.
            wall_seconds: since the first step began.

        A prompt that fails twice gives no response; the line says how many there were.
        """
        requests = [
            RolloutRequest(group=number, prompt=prompt, visit=0, purpose=Purpose.EVALUATION, responses=self.samples)
            for number, prompt in enumerate(self.prompts)
        ]
        graded = await asyncio.gather(*(self._outcomes(request) for request in requests))
        scored = [[outcome for outcome in group if outcome.scored] for group in graded]
        by_prompt = [[group.count(Outcome.CORRECT), len(group)] for group in scored]
        correct, responses = (sum(counts) for counts in zip(*by_prompt, strict=True))
        accuracy = correct / max(1, responses)
        line = {
            "step": step,
            "tokens": tokens,
            "wall_seconds": wall_seconds,
            "prompts": len(requests),
            "responses": responses,
            "correct": correct,
            "accuracy": accuracy,
            "by_prompt": by_prompt,  # of each prompt how many responses are correct, and how many were judged
        }
        await self.room.wait_for(lambda: asyncio.to_thread(append, self.file, json.dumps(line)))
        return accuracy

    async def _outcomes(self, request: RolloutRequest) -> tuple[Outcome, ...]:
        try:
            summary, _ = await self.pool.rollout(request)
        except RolloutFailed:
            return ()
        return summary.outcomes

"""The JSON file of an evaluation: made of what prompts came to, written at the beginning, and at its end, however it
ends."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.types import Prompt
from cluster.config.run_config import RunConfig
from cluster.evaluating.against import FORMAT, KIND, compared
from cluster.evaluating.answers import Answered
from cluster.evaluating.figures import Benchmark, Figures, figures_of, mean_figures
from cluster.evaluating.grading import no_vote_because
from cluster.evaluating.statistics import majority
from cluster.evaluating.subject import Subject
from cluster.preparing.data import benchmark_of, heldout_sets
from cluster.preparing.preflight import PreparedEvaluation

HELDOUT = "heldout"  # what a benchmark is called that has no name of its own
SHOWN = 200  # characters of a prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is evaluated, and what there is to know of it before it begins."""

    subject: Subject
    config: RunConfig
    inputs: PreparedEvaluation
    folder: Path

    @property
    def prompts(self) -> Sequence[Prompt]:
        """Of all benchmarks; a group has the number of its prompt here."""
        return self.inputs.prepared.heldout

    def result(
        self, answered: Mapping[int, Answered], seconds: float, against: Mapping[str, Any] | None = None
    ) -> Figures:
        """The content of the file.

        Args:
            answered: prompts that are done, by their number.
            seconds: that sampling took.
            against: another evaluation, to compare with.
        """
        config = self.config
        benchmarks = {name: self._benchmark(name, answered) for name in self.inputs.sets}
        models = list(config.scoring_models)
        found: Figures = {
            "kind": KIND,
            "format": FORMAT,
            "complete": len(answered) == len(self.prompts),
            "subject": {
                "model": self.subject.model,
                "run": str(self.subject.run) if self.subject.run else None,
                "step": self.subject.step,
            },
            "folder": str(self.folder),
            "sampling": {
                "samples": config.eval.samples,
                "temperature": config.rollout.temperature,
                "max_new_tokens": config.rollout.max_new_tokens,
                "seed": config.run.seed,
                "reward": config.reward.name,
                "environment": config.rollout.environment,
            },
            "seconds": seconds,
            "benchmarks": {name or HELDOUT: figures_of(each, models) for name, each in benchmarks.items()},
            "mean": mean_figures(list(benchmarks.values())),
            "prompts": [self._row(answered[number]) for number in sorted(answered)],
        }
        return found | {"against": compared(against, found) if against is not None else None}

    def _benchmark(self, name: str, answered: Mapping[int, Answered]) -> Benchmark:
        config, loaded = self.config, self.inputs.sets[name]
        numbers = [number for number, prompt in enumerate(self.prompts) if benchmark_of(prompt.id) == name]
        rewards = sorted({self.prompts[number].reward for number in numbers})
        whys = [no_vote_because(reward, config.reward, config.rollout.environment) for reward in rewards]
        return Benchmark(
            data=", ".join(heldout_sets(config)[name].paths),
            samples=config.eval.samples,
            wanted=len(numbers),
            left_out=loaded.left_out,
            answered=[answered[number] for number in numbers if number in answered],
            no_vote_because=next(filter(None, whys), ""),
        )

    def _row(self, answered: Answered) -> Figures:
        prompt, vote = self.prompts[answered.number], answered.vote
        text = prompt.question or prompt.text
        tokens = [response.tokens for response in answered.responses]
        return {
            "benchmark": benchmark_of(prompt.id) or HELDOUT,
            "id": prompt.id,
            "prompt": text[:SHOWN],
            "digest": hashlib.sha256(f"{text}\0{prompt.reference}".encode("utf-8", "surrogatepass")).hexdigest()[:16],
            "responses": len(answered.responses),
            "scored": answered.scored,
            "correct": answered.correct,
            "tokens": float(np.mean(tokens)) if tokens else None,
            "majority": majority(vote.correct, vote.others) if vote else None,
            "failure": answered.failure,
        }


def write_result(result: Mapping[str, Any], file: Path) -> None:
    """The whole file, or that which was there.

    Raises:
        OSError: it cannot be written.
    """
    new = file.with_name(f".{file.name}.new")
    text = json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False).encode("utf-8", "backslashreplace")
    new.write_bytes(text + b"\n")
    os.replace(new, file)

"""Folders as runs leave them, made without a run."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.arrow import packed
from actors.filtering.recorder import Recorder
from actors.types import Finish, Group, Prompt, Trajectory
from cluster.reporting.metric_table import METRICS
from rewards import Outcome, Verdict

SETTINGS = """
[run]
name = "made"
steps = {steps}
[model]
path = "somewhere/model"
[data]
path = "data.jsonl"
[learner]
algorithm = "grpo"
"""


def run_folder(
    folder: Path,
    steps: int = 6,
    *,
    planned: int | None = None,
    changes: Mapping[int, Mapping[str, Any]] | None = None,
    evals: Sequence[Mapping[str, Any]] | None = None,
    groups: Mapping[int, Sequence[Group]] | None = None,
    refused: Mapping[int, Sequence[Group]] | None = None,
) -> Path:
    """The folder of a run.

    Args:
        folder: is made.
        steps: that it has done.
        planned: `run.steps`; unset, as many.
        changes: what is other than in `metrics_line`, by step.
        evals: lines of evals.jsonl; unset, one at the beginning and one at the end.
        groups: that were trained on, by step.
        refused: that the filter refused because all responses were wrong, by step.
    """
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(SETTINGS.format(steps=steps if planned is None else planned))
    lines = [metrics_line(number) | dict((changes or {}).get(number, {})) for number in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = [evaluation(0, 40), evaluation(steps, 70)] if evals is None else evals
    (folder / "evals.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    if groups or refused:
        recorder = Recorder(folder / "trajectories")
        for step in range(1, steps + 1):
            recorder.write([packed(group) for group in (groups or {}).get(step, ())], "")
            recorder.write([packed(group) for group in (refused or {}).get(step, ())], "all_wrong")
            recorder.close_step(step)
        recorder.close(steps + 1)
    return folder


def metrics_line(number: int) -> dict[str, Any]:
    """The metrics of a step of a run that learns, with some noise."""
    noise = random.Random(number)
    way = 1 - math.exp(-number / 200)
    share = min(0.95, 0.3 + 0.6 * way + noise.gauss(0, 0.02))
    line: dict[str, Any] = dict.fromkeys(METRICS, 0.0)
    line |= {
        "step": number,
        "version": number,
        "updates": 2 * number,
        "wall_seconds": 9.0 * number,
        "step_ended_at": 1.8e9 + 9 * number,
        "reward_mean": 2 * share - 1,
        "reward_trained": noise.gauss(0, 0.03),
        "accuracy": share,
        "eval_accuracy": None,
        "groups_dispatched": 24 * number,
        "groups_kept": 16 * number,
        "groups_trained": 16 * number,
        "groups_all_correct": 2 * number,
        "groups_all_wrong": 5 * number,
        "groups_dropped": number,
        "verifier_disagreement": None,
        "turns_mean": None,
        "response_tokens_mean": 180 + 60 * way + noise.gauss(0, 4),
        "response_tokens_kept": 190 + 50 * way + noise.gauss(0, 4),
        "tokens_generated": 30_000,
        "tokens_trained": 20_000,
        "tokens_per_second": 3_300,
        "entropy": 0.9 - 0.5 * way + noise.gauss(0, 0.01),
        "kl_start": 0.08 * way,
        "mismatch_kl": 1e-4 * (1 + noise.random()),
        "probe_gap": 1e-2 * (1 + noise.random()),
        "probe_gap_mean": 1e-3 * (1 + noise.random()),
        "seconds_wait": 3 + noise.random(),
        "seconds_wait_verify": 0.4 * noise.random(),
        "seconds_train": 4 + noise.random(),
        "seconds_sync": 0.4,
        "seconds_other": 0.2,
        "bottleneck": "train",
        "dropped": {"deadline": number},
    }
    return line


def evaluation(step: int, correct: int, prompts: int = 50, samples: int = 2) -> dict[str, Any]:
    """A line of evals.jsonl: the first prompts are the easy ones."""
    by_prompt = [[min(samples, max(0, correct - samples * place)), samples] for place in range(prompts)]
    return {
        "step": step,
        "tokens": 30_000 * step,
        "wall_seconds": 9.0 * step,
        "prompts": prompts,
        "responses": prompts * samples,
        "correct": correct,
        "accuracy": correct / (prompts * samples),
        "by_prompt": by_prompt,
    }


def graded_group(
    number: int, prompt_id: str, outcomes: Sequence[str], *, prompt: str = "1+1=", response: str = "2", why: str = ""
) -> Group:
    """A group whose responses ended so; each has three prompt tokens and as many sampled ones as its place says."""
    asked = _prompt(prompt_id, prompt)
    return Group(
        id=number,
        prompt=asked,
        trajectories=tuple(_trajectory(asked, response, place) for place in range(len(outcomes))),
        verdicts=tuple(_verdict(Outcome(outcome), why) for outcome in outcomes),
    )


def _prompt(prompt_id: str, text: str) -> Prompt:
    return Prompt(id=prompt_id, tokens=np.arange(3, dtype=np.int32), text=text, reward="number", reference="2")


def _trajectory(asked: Prompt, text: str, place: int) -> Trajectory:
    size = 3 + place + 1
    sampled = np.arange(size) >= 3
    return Trajectory(
        tokens=np.arange(size, dtype=np.int32),
        sampled=sampled,
        logprobs=np.where(sampled, -0.5, 0.0).astype(np.float32),
        versions=np.where(sampled, 0, -1).astype(np.int32),
        finish=Finish.STOP,
        text=text,
    )


def _verdict(outcome: Outcome, why: str) -> Verdict:
    score = {Outcome.CORRECT: 1.0, Outcome.TIMEOUT: None, Outcome.ERROR: None}.get(outcome, -1.0)
    return Verdict(outcome=outcome, score=score, why=why)

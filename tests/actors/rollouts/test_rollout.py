"""A generator around an engine of paper: which responses it samples, and which it spares."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from actors.filtering.rules import RULES
from actors.rollouts.generator import Generator, sample_seed
from actors.settings import GeneratorSettings, RolloutSettings
from actors.types import EngineSpec, Order, Prompt, SamplingSpec, Summary, Trajectory
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of, load_config
from rewards import Question, RewardSettings, Verdict
from tests.builders import prompt, trajectory, verdict

PAPER = EngineSpec(
    model="", dtype="float32", seed=0, max_model_len=64, tensor_parallel=1, backend="", on_cpu=True,
    engine=GeneratorSettings(),
)  # fmt: skip
ORDER = Order(group=3, prompt=prompt("7"), visit=1)


class Engine:
    """Answers sample number n with the text of the n-th score, and keeps the number."""

    def __init__(self, scores: list[float | None]) -> None:
        self.scores, self.sampled = scores, list[int]()
        self._numbers = {sample_seed(0, "7", 1, number): number for number in range(-1, len(scores))}

    async def sample(self, prompt: Prompt, rollout: RolloutSettings, seed: int, greedy: bool = False) -> Trajectory:
        number = self._numbers[seed]
        assert greedy is (number < 0)
        self.sampled.append(number)
        return replace(trajectory([10 + number] * (number + 2)), text=str(self.scores[max(number, 0)]))


class OnPaper(Generator):
    def __init__(self, scores: list[float | None]) -> None:
        async def grade(questions: list[Question]) -> list[Verdict]:
            texts = [question.case.response for question in questions]
            return [verdict(None if text == "None" else float(text)) for text in texts]

        super().__init__(PAPER, [SimpleNamespace(grade=SimpleNamespace(remote=grade))])
        self.engine: Any = Engine(scores)

    async def start(self) -> None:
        self._started = self.engine


async def rolled(
    scores: list[float | None], first: int, drop: str = "both", greedy: bool = False, size: int = 0
) -> tuple[Summary, Any, list[int]]:
    """A group with these scores where all are sampled: its summary, as it travels, and which samples were drawn."""
    generator = OnPaper(scores)
    await generator.start()
    rollout = RolloutSettings(group_size=len(scores), first_stage=first)
    run = SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(), greedy=greedy, drop=RULES[drop])
    await generator.begin(run)
    summary, batch = await generator.rollout(replace(ORDER, size=size))
    return summary, batch, sorted(generator.engine.sampled)


@pytest.mark.parametrize("score", [1.0, -1.0])
async def test_a_first_stage_that_is_all_equal_spares_the_rest(score: float) -> None:
    summary, _, sampled = await rolled([score, score, -score, -score], first=2)
    assert sampled == [0, 1]
    assert summary.scores == (score, score)
    assert len(summary.outcomes) == len(summary.lengths) == 2
    assert RULES["both"](np.array(summary.scores))  # so the filter rejects it


@pytest.mark.parametrize("greedy", [False, True])
async def test_a_group_that_goes_on_is_the_one_that_would_have_been_sampled_at_once(greedy: bool) -> None:
    scores: list[float | None] = [1.0, -1.0, 1.0, 1.0]
    _, staged, sampled = await rolled(scores, first=2, greedy=greedy)
    _, whole, all_sampled = await rolled(scores, first=0, greedy=greedy)
    assert staged.equals(whole)
    assert sampled == all_sampled == list(range(-greedy, 4))


@pytest.mark.parametrize(
    ("drop", "spared"),
    [("both", (True, True)), ("all-wrong", (False, True)), ("all-correct", (True, False)), ("none", (False, False))],
)
async def test_only_what_the_filter_would_reject_is_spared(drop: str, spared: tuple[bool, bool]) -> None:
    for score, fewer in zip((1.0, -1.0), spared, strict=True):
        summary, _, _ = await rolled([score] * 4, first=2, drop=drop)
        assert len(summary.outcomes) == (2 if fewer else 4)


async def test_a_first_stage_without_two_verdicts_decides_nothing() -> None:
    summary, _, _ = await rolled([None, 1.0, 1.0, 1.0], first=2)
    assert len(summary.outcomes) == 4


async def test_an_evaluation_and_a_spared_group_get_no_more_than_they_ask_for() -> None:
    assert (await rolled([1.0] * 4, first=2, greedy=True))[2] == [0, 1]
    assert (await rolled([1.0] * 4, first=2, greedy=True, size=3))[2] == [0, 1, 2]


def test_a_first_stage_must_leave_a_rest() -> None:
    for value in (1, 8, -2):
        with pytest.raises(
            ConfigError, match=rf"rollout\.first_stage must be 0, or at least 2 and below .* got {value}"
        ):
            config_of({"world": {"name": "addition"}, "rollout": {"first_stage": value}})


@pytest.mark.ray
def test_in_a_whole_run_kept_groups_are_whole_and_spared_ones_are_rejected(tmp_path: Path) -> None:
    from cluster.running.train import train

    overrides = ["world.digits=1", "warmup.updates=120", "rollout.groups_per_step=8", "run.steps=3"]
    overrides += ["learner.updates_per_step=1", f"run.folder={tmp_path}", "cluster.device=cpu"]
    overrides += ["rollout.first_stage=2", "rollout.choose=likely-mixed"]
    folder = train(load_config(Path(__file__).parents[3] / "deploy/runs/demo.toml", overrides))
    rows = [row for path in folder.glob("trajectories/*/groups.parquet") for row in pq.read_table(path).to_pylist()]
    sizes: dict[str, set[int]] = {"": set(), "all_correct": set(), "all_wrong": set(), "never trained": set()}
    for number in {row["group"] for row in rows}:
        group = [row for row in rows if row["group"] == number]
        sizes[group[0]["rejected"]].add(len(group))
    assert sizes[""] == {8}
    assert sizes["never trained"] <= {8}
    assert sizes["all_correct"] | sizes["all_wrong"] == {2}

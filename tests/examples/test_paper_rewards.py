"""The recipes whose rewards are models of their own: of steps, of responses, and judges. Nothing is trained."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.config.reading import load_config
from examples.papers.additions import RIGHT, divided, graded, steps
from examples.papers.judges import data as judges
from examples.papers.run import HERE
from examples.papers.step_rewards import data as step_rewards
from rewards import Case, JudgeSettings, Outcome
from rewards.models.judges import read
from tests.examples.test_paper_recipes import Told, rows_of

FORGOTTEN = ["5+7+0=12", "1+2+0=3", "32"]  # of 15+27, whose carry is forgotten


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def test_what_is_graded_is_right_at_times_and_what_people_say_at_others() -> None:
    draw, right = random.Random(0), steps(15, 27)
    said = [graded(15, 27, draw) for _ in range(400)]
    assert RIGHT < sum(one == right for one in said) / len(said) < RIGHT + 0.3
    assert FORGOTTEN in said
    assert steps(15, 27, later_slip=-1, forgets=True) not in said  # people get all sums right


# --------------------------------------------------------------------------------------------------- rewards of steps


def test_each_step_is_right_as_it_is_the_right_one() -> None:
    right = steps(15, 27)
    found = [step_rewards.labelled("15+27=", right, said) for said in (right, FORGOTTEN)]
    assert [row["labels"] for row in found] == [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]


def test_the_models_that_grade_read_right_and_wrong_responses(worlds: Callable[[Any], Path]) -> None:
    world = worlds(step_rewards)
    labels = [label for row in rows_of(world / "steps.jsonl") for label in row["labels"]]
    assert 0.5 < sum(labels) / len(labels) < 0.9
    for row in rows_of(world / "pairs.jsonl")[:200]:
        left, right = map(int, row["prompt"].removesuffix("=").split("+"))
        assert row["chosen"] == divided(steps(left, right))
        assert row["rejected"]
        assert row["chosen"] not in row["rejected"]


def test_the_policy_learns_by_three_rewards_of_two_models_that_begin_as_it_does(told: Told) -> None:
    step_rewards.run(told)
    kinds = [words[:2] for words in told.told]
    models = [("reward-model", f"{file}.toml") for file in step_rewards.MODELS.values()]
    assert kinds == [("train", "policy.toml"), *models, *(("train", f"{file}.toml") for file in step_rewards.REWARDS)]
    assert told.told[-1][2:] == (
        f"model.path={told.folder}/run1/warmup",
        f"reward.process.path={told.folder}/run2/checkpoints/step-10",
        f"reward.model.path={told.folder}/run3/checkpoints/step-10",
    )


def test_what_is_held_out_is_graded_by_its_answer_and_the_rest_by_the_reward_of_the_run_file(
    worlds: Callable[[Any], Path],
) -> None:
    train, held_out = (rows_of(worlds(step_rewards) / f"{name}.jsonl")[0] for name in ("train", "heldout"))
    for file, reward in step_rewards.REWARDS.items():
        config = load_config(HERE / f"step_rewards/{file}.toml")
        assert (train[config.data.reward_column], held_out[config.data.reward_column]) == (reward, "number")
        assert config.reward.process.aggregate == ("min" if file == "product" else "mean")


# -------------------------------------------------------------------------------------------------------------- judges


@pytest.mark.parametrize("said", [steps(15, 27), FORGOTTEN])
def test_the_judge_s_verdicts_are_read_as_they_are_meant(said: list[str]) -> None:
    true, case = steps(15, 27), Case(response=divided(said), reference="", question="15+27=")
    outcome = Outcome.CORRECT if said == true else Outcome.WRONG
    for prompt in judges.PROMPTS:
        settings = JudgeSettings(path="of the run", prompt=prompt)
        assert read(judges.verdict(said, true, prompt), case, settings).outcome is outcome
    spans = read(judges.verdict(said, true, "spans"), case, JudgeSettings(path="of the run", prompt="spans"))
    values = [1.0 if one == other else -1.0 for one, other in zip(said, true, strict=True)]
    assert [(case.response[span.start : span.end], span.value) for span in spans.span_rewards] == [
        *zip(said, values, strict=True)
    ]


def test_the_judge_can_read_question_and_response_and_say_every_verdict(worlds: Callable[[Any], Path]) -> None:
    from transformers import AutoTokenizer

    folder = worlds(judges)
    tokenizer = AutoTokenizer.from_pretrained(folder / "judge_model")
    for row in rows_of(folder / "verdicts.jsonl")[:40]:
        asked, answer = (message["content"] for message in row["messages"])
        assert tokenizer.decode(tokenizer(answer)["input_ids"]) == answer
        question, response = re.findall(r"```\n(.*?)\n```", asked, re.DOTALL)
        for text in (question, response):
            assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    ends = {row["answer"].splitlines()[-1] for row in rows_of(folder / "judged.jsonl")}
    assert ends == {"yes", "no", "```"}


def test_one_judge_serves_both_policies_and_sees_no_reference(told: Told, worlds: Callable[[Any], Path]) -> None:
    judges.run(told)
    assert [words[1] for words in told.told] == ["judge.toml", "policy.toml", "yes_or_no.toml", "spans.toml"]
    begun = (f"model.path={told.folder}/run2/warmup", f"reward.judge.path={told.folder}/run1/warmup")
    assert [words[2:] for words in told.told[2:]] == [begun, begun]
    assert rows_of(worlds(judges) / "train.jsonl")[0].keys() == {"prompt", "reward"}

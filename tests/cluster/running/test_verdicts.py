"""Runs whose verifiers fail on purpose, and runs that are graded by a language model: nothing false is trained on."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.errors import Starved
from actors.filtering.ledger import check_conservation
from tests.runs import Runs, demo, metrics_of, responses_of

pytestmark = pytest.mark.ray

# Fails on a third of the responses, each in its own way; the rest is graded as `number` grades it.
FAILING = """
import hashlib, os, time
from rewards import Case
from rewards.answers.text import number

def reward(response, reference, prompt):
    fate = hashlib.blake2b(f"{prompt}{response}".encode(), digest_size=1).digest()[0] % 12
    if fate == 0:
        while True:
            pass
    if fate == 1:
        os._exit(9)
    if fate < 4:
        raise RuntimeError("on purpose")
    return number(Case(response=response, reference=reference))
"""


Lines = list[dict[str, Any]]


def outcome_of(runs: Runs, tmp_path: Path, *overrides: str) -> tuple[Lines, Lines]:
    """(metrics, all graded responses) of a short run of the demo's world."""
    folder = runs.train(demo(tmp_path, *overrides))
    return metrics_of(folder), responses_of(folder)


def test_a_run_with_failing_verifiers_trains_on_nothing_false(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(FAILING)
    settings = ("reward.name=own", f"reward.own.file={tmp_path}/mine.py", "reward.seconds=2", "run.steps=2")
    lines, rows = outcome_of(runs, tmp_path, *settings)
    for line in lines:
        check_conservation(line)
    failed = [row for row in rows if row["outcome"] in ("timeout", "error")]
    assert {row["outcome"] for row in failed} == {"timeout", "error"}
    assert all(row["score"] is None for row in failed)
    assert any("on purpose" in row["why"] for row in failed)
    assert any("status 9" in row["why"] for row in failed)
    for row in rows:  # every verdict that there is is the right one
        if row["outcome"] == "correct":
            assert re.findall(r"\d+", row["response"])[-1] == row["reference"]
    trained = [row for row in rows if row["rejected"] == "" and row["score"] is not None]
    assert sum(sum(row["sampled"]) for row in trained) == sum(line["tokens_trained"] for line in lines)
    groups: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    for group in groups.values():  # a failure is no wrong answer: it neither makes a group all wrong nor saves one
        scores = [row["score"] for row in group if row["score"] is not None]
        if group[0]["rejected"] == "all_wrong":
            assert max(scores) < 0
        if group[0]["rejected"] == "":
            assert min(scores) < 0 < max(scores)
    assert sum(line["responses_timeout"] + line["responses_error"] for line in lines) > 0
    said = capsys.readouterr().out
    assert said.count("a response has no verdict") == 1


def test_a_verifier_that_always_fails_ends_the_run_with_its_reason(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What is tried before the start holds a box; what the model says does not.
    (tmp_path / "mine.py").write_text(
        "def reward(response, reference, prompt):\n    return 1 / ('boxed' in response)\n"
    )
    settings = ("reward.name=own", f"reward.own.file={tmp_path}/mine.py", "warmup.updates=0")
    with pytest.raises(Starved, match="16 groups in a row could not be judged"):
        outcome_of(runs, tmp_path, *settings)
    said = capsys.readouterr().out
    assert "ZeroDivisionError: division by zero" in said
    assert "mine.py" in said


STEPS = """
from rewards import RewardResult, SpanReward, Outcome
from rewards.answers.text import number
from rewards import Case

def reward(response, reference, prompt):
    said = number(Case(response=response, reference=reference))
    ends = [i + 1 for i, character in enumerate(response) if character == "="]
    span_rewards = tuple(SpanReward(start=end - 1, end=end, value=1.0) for end in ends)
    return RewardResult(outcome=said.outcome, why=said.why, span_rewards=span_rewards)
"""


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_rewards_of_steps_lie_on_their_tokens_and_train(runs: Runs, tmp_path: Path, algorithm: str) -> None:
    (tmp_path / "mine.py").write_text(STEPS)
    settings = ("reward.name=own", f"reward.own.file={tmp_path}/mine.py", "reward.span_weight=0.25", "filter.drop=none")
    lines, rows = outcome_of(runs, tmp_path, *settings, f"learner.algorithm={algorithm}", "run.steps=2")
    assert all(np.isfinite([line["loss"], line["grad_norm"]]).all() for line in lines)
    for row in rows:
        span_rewards = np.array(row["span_rewards"])
        if not span_rewards.size:
            assert "=" not in row["response"]
            continue
        assert np.nansum(span_rewards) == 0.25 * row["response"].count("=")
        assert not np.isfinite(span_rewards[~np.array(row["sampled"])]).any()


def yes_model(folder: Path) -> None:
    """A model folder whose model says "yes" to everything, and no more."""
    import torch
    from transformers import AutoTokenizer, Qwen2ForCausalLM

    from learner.models.tiny import write_tiny_model

    write_tiny_model(folder, alphabet="".join(map(chr, range(33, 127))), seed=0, tied=False)
    model, tokenizer = Qwen2ForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    said = [*tokenizer("yes")["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # so that layers add nothing, and the next token hangs on the last one alone
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight[:, 0] = 1.0  # what stands for any token, after which comes "y"
        for place, token in enumerate(said):
            model.lm_head.weight[token, place] = 1.0
            model.model.embed_tokens.weight[token] = torch.eye(160)[place + 1]
    model.save_pretrained(folder)


def test_the_run_hosts_a_language_model_that_judges(
    runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    yes_model(tmp_path / "judge")
    settings = ("reward.name=judge", f"reward.judge.path={tmp_path}/judge", "reward.seconds=30", "filter.drop=none")
    lines, rows = outcome_of(runs, tmp_path, *settings, "run.steps=1", "learner.algorithm=reinforce")
    assert lines[0]["accuracy"] == 1.0
    assert {row["outcome"] for row in rows} == {"correct"}


LAST_WORD = """
def reward(response, reference, prompt):
    return response.rpartition(";")[2] == reference
"""


@pytest.mark.usefixtures("own_ray")
def test_labels_of_steps_come_from_rollouts_of_an_engine(tmp_path: Path) -> None:
    from cluster.commands.label import Labelled, label_file
    from cluster.config.run_config import GradingConfig

    yes_model(tmp_path / "model")
    (tmp_path / "mine.py").write_text(LAST_WORD)
    rows = [{"prompt": "is it?", "steps": ["so;", "it.;"], "reference": reference} for reference in ("yes", "no")]
    (tmp_path / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = GradingConfig(
        model={"path": str(tmp_path / "model"), "dtype": "float32"},
        reward={"name": "own", "own": {"file": str(tmp_path / "mine.py")}},
        rollout={"max_new_tokens": 8},
    )
    assert label_file(tmp_path / "steps.jsonl", config, tmp_path / "labels.jsonl", completions=4) == Labelled(
        rows=2, left_out=0
    )
    right, wrong = map(json.loads, (tmp_path / "labels.jsonl").read_text().splitlines())
    assert right | {"labels": []} == rows[0] | {"labels": []}
    assert [(label["hard"], label["soft"], label["scored"]) for label in right["labels"]] == [(1.0, 1.0, 4)] * 2
    assert [(label["hard"], label["soft"], label["scored"]) for label in wrong["labels"]] == [(0.0, 0.0, 4)] * 2

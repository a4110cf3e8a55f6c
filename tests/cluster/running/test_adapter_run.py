"""Whole runs that train an adapter: they learn, every sync is proved, and the checkpoints are adapters."""

import json
from pathlib import Path

import pytest
import torch

from tests.runs import Runs, demo, metrics_of

pytestmark = pytest.mark.ray
START = ("world.digits=2", "warmup.updates=160")
ADAPTER = ("learner.adapter.rank=16", "learner.adapter.alpha=16", "learner.lr=3e-3", "learner.lr_warmup=4")
LONG = ("run.steps=20", "rollout.groups_per_step=32", "learner.updates_per_step=4")


def test_the_demos_model_learns_with_an_adapter_and_every_sync_is_proved(runs: Runs, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    runs.train(demo(tmp_path, *START, "run.steps=1"))  # warms whole weights up; the next run starts from them
    folder = runs.train(demo(tmp_path, *START, *ADAPTER, *LONG))
    lines = metrics_of(folder)
    assert max(line["probe_gap"] for line in lines) < 1e-3
    accuracy = [line["accuracy"] for line in lines]
    assert sum(accuracy[-3:]) / 3 > sum(accuracy[:3]) / 3 + 0.1
    saved = folder / "checkpoints/step-20"
    base = json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"]
    lm = AutoModelForCausalLM.from_pretrained(base)
    tokens = torch.tensor([[1, 2, 10, 3, 4, 11, 5]])
    with torch.no_grad():
        before = lm(tokens).logits
        assert (PeftModel.from_pretrained(lm, saved)(tokens).logits - before).abs().max() > 0.1

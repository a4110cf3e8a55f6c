"""Training an adapter on real ranks: the same update whatever the ZeRO stage, and checkpoints that peft reads."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file

from actors.data.world import ALPHABET
from learner.methods.algorithms import algorithm_of
from learner.models.tiny import write_tiny_model
from learner.settings import AdapterSettings, LearnerSettings
from tests.learner.test_engine import PROBE, ranks_of, train
from tests.runs import Runs

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
ADAPTER = AdapterSettings(rank=8, alpha=16)
FINE = 2000  # tokens of a chunk of logits at which `ranks_of` has shards gathered at every use
KL = replace(algorithm_of("reinforce-rej"), kl_loss=0.1)


@pytest.fixture(scope="module", autouse=True)
def session(_runs: Runs) -> Iterator[None]:
    _runs.end()
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet=ALPHABET, seed=0)
    return folder


def two_steps(model: Path, stage: int, ranks: int, budget: int, folder: Path, **more: Any) -> dict[str, Any]:
    """Two steps of two updates each, against a KL to the starting policy, and what they leave."""
    settings = LearnerSettings(
        zero_stage=stage, micro_batch_tokens=budget, logit_chunk=FINE, grad_clip=0.5, adapter=ADAPTER, **more
    )
    actors = ranks_of(settings, model, ranks, KL)
    stats = [update for _ in range(2) for update in train(actors, 2, KL)]
    probe = ray.get([one.probe.remote(PROBE) for one in actors])[0]
    ray.get([one.save_checkpoint.remote(folder) for one in actors])
    for one in actors:
        ray.kill(one)
    return {"stats": stats, "probe": probe, "folder": folder}


@pytest.fixture(scope="module")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """On one rank without ZeRO and with one large micro-batch."""
    return two_steps(model, 0, 1, 100_000, tmp_path_factory.mktemp("alone") / "saved")


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_an_adapter_gets_the_same_update_at_every_stage_on_two_ranks(
    model: Path, alone: dict[str, Any], stage: int, tmp_path: Path
) -> None:
    found = two_steps(model, stage, 2, 64, tmp_path / "saved")
    np.testing.assert_allclose(found["probe"], alone["probe"], atol=1e-4)
    for one, other in zip(found["stats"], alone["stats"], strict=True):
        for name in ("loss", "entropy", "grad_norm", "mismatch_kl"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-3, abs=1e-5), name
        assert (one.tokens, one.lr) == (other.tokens, other.lr)
    saved, wanted = (load_file(one["folder"] / "adapter_model.safetensors") for one in (found, alone))
    assert saved.keys() == wanted.keys()
    for name in saved:
        torch.testing.assert_close(saved[name], wanted[name], atol=2e-4, rtol=0)


def test_the_base_is_the_starting_policy_and_is_left_as_it_was(alone: dict[str, Any]) -> None:
    assert alone["stats"][0].kl_start == pytest.approx(0.0, abs=1e-6)
    assert alone["stats"][3].kl_start > 1e-6
    assert alone["stats"][0].grad_norm > 0


def test_a_reference_that_is_renewed_is_a_model_of_its_own_at_zero3_too(model: Path, tmp_path: Path) -> None:
    one = two_steps(model, 0, 1, 100_000, tmp_path / "one", reference_every=1)
    two = two_steps(model, 3, 2, 64, tmp_path / "two", reference_every=1)
    np.testing.assert_allclose(two["probe"], one["probe"], atol=1e-4)


def test_a_saved_adapter_is_put_on_its_base_by_peft_and_answers_as_the_learner(
    model: Path, alone: dict[str, Any]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = alone["folder"]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (8, 16, str(model))
    assert (folder / "complete").is_file()
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == AutoTokenizer.from_pretrained(model).get_vocab()
    base = AutoModelForCausalLM.from_pretrained(model)
    before = _answer(base)
    found = _answer(PeftModel.from_pretrained(base, folder))
    np.testing.assert_allclose(found, alone["probe"], atol=1e-5)
    assert np.abs(before - found).max() > 1e-3


def _answer(lm: Any) -> np.ndarray:
    ids = torch.tensor([PROBE])
    with torch.no_grad():
        return lm(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0].numpy()

"""Training an adapter on real ranks: the same update whatever the ZeRO stage, and checkpoints that peft reads."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file

from actors.data.world import write_addition
from learner.methods.algorithms import algorithm_of
from learner.settings import AdapterSettings, LearnerSettings, ModelSettings, WarmupSettings
from learner.types import Schedule
from tests.learner.test_engine import PROBE, spec_of, train, used

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("session")]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
ADAPTER = AdapterSettings(rank=8, alpha=16)
FINE = 2000  # tokens of a chunk of logits at which `used` has shards gathered at every use
KL = replace(algorithm_of("reinforce-rej"), kl_loss=0.1)


def save(actors: list, folder: Path) -> None:
    ray.get([one.save_checkpoint.remote(folder) for one in actors])
    assert not any(written.problem for written in ray.get([one.finish_checkpoint.remote() for one in actors]))


def two_steps(
    model: Path,
    stage: int,
    ranks: int,
    budget: int,
    folder: Path,
    checkpointing: bool = False,
    apart: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Two steps of two updates each, against a KL to the starting policy, and what they leave."""
    settings = LearnerSettings(
        zero_stage=stage, micro_batch_tokens=budget, logit_chunk=FINE, grad_clip=0.5, adapter=ADAPTER, **more
    )
    actors = used(settings, model, ranks, KL)
    if checkpointing:
        spec = replace(spec_of(settings, KL), model=ModelSettings(dtype="float32", checkpointing=True))
        schedule = Schedule(lr=1e-3, updates=4, warmup=0, end=0.25)
        ray.get([one.open_training.remote(spec, model, schedule) for one in actors])
    if apart:
        ray.get([one.keep_apart.remote() for one in actors])
    stats = [update for _ in range(2) for update in train(actors, 2, KL)]
    assert all(bool(update.shared) is not apart for update in stats)
    probe = ray.get([one.probe.remote(PROBE) for one in actors])[0]
    save(actors, folder)
    return {"stats": stats, "probe": probe, "folder": folder}


@pytest.fixture(scope="module")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """On one rank without ZeRO, with one large micro-batch and nothing shared."""
    return two_steps(model, 0, 1, 100_000, tmp_path_factory.mktemp("alone") / "saved", apart=True)


@pytest.mark.parametrize(("stage", "checkpointing"), [(0, False), (1, False), (2, True), (3, False), (3, True)])
def test_an_adapter_gets_the_same_update_at_every_stage_on_two_ranks(
    model: Path, alone: dict[str, Any], stage: int, checkpointing: bool, tmp_path: Path
) -> None:
    found = two_steps(model, stage, 2, 64, tmp_path / "saved", checkpointing)
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
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == AutoTokenizer.from_pretrained(model).get_vocab()
    base = AutoModelForCausalLM.from_pretrained(model)
    before = _answer(base)
    found = _answer(PeftModel.from_pretrained(base, folder))
    np.testing.assert_allclose(found, alone["probe"], atol=1e-5)
    assert np.abs(before - found).max() > 1e-3


@pytest.mark.parametrize("stage", [2, 3])
def test_in_bfloat16_an_adapter_trains_as_in_float32(
    model: Path, alone: dict[str, Any], stage: int, tmp_path: Path
) -> None:
    settings = LearnerSettings(zero_stage=stage, logit_chunk=FINE, grad_clip=0.5, adapter=ADAPTER)
    (rank,) = used(settings, model, 1, KL, "bfloat16")
    stats = [update for _ in range(2) for update in train([rank], 2, KL)]
    for one, other in zip(stats, alone["stats"], strict=True):
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=0.1)
    save([rank], tmp_path / "saved")
    saved, wanted = (load_file(one / "adapter_model.safetensors") for one in (tmp_path / "saved", alone["folder"]))
    moved = [name for name in saved if "lora_B" in name]  # these begin as zeros
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    alike = torch.nn.functional.cosine_similarity(
        torch.cat([saved[name].float().flatten() for name in moved]),
        torch.cat([wanted[name].flatten() for name in moved]),
        dim=0,
    )
    assert alike > 0.9


def _answer(lm: Any) -> np.ndarray:
    ids = torch.tensor([PROBE])
    with torch.no_grad():
        return lm(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0].numpy()


def test_a_warm_up_trains_an_adapter_and_leaves_a_whole_model_that_a_training_starts_on(
    model: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    write_addition(tmp_path / "world", digits=1, prompts=1, worked=64, seed=0)
    settings = LearnerSettings(zero_stage=2, micro_batch_tokens=2048, adapter=ADAPTER)
    warmup = WarmupSettings(path=str(tmp_path / "world/worked.jsonl"), batch=16)
    spec, schedule = spec_of(settings, KL, warmup=warmup), Schedule(lr=3e-3, updates=40, warmup=4, end=1.0)
    (rank,) = used(settings, model, 1, KL)
    ray.get(rank.open_warm_up.remote(spec, model, schedule))
    first = ray.get(rank.warm_up.remote(1)).loss
    last = ray.get(rank.warm_up.remote(39)).loss
    assert last < first - 0.5
    probe = ray.get(rank.probe.remote(PROBE))
    save([rank], tmp_path / "warm")
    opened = ray.get(rank.open_training.remote(spec, tmp_path / "warm", schedule))
    assert opened.parameters == sum(tensor.numel() for tensor in load_file(model / "model.safetensors").values())
    assert any("an adapter of 0.102 million parameters is trained" in note for note in opened.notes)
    np.testing.assert_allclose(_answer(AutoModelForCausalLM.from_pretrained(tmp_path / "warm")), probe, atol=1e-5)
    np.testing.assert_allclose(ray.get(rank.probe.remote(PROBE)), probe, atol=1e-5)
    assert train([rank], 1, KL)[0].kl_start == pytest.approx(0.0, abs=1e-6)
    save([rank], tmp_path / "saved")
    config = json.loads((tmp_path / "saved/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "warm")


@pytest.mark.parametrize("name", ["ppo", "prime"])
def test_trained_models_beside_the_policy_get_adapters_too_at_zero3(name: str, model: Path, tmp_path: Path) -> None:
    algorithm, found = algorithm_of(name), []
    for stage, ranks, budget in ((0, 1, 100_000), (3, 2, 64)):
        settings = LearnerSettings(
            zero_stage=stage, micro_batch_tokens=budget, logit_chunk=FINE, side_lr=1e-3, adapter=ADAPTER
        )
        actors = used(settings, model, ranks, algorithm)
        found.append([*train(actors, 2, algorithm), *train(actors, 1, algorithm)])
    for one, other in zip(*found, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3, abs=1e-5)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3, abs=1e-5)

"""Adapter folders: what peft reads of them, and what is merged from them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from actors.data.world import ALPHABET
from learner.adapter_folder import AdapterFolder, UnfitAdapter, check_merge, write_adapter, write_merged
from learner.models.adapter import adapter_parameters
from learner.models.policy import Policy, load_policy
from learner.models.tiny import write_tiny_model
from learner.settings import AdapterSettings, ModelSettings
from tests.learner.models.test_adapter import TOKENS, as_if_trained

pytestmark = pytest.mark.usefixtures("one_thread")

FLOAT32 = ModelSettings(dtype="float32")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet=ALPHABET, seed=3)
    return folder


@pytest.fixture(scope="module")
def policy(model: Path) -> Policy:
    policy = load_policy(model, FLOAT32, logit_chunk=8, adapter=AdapterSettings(rank=4, alpha=6.5))
    as_if_trained(policy.lm)
    return policy


@pytest.fixture(scope="module")
def checkpoint(policy: Policy, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_adapter(policy.lm, dict(adapter_parameters(policy.lm)), folder, model)
    return folder


def logits_of(lm: Any) -> torch.Tensor:
    with torch.no_grad():
        return lm(input_ids=TOKENS).logits


def test_peft_puts_a_written_adapter_on_its_base(policy: Policy, model: Path, checkpoint: Path) -> None:
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(model)
    torch.testing.assert_close(logits_of(PeftModel.from_pretrained(base, checkpoint)), logits_of(policy.lm))


def test_a_merged_folder_answers_as_the_adapted_model_and_as_peft_merges_it(
    policy: Policy, model: Path, checkpoint: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    adapter = AdapterFolder.read(checkpoint)
    assert (adapter.base, adapter.scale, adapter.turned) == (model, 6.5 / 4, False)
    write_merged(adapter, [model / "model.safetensors"], tmp_path)
    found, before = load_file(tmp_path / "model.safetensors"), load_file(model / "model.safetensors")
    assert found.keys() == before.keys()
    changed = {name for name in found if not torch.equal(found[name], before[name])}
    assert changed == {export.name for export in policy.exported() if len(export.parts) == 3}
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), checkpoint).merge_and_unload()
    for name, tensor in merged.state_dict().items():
        if name in found:
            torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5)
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    torch.testing.assert_close(
        logits_of(AutoModelForCausalLM.from_pretrained(tmp_path)), logits_of(policy.lm), atol=1e-5, rtol=1e-5
    )


def test_files_that_leave_away_how_names_begin_are_merged_too(model: Path, checkpoint: Path, tmp_path: Path) -> None:
    weights = load_file(model / "model.safetensors")
    bare = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    save_file(bare, tmp_path / "bare.safetensors")
    adapter = AdapterFolder.read(checkpoint)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write_merged(adapter, [tmp_path / "bare.safetensors"], tmp_path / "one")
    write_merged(adapter, [model / "model.safetensors"], tmp_path / "two")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name.removeprefix("model.")], tensor) for name, tensor in two.items())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "LOHA"}, "an adapter that winnow does not merge (LOHA, rank 4)"),
        ({"use_dora": True}, "an adapter that winnow does not merge (LORA, use_dora, rank 4)"),
        ({"rank_pattern": {"q_proj": 2}}, "(LORA, rank_pattern, rank 4): merge it with merge_and_unload of peft"),
        ({"r": "four"}, "is not the configuration of an adapter"),
        ({"lora_alpha": None}, "is not the configuration of an adapter"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    checkpoint: Path, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    config = json.loads((checkpoint / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | settings))
    (tmp_path / "adapter_model.safetensors").write_bytes((checkpoint / "adapter_model.safetensors").read_bytes())
    with pytest.raises(UnfitAdapter) as refused:
        AdapterFolder.read(tmp_path)
    assert said in str(refused.value)


def test_an_adapter_that_does_not_fit_the_model_is_refused(model: Path, checkpoint: Path, tmp_path: Path) -> None:
    weights = load_file(model / "model.safetensors")
    adapter, name = AdapterFolder.read(checkpoint), "model.layers.2.mlp.up_proj.weight"
    save_file(weights | {name: torch.zeros(3, 4)}, tmp_path / "cut.safetensors")
    shapes = rf"a matrix {name} of shape \[480, 160\], and the model has one of shape \[3, 4\]: .* {model}"
    with pytest.raises(UnfitAdapter, match=shapes):
        check_merge(adapter, [tmp_path / "cut.safetensors"])
    del weights[name]
    save_file(weights, tmp_path / "without.safetensors")
    with pytest.raises(
        UnfitAdapter, match=r"has an adapter for the layer model\.layers\.2\.mlp\.up_proj, and the model"
    ):
        check_merge(adapter, [tmp_path / "without.safetensors"])


def test_an_adapter_with_more_than_two_matrices_for_a_layer_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_bytes((checkpoint / "adapter_config.json").read_bytes())
    weights = load_file(checkpoint / "adapter_model.safetensors")
    extra = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight"
    save_file(weights | {extra: torch.zeros(3)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UnfitAdapter, match=rf"more than the two matrices of each layer, or less \({extra}\)"):
        AdapterFolder.read(tmp_path).layers()


def test_a_merged_model_is_cut_into_shards_that_are_loaded_as_one(
    policy: Policy, model: Path, checkpoint: Path, tmp_path: Path
) -> None:
    write_merged(AdapterFolder.read(checkpoint), [model / "model.safetensors"], tmp_path, shard_bytes=2_000_000)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files == [f"model-0000{number}-of-00004.safetensors" for number in (1, 2, 3, 4)]
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    merged = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits_of(merged), logits_of(policy.lm), atol=1e-5, rtol=1e-5)

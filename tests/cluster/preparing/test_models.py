"""Model folders as people have them: whole, or refused before Ray starts with the file, what is wrong, what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig

from actors.data.world import ALPHABET, write_addition
from cluster.config.errors import ConfigError
from cluster.config.models import check_shards
from cluster.config.reading import config_of
from cluster.preparing.models import check_policy
from cluster.preparing.preflight import prepare
from learner.models.shrunk import shrunk
from learner.models.tiny import write_tiny_model
from tests.tables import each

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_addition(folder, digits=2, prompts=20, worked=5, seed=0)
    write_tiny_model(folder / "model", alphabet=ALPHABET, seed=0)
    return folder


def run_on(world: Path, model: Path, **sections: dict[str, Any]) -> None:
    tree = {"model": {"path": str(model)}, "data": {"path": str(world / "prompts.jsonl")}}
    prepare(config_of(tree | {"rollout": {"max_new_tokens": 32}} | sections))


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def cut(bytes_left: int) -> Callable[[Path], object]:
    def cutting(folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:bytes_left])

    return cutting


def changed(**settings: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        known = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(known | settings))

    return change


def sharded(missing: bool) -> Callable[[Path], object]:
    def shard(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = sorted(tensors)
        parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
        for file, members in parts.items():
            save_file({name: tensors[name] for name in members}, folder / file, metadata={"format": "pt"})
        weight_map = {name: file for file, members in parts.items() for name in members}
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        if missing:
            (folder / "model-00002-of-00002.safetensors").unlink()

    return shard


def renamed(new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").rename(folder / new)


def without(*patterns: str) -> Callable[[Path], object]:
    return lambda folder: [file.unlink() for pattern in patterns for file in folder.glob(pattern)]


def many_tokens(folder: Path) -> None:
    known = json.loads((folder / "tokenizer.json").read_text())
    known["model"]["vocab"] |= {f"word{number}": 30 + number for number in range(60)}
    (folder / "tokenizer.json").write_text(json.dumps(known))


def end_beyond(folder: Path) -> None:
    known = json.loads((folder / "tokenizer.json").read_text())
    for token in known["added_tokens"]:
        if token["content"] == "<eos>":
            known["model"]["vocab"]["<eos>"] = token["id"] = 64
    (folder / "tokenizer.json").write_text(json.dumps(known))


@each(
    ("harm", "message"),
    [
        (written("model.safetensors", POINTER), "model.safetensors (model.path) is a pointer of Git LFS"),
        (written("tokenizer.json", POINTER), "tokenizer.json (model.path) is a pointer of Git LFS"),
        (written("config.json", POINTER), "config.json (model.path) is not JSON"),
        (written("config.json", ""), "config.json (model.path) is not JSON"),
        (written("config.json", "[]"), "must hold an object, got list"),
        (without("config.json"), "holds no config.json"),
        (cut(100_000), "was cut or damaged: it has 100000 bytes and its header tells of"),
        (cut(1_000), "is not a whole safetensors file (1000 bytes"),
        (cut(3), "is not a whole safetensors file (3 bytes"),
        (cut(0), "is not a whole safetensors file (0 bytes"),
        (written("model.safetensors", "<html>404 not found</html>"), "is not a whole safetensors file"),
        (without("model.safetensors"), f"holds no weights: download model.safetensors, or {INDEX}"),
        (renamed("pytorch_model.bin"), "only pickled ones, such as pytorch_model.bin"),
        (renamed("consolidated.00.pth"), "only pickled ones, such as consolidated.00.pth"),
        (
            renamed("adapter_model.safetensors"),
            "it holds an adapter (LoRA). Merge it into its model first: winnow merge",
        ),
        (renamed("model-q4.gguf"), "model-q4.gguf is not how transformers names or stores them"),
        (renamed("consolidated.safetensors"), "consolidated.safetensors is not how transformers names"),
        (sharded(missing=True), "names 2 files of weights and 1 of them are not there, the first is model-00002-of"),
        (written(INDEX, "{"), f"{INDEX} (model.path) is broken"),
        (written(INDEX, "{}"), f"{INDEX} (model.path) is broken"),
        (written(INDEX, POINTER), f"{INDEX} (model.path) is a pointer of Git LFS"),
        (written(INDEX, '{"weight_map": {}}'), "names 0 files of weights"),
        (without("tokenizer*"), "holds no tokenizer that knows any text"),
        (without("tokenizer.json"), "holds no tokenizer that knows any text"),
        (written("tokenizer.json", "{"), "cannot be read: JSONDecodeError"),
        (written("tokenizer_config.json", "{"), "cannot be read: JSONDecodeError"),
        (many_tokens, "the tokenizer has token 64 ('word34'), and the model in"),
        (end_beyond, "responses would end with token 64 ('<eos>')"),
        (changed(vocab_size=20), "says vocab_size = 20 and model.embed_tokens.weight has 64 rows"),
        (changed(vocab_size=99), "says vocab_size = 99 and model.embed_tokens.weight has 64 rows"),
        (changed(quantization_config={"quant_method": "gptq"}), "is of weights that are quantised (gptq)"),
        (changed(max_position_embeddings=None), "transformers does not take"),
        (changed(model_type="mymodel"), "transformers does not take"),
        (changed(hidden_size=320), "and the weights hold it as [64, 160]"),
        (changed(hidden_size=0), "no model can be made of"),
        (changed(intermediate_size=960), "a parameter model.layers.0.mlp.gate_proj.weight of shape [960, 160]"),
        (changed(num_hidden_layers=5, layer_types=None), "model.layers.4.self_attn.q_proj.weight"),
        (changed(tie_word_embeddings=False), "lm_head.weight of shape [64, 160], and the weights do not hold it"),
        (changed(quantization_config=[1]), "is of weights that are quantised (an unknown method)"),
        (changed(model_type="mine", auto_map={"AutoConfig": "mine.Mine"}), "transformers does not take"),
        (written("config.json", "[" * 100_000), "config.json (model.path) is not JSON"),
        (written(INDEX, '{"weight_map": {"a": 3}}'), "names 1 files of weights and 1 of them are not there, the"),
        (written("generation_config.json", POINTER), "generation_config.json (model.path) is a pointer of Git LFS"),
        (written("generation_config.json", "{"), "generation_config.json (model.path) is not JSON"),
        (written("generation_config.json", "[]"), "generation_config.json (model.path) must hold an object"),
        (changed(architectures=["BertModel"]), "not a causal language model"),
        (changed(architectures=None), "not a causal language model"),
    ],
)
def test_a_folder_that_cannot_be_trained_is_refused_before_anything_starts(
    harm: Callable[[Path], object], message: str, world: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("harmed") / "model"
    shutil.copytree(world / "model", folder)
    harm(folder)
    with pytest.raises(ConfigError) as refused:
        run_on(world, folder)
    assert message in str(refused.value), str(refused.value)
    assert str(folder) in str(refused.value)


@each("change", [without(), sharded(missing=False), changed(pad_token_id=None)])
def test_a_whole_folder_is_taken(
    change: Callable[[Path], object], world: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("whole") / "model"
    shutil.copytree(world / "model", folder)
    change(folder)
    run_on(world, folder)


def saved(kind: str, folder: Path) -> Path:
    model = shrunk(AutoConfig.for_model(kind))
    model.save_pretrained(folder)
    return folder


def test_an_architecture_that_cannot_be_trained_is_named_before_anything_starts(tmp_path: Path) -> None:
    folder = saved("bert", tmp_path / "bert")
    with pytest.raises(ConfigError, match=r"\(model\.path\): BertLMHeadModel cannot be trained"):
        check_policy(folder, "model.path")
    check_policy(saved("opt", tmp_path / "opt"), "model.path")
    check_policy(saved("granite", tmp_path / "granite"), "model.path")


@each(
    ("rollout", "message"),
    [
        ({"temperature": 0}, "rollout.temperature"),
        ({"temperature": -1}, "rollout.temperature"),
        ({"temperature": 0.001}, "rollout.temperature"),  # vLLM would sample at 0.01
        ({"temperature": 2.5}, "rollout.temperature"),
        ({"temperature": float("nan")}, "rollout.temperature"),
        ({"temperature": float("inf")}, "rollout.temperature"),
        ({"top_p": 0}, "rollout.top_p"),
        ({"top_p": 1.5}, "rollout.top_p"),
        ({"top_p": -0.1}, "rollout.top_p"),
        ({"top_k": 5}, "rollout.top_k"),
        ({"min_p": 0.1}, "rollout.min_p"),
        ({"max_new_tokens": 0}, "rollout.max_new_tokens"),
        ({"group_size": 0}, "rollout.group_size"),
    ],
)
def test_sampling_that_the_engine_refuses_or_changes_is_refused_at_once(rollout: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config_of({"world": {"name": "addition"}, "rollout": rollout})
    assert message in str(refused.value)


def test_a_seed_that_numpy_does_not_take_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"run\.seed"):
        config_of({"world": {"name": "addition"}, "run": {"seed": 2**32}})
    np.random.default_rng(2**32 - 1)
    torch.manual_seed(2**32 - 1)


@pytest.mark.parametrize(
    ("width", "heads", "keys", "fits"),
    [(1, 5, 5, True), (2, 5, 5, False), (4, 28, 4, True), (7, 28, 4, False), (8, 64, 8, True), (8, 32, 4, True)],
)
def test_a_model_is_divided_only_among_gpus_that_divide_its_heads(
    tmp_path: Path, width: int, heads: int, keys: int, fits: bool
) -> None:
    told = {"architectures": ["A_ForCausalLM"], "num_attention_heads": heads, "num_key_value_heads": keys}
    (tmp_path / "config.json").write_text(json.dumps(told))
    if fits:
        check_shards(tmp_path, width, "model.path")
    else:
        with pytest.raises(ConfigError, match=rf"must divide the {heads} attention heads.*model\.path\), got {width}"):
            check_shards(tmp_path, width, "model.path")

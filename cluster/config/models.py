"""What a Hugging Face model folder says of itself."""

import json
from pathlib import Path
from typing import Any

from cluster.config.errors import ConfigError

CAUSAL = ("ForCausalLM", "LMHeadModel")  # how transformers names causal language models
MERGE = "Merge it into its model first: winnow merge {} --out MERGED"
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")  # and their most tokens


def check_model(folder: Path, setting: str = "model.path") -> dict[str, Any]:
    """The config.json of a Hugging Face folder.

    Raises:
        ConfigError: it is not there, or no causal language model.
    """
    found = check_folder(folder, setting)
    if not any(str(name).endswith(CAUSAL) for name in found.get("architectures") or ()):
        raise ConfigError(f"{folder} ({setting}) holds {found.get('architectures')}, not a causal language model")
    return found


def check_folder(folder: Path, setting: str = "model.path") -> dict[str, Any]:
    """The config.json of a folder that holds a model of any kind.

    Raises:
        ConfigError: it is not there.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no model folder {folder} ({setting}): give a downloaded Hugging Face folder")
    if not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        raise ConfigError(
            f"{folder} ({setting}) holds an adapter (LoRA) and no whole model. {MERGE.format(folder)}, and give that "
            "folder"
        )
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} ({setting}) holds no config.json: it is not a Hugging Face model folder")
    try:
        found: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as failure:
        raise ConfigError(
            f"{folder / 'config.json'} ({setting}) is not JSON ({failure}): download it anew, with git lfs pull where "
            "it is a pointer of Git LFS"
        ) from failure
    if not isinstance(found, dict):
        raise ConfigError(f"{folder / 'config.json'} ({setting}) must hold an object, got {type(found).__name__}")
    return found


def check_shards(folder: Path, width: int, setting: str) -> None:
    """Whether the attention of a model can be divided among the GPUs of a tensor-parallel engine.

    Raises:
        ConfigError: it cannot; vLLM would say so when the engine starts.
    """
    found = check_model(folder, setting)
    told = {**found, **(found.get("text_config") or {})}
    heads = told.get("num_attention_heads") or told.get("n_head")
    keys = told.get("num_key_value_heads") or heads
    if isinstance(heads, int) and isinstance(keys, int) and (heads % width or (keys % width and width % keys)):
        raise ConfigError(
            f"cluster.tensor_parallel must divide the {heads} attention heads ({keys} of keys and values) of {folder} "
            f"({setting}), got {width}"
        )


def positions_of(folder: Path) -> int:
    """The most tokens that the model can hold; very many where it does not say."""
    found = check_model(folder)
    sizes = (of.get(name) for of in (found, found.get("text_config") or {}) for name in POSITIONS)
    return next((size for size in sizes if isinstance(size, int) and size > 0), 2**31)

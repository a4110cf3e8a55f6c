"""What a Hugging Face model folder says of itself."""

import json
from pathlib import Path
from typing import Any

from cluster.config.errors import ConfigError


def check_model(folder: Path, setting: str = "model.path") -> dict[str, Any]:
    """The config.json of a Hugging Face folder.

    Raises:
        ConfigError: it is not there, or no causal language model.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no model folder {folder} ({setting}): give a downloaded Hugging Face folder")
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} ({setting}) holds no config.json: it is not a Hugging Face model folder")
    found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not any(name.endswith("ForCausalLM") for name in found.get("architectures") or ()):
        raise ConfigError(f"{folder} ({setting}) holds {found.get('architectures')}, not a causal language model")
    return found


def positions_of(folder: Path) -> int:
    """The most tokens that the model can hold; very many where it does not say."""
    return int(check_model(folder).get("max_position_embeddings", 2**31))

"""Which parameters a model has by its config.json, without making them."""

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig


def wanted_shapes(config: PreTrainedConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """parameter -> (its name without the prefix of the base model, which some files leave away; its shape). Of tied
    parameters the first."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    prefix = f"{model.base_model_prefix}."
    return {name: (name.removeprefix(prefix), tuple(value.shape)) for name, value in model.named_parameters()}

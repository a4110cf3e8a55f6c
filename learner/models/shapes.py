"""Which parameters a model has by its config.json, without making them."""

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from learner.models.adapter import adapted_layers
from learner.settings import AdapterSettings


def wanted_shapes(config: PreTrainedConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """parameter -> (its name without the prefix of the base model, which some files leave away; its shape). Of tied
    parameters the first."""
    model = _unmade(config)
    prefix = f"{model.base_model_prefix}."
    return {name: (name.removeprefix(prefix), tuple(value.shape)) for name, value in model.named_parameters()}


def adapter_parameters(config: PreTrainedConfig, adapter: AdapterSettings) -> int:
    """How many parameters an adapter of this model has.

    Raises:
        UnknownTargets: the model has no such layers; see `adapted_layers`.
    """
    model = _unmade(config)
    layers = adapted_layers(model, adapter)
    return adapter.rank * sum(sum(model.get_parameter(f"{layer}.weight").shape) for layer in layers)


def _unmade(config: PreTrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)

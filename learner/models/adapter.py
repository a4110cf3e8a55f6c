"""A low-rank adapter (LoRA, arXiv 2106.09685) that trains in place of a model's weights. The one home of peft.

A layer with the matrix W, float[out, in], gets two small ones, A, float[rank, in], and B, float[out, rank]. It computes
with W + (alpha / rank) B A. W is frozen; B begins as zeros, so that the model begins as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from learner.models.export import Export, buffers, plain, whole_shape
from learner.settings import AdapterSettings

NAME = "default"  # what peft calls an adapter that has no name
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # the files of an adapter folder
PREFIX = "base_model.model."  # of all names in WEIGHTS


class UnknownTargets(ValueError):
    """The adapter is to go into layers that the model does not have."""


def linear_layers(lm: torch.nn.Module) -> list[str]:
    """Names of all linear layers but the head."""
    head = getattr(lm, "get_output_embeddings", lambda: None)()
    return [
        name for name, part in lm.named_modules() if isinstance(part, torch.nn.Linear | Conv1D) and part is not head
    ]


def adapted_layers(lm: torch.nn.Module, settings: AdapterSettings) -> list[str]:
    """Names of the layers that get an adapter.

    Raises:
        UnknownTargets: a target is the name of none of the linear layers; the message names those that there are.
    """
    layers = linear_layers(lm)
    targets = layers if settings.targets == "linear" else settings.targets
    unknown = [target for target in targets if not any(_is_called(layer, target) for layer in layers)]
    if unknown or not layers:
        known = ", ".join(dict.fromkeys(layer.rpartition(".")[2] for layer in layers)) or "none"
        raise UnknownTargets(
            f"learner.adapter.targets = {settings.targets!r}: {type(lm).__name__} has no linear layer "
            f"{', '.join(map(repr, unknown))} that an adapter can go into. It has {known} (the head takes none)"
        )
    return [layer for layer in layers if any(_is_called(layer, target) for target in targets)]


def _is_called(layer: str, target: str) -> bool:
    return layer == target or layer.endswith(f".{target}")


def adapt(lm: PreTrainedModel, settings: AdapterSettings) -> None:
    """Puts an adapter into a model and freezes the rest. The adapter has the dtype of the weights; the optimizer holds
    it in float32.

    Raises:
        UnknownTargets: see `adapted_layers`.
    """
    from peft import LoraConfig, inject_adapter_in_model

    layers = adapted_layers(lm, settings)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # a fraction is as good
        target_modules=layers,
        fan_in_fan_out=any(isinstance(lm.get_submodule(layer), Conv1D) for layer in layers),
        task_type="CAUSAL_LM",
    )
    inject_adapter_in_model(config, lm, NAME)
    lm.enable_input_require_grads()  # so that ZeRO 3 learns when the backward pass is done with a layer


def is_adapted(lm: torch.nn.Module) -> bool:
    """Whether a model has an adapter."""
    return any(True for _ in _adapters(lm))


def exports(lm: torch.nn.Module) -> Iterator[Export]:
    """What generators and checkpoints get of a model: all weights under their checkpoint names, tied ones once, those
    with an adapter as one matrix; and its buffers."""
    adapters = dict(_adapters(lm))
    for name, parameter in lm.named_parameters():
        layer, _, end = name.partition(".base_layer.")
        if end == "weight":
            yield _merged(f"{layer}.{end}", parameter, adapters[layer])
        elif end:
            yield plain(f"{layer}.{end}", parameter)
        elif not _is_part(name):
            yield plain(name, parameter)
    yield from buffers(lm)


def adapter_parameters(lm: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The parameters of the adapter, under the names that they have in an adapter folder."""
    for name, parameter in lm.named_parameters():
        if _is_part(name):
            yield f"{PREFIX}{name.replace(f'.{NAME}.', '.')}", parameter


def write_adapter_config(lm: Any, folder: Path, base: Path) -> None:
    """Writes what peft must know to put the adapter into the model in the folder `base`."""
    config = replace(lm.peft_config[NAME], base_model_name_or_path=str(base), inference_mode=True)
    config.save_pretrained(str(folder))


@contextmanager
def switched_off(lm: torch.nn.Module) -> Iterator[None]:
    """Within it the model computes what it computes without its adapter. The adapter's own product is computed and
    counts nothing: layers run as ever, in the sequence that ZeRO 3 has learnt to fetch them in."""
    layers = [layer for _, layer in _adapters(lm)]
    for layer in layers:
        layer.set_scale(NAME, 0.0)
    try:
        yield
    finally:
        for layer in layers:
            layer.set_scale(NAME, 1.0)


@torch.no_grad()
def merged(base: torch.Tensor, low: torch.Tensor, high: torch.Tensor, scale: float, turned: bool) -> torch.Tensor:
    """A layer's matrix and its adapter as one matrix, computed in float32, in the dtype of `base`.

    Args:
        base: W, float[out, in], or float[in, out] where it is turned.
        low: A, float[rank, in].
        high: B, float[out, rank].
        scale: alpha / rank.
        turned: whether the layer holds its matrix the other way round.
    """
    product = high.float() @ low.float()
    return (base.float() + scale * (product.T if turned else product)).to(base.dtype)


def _merged(name: str, base: torch.nn.Parameter, layer: Any) -> Export:
    low, high = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
    scale = layer.lora_alpha[NAME] / layer.r[NAME]
    return Export(
        name=name,
        parts=(base, low, high),
        shape=whole_shape(base),
        tensor=lambda: merged(base, low, high, scale, layer.fan_in_fan_out),
    )


def _adapters(lm: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """(name of the layer, peft's layer around it) of each layer with an adapter."""
    return ((name, part) for name, part in lm.named_modules() if NAME in getattr(part, "lora_A", ()))


def _is_part(name: str) -> bool:
    """Whether a parameter of a model is one of an adapter."""
    return any(f".{half}.{NAME}." in name for half in ("lora_A", "lora_B"))

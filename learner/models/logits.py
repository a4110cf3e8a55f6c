"""From hidden states to logits exactly as a model's own forward pass does it: with its scaling, its cap, its bias and
whatever other layers lie between, and without computing the body a second time.

The model's own forward pass is run with a stand-in for its body that gives the hidden states that are there already.
N is the number of states, H the width of the model, V its vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast


class _Given(BaseModelOutputWithPast):
    """What a body would have returned; whatever else a model asks of it is None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class _StandIn:
    """Takes the place of a model's body: called, it gives these hidden states. Its decoder is itself, as some models
    call that; everything else is the body's own."""

    def __init__(self, body: torch.nn.Module, hidden: torch.Tensor) -> None:
        self._body, self._hidden = body, hidden

    def __call__(self, *_: Any, **__: Any) -> _Given:
        return _Given(last_hidden_state=cast(Any, self._hidden[None]))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._body, name)
        return self if name == "decoder" and isinstance(found, torch.nn.Module) else found


def body_of(lm: PreTrainedModel) -> torch.nn.Module:
    """The model without its head: from token ids to hidden states."""
    body: torch.nn.Module = lm.base_model
    return getattr(lm, "model", body) if body is lm else body


def matrix_logits(output: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """The hidden states float[N, H] times the output matrix: what most models do, and nothing else."""
    if isinstance(output, torch.nn.Linear):  # not by calling it: its hooks would gather a sharded matrix each time
        return torch.nn.functional.linear(hidden, output.weight, output.bias)
    logits: torch.Tensor = output(hidden)
    return logits


def own_logits(lm: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Logits float[N, V] of hidden states float[N, H], as the model's own forward pass makes them.

    Raises:
        NotImplementedError: its body is not a part of the model that could be stood in for.
    """
    body, output = body_of(lm), lm.get_output_embeddings()
    parent, name = _parent_of(lm, output)
    with (
        _shadowed(*_parent_of(lm, body), _StandIn(body, hidden)),
        _shadowed(parent, name, partial(matrix_logits, output)),
    ):
        given = lm.forward(input_ids=torch.zeros(1, hidden.shape[0], dtype=torch.long, device=hidden.device))
    logits: torch.Tensor = given.logits[0]
    if logits.shape[0] != hidden.shape[0]:
        raise NotImplementedError(f"{type(lm).__name__} gave {logits.shape[0]} rows of logits for {hidden.shape[0]}")
    return logits


def layers_of_the_head(lm: PreTrainedModel) -> list[str]:
    """Names of the parameters of the head beyond the output matrix and its bias."""
    known = {id(p) for part in (body_of(lm), lm.get_output_embeddings()) for p in part.parameters()}
    return [name for name, parameter in lm.named_parameters() if id(parameter) not in known]


def _parent_of(lm: torch.nn.Module, part: torch.nn.Module) -> tuple[torch.nn.Module, str]:
    for parent in lm.modules():
        for name, child in parent.named_children():
            if child is part:
                return parent, name
    raise NotImplementedError(f"{type(lm).__name__} does not hold its {type(part).__name__}")


@contextmanager
def _shadowed(module: torch.nn.Module, name: str, value: Any) -> Iterator[None]:
    """While it lasts the attribute of the module is this value; its submodules and parameters stay as they are."""
    module.__dict__[name] = value
    try:
        yield
    finally:
        del module.__dict__[name]

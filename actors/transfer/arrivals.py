"""Which parameters of a model were among the weights that came: whatever carried them, none may be missing."""

from collections.abc import Iterable
from typing import Any

import torch


class Arrivals:
    """Stands in for a model while weights are loaded into it, and notes their names."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model: Any = model
        self._expected = {name for name, _ in model.named_parameters()}
        self._loaded: set[str] = set()
        self._told = True  # whether the model says what it loaded

    def clear(self) -> None:
        """Forgets what came before; at the start of an update."""
        self._loaded.clear()
        self._told = True

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Has the model load these tensors of the checkpoint; gives the names of its own parameters that they fill."""
        loaded = self._model.load_weights(weights)
        self._told = self._told and loaded is not None
        self._loaded |= loaded or set()
        return loaded or set()

    def check(self) -> None:
        """
        Raises:
            RuntimeError: a parameter of the model was not among the weights that came.
        """
        missing = sorted(self._expected - self._loaded)
        if self._told and missing:
            raise RuntimeError(f"{len(missing)} parameters were not sent, the first is {missing[0]}")

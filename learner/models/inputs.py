"""A micro-batch as a policy or a critic takes it."""

from typing import Any, Protocol

import numpy as np
import torch

from learner.batches.types import TrainBatch
from learner.models.varlen import bounds_of


class Takes(Protocol):
    """What of a module says how it takes its sequences."""

    shares: bool

    @property
    def one_row(self) -> bool:
        """Whether the rows of a micro-batch are laid end to end."""


def inputs_of(
    module: Takes, batch: TrainBatch, device: torch.device, rows: int | None = None, told: bool = False
) -> dict[str, Any]:
    """Arguments of the module's forward pass, all but the temperature.

    Args:
        module: a policy or critic.
        batch: the micro-batch.
        device: where the module computes.
        rows: that are computed, from the first on; None is all.
        told: whether tokens that were told are predicted too, behind the M trained ones; of all rows then.

    Raises:
        RuntimeError: trees of sequences for a module that does not take them.
    """
    if batch.shared and not module.shares:
        raise RuntimeError(f"{type(module).__name__} takes no trees of sequences: pack them apart")
    within = batch.states < batch.tokens[:rows].size
    arrays = {
        "tokens": batch.tokens[:rows],
        "positions": batch.positions[:rows],
        "states": batch.states[within],
        "targets": batch.targets[within],
    } | ({"ends": batch.ends[:rows]} if batch.shared and not module.one_row else {})
    if told and batch.told is not None:
        arrays["states"] = np.concatenate([batch.states, batch.told.states])
        arrays["targets"] = np.concatenate([batch.targets, batch.told.targets])
    more: dict[str, Any] = {"bounds": bounds_of(batch.ends[:rows], device)} if module.one_row else {}
    if batch.shared:  # siblings go on from the same tokens
        arrays["states"], more["follows"] = np.unique(arrays["states"], return_inverse=True)
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()} | more

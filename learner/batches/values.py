"""Values of trained tokens, between micro-batches (tensors float32[M]) and samples (arrays float64[T'], of its trained
tokens only)."""

from collections.abc import Sequence

import numpy as np
import torch

from learner.batches.types import TrainBatch


def gather(batches: Sequence[TrainBatch], values: Sequence[torch.Tensor], samples: int) -> list[np.ndarray]:
    """One array for each sample.

    Args:
        batches: micro-batches of the samples.
        values: float[M] of each micro-batch.
        samples: how many there are.
    """
    arrays: list[np.ndarray] = [np.empty(0)] * samples
    for batch, of_batch in zip(batches, values, strict=True):
        for index, array in zip(batch.members, batch.split(of_batch.cpu().double().numpy()), strict=True):
            arrays[index] = array
    return arrays


def scatter(batches: Sequence[TrainBatch], values: Sequence[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """One tensor for each micro-batch.

    Args:
        batches: micro-batches of the samples.
        values: float[T'] of each sample.
        device: of the tensors.
    """
    parts = ([values[index] for index in batch.members] for batch in batches)
    return [torch.from_numpy(np.concatenate(part).astype(np.float32)).to(device) for part in parts]

"""What generators and checkpoints get of a policy, tensor by tensor, whatever the policy is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One tensor that generators and checkpoints get."""

    name: str  # in checkpoints
    parts: tuple[torch.nn.Parameter, ...]  # the parameters that it is made of, sharded as ZeRO has them
    shape: tuple[int, ...]  # of the whole tensor
    tensor: Callable[[], torch.Tensor]  # makes the whole tensor; called while its parts are gathered

    @property
    def size(self) -> int:
        """How many numbers the whole tensor has."""
        return torch.Size(self.shape).numel()


def plain(name: str, parameter: torch.nn.Parameter) -> Export:
    """A parameter that is exported as it is."""
    return Export(name=name, parts=(parameter,), shape=whole_shape(parameter), tensor=lambda: parameter)


def whole_shape(parameter: torch.nn.Parameter) -> tuple[int, ...]:
    """The shape of a parameter that ZeRO may have sharded."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def parts_of(exports: Sequence[Export]) -> list[torch.nn.Parameter]:
    """All parameters that some tensors are made of, to be gathered together."""
    return [part for export in exports for part in export.parts]

"""What generators and checkpoints get of a policy, tensor by tensor, whatever the policy is made of."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One tensor that generators and checkpoints get."""

    name: str  # in checkpoints
    parts: tuple[torch.nn.Parameter, ...]  # parameters that it is made of, sharded as ZeRO has them; a buffer has none
    shape: tuple[int, ...]  # of the whole tensor
    tensor: Callable[[], torch.Tensor]  # makes the whole tensor; called while its parts are gathered
    dtype: torch.dtype | None = None  # in which it travels and is written; None is that of the run

    @property
    def size(self) -> int:
        """How many numbers the whole tensor has."""
        return torch.Size(self.shape).numel()


def plain(name: str, parameter: torch.nn.Parameter) -> Export:
    """A parameter that is exported as it is."""
    return Export(name=name, parts=(parameter,), shape=whole_shape(parameter), tensor=lambda: parameter)


def buffers(lm: torch.nn.Module) -> Iterator[Export]:
    """What a model keeps beside its parameters and writes into checkpoints, such as the biases by which the routers of
    some mixtures of experts are balanced. Nobody trains them; generators begin without them all the same."""
    kept = lm.state_dict(keep_vars=True).keys()
    for name, buffer in lm.named_buffers():
        if name in kept:
            yield Export(
                name=name,
                parts=(),
                shape=tuple(buffer.shape),
                tensor=partial(lm.get_buffer, name),
                dtype=buffer.dtype,
            )


def whole_shape(parameter: torch.nn.Parameter) -> tuple[int, ...]:
    """The shape of a parameter that ZeRO may have sharded."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def parts_of(exports: Sequence[Export]) -> list[torch.nn.Parameter]:
    """All parameters that some tensors are made of, to be gathered together."""
    return [part for export in exports for part in export.parts]

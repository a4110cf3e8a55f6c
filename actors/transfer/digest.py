"""A digest of all weights that does not depend on how a model keeps them: sums of their bit patterns, decoder layer by
decoder layer.

A sum does not change where matrices are fused, transposed, cut over GPUs or filled up with zeros, so a learner and an
engine that hold the same weights in different shapes have the same digest. One flipped bit changes it, and so do two
layers that have changed places. Two numbers of one layer that have changed places do not: the probe sees these.
"""

from collections.abc import Iterable

import torch

from actors.types import LayerSums, WeightSums

REST = "outside the layers"  # the group of what belongs to no layer: embedding, last norm, head
CPU_CHUNK, GPU_CHUNK = 2**18, 2**24  # numbers whose squares exist at the same time; on the CPU they stay in its cache
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def group_of(name: str) -> str:
    """The group that a weight is counted in, by the first number in its name: that of its decoder layer.

    Example: ``group_of("model.layers.3.mlp.experts.7.w1") == "layer 3"``
    """
    return next((f"layer {part}" for part in name.split(".") if part.isdigit()), REST)


def groups_of(names: Iterable[str]) -> list[str]:
    """The groups of these weights, each once, in an order that depends on nothing else."""
    return sorted({group_of(name) for name in names})


def bit_sums(tensor: torch.Tensor) -> torch.Tensor:
    """int64[3] on the tensor's device: how many numbers are not 0, and the sums of the bit patterns and of their
    squares, modulo 2**64. A pattern is read as a signed integer of the number's size; that of 0.0 is 0."""
    flat = tensor.detach().reshape(-1)
    bits = flat.view(_BITS[flat.element_size()])
    sums = torch.zeros(3, dtype=torch.int64, device=flat.device)
    for chunk in bits.split(CPU_CHUNK if flat.device.type == "cpu" else GPU_CHUNK):
        wide = chunk.long()
        sums += torch.stack((wide.count_nonzero(), wide.sum(), wide.square_().sum()))
    return sums


class Digest:
    """The sums of weights that are added one by one; nothing leaves their device before `result`."""

    def __init__(self, groups: Iterable[str], dtype: torch.dtype, device: torch.device) -> None:
        """
        Args:
            groups: all that there are, in the order of the rows of `table`.
            dtype: of the weights on the wire. What is kept in more digits is rounded to it first, which gives back the
                number that was sent.
            device: where the sums are.
        """
        self._rows = {group: row for row, group in enumerate(groups)}
        self._dtype, self._device = dtype, device
        self._added: list[tuple[int, torch.Tensor]] = []  # row and sums, perhaps of several streams of the device

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Counts a weight, or a part of it, in."""
        self.add_sums(name, bit_sums(tensor.detach().to(self._dtype) if tensor.is_floating_point() else tensor))

    def add_sums(self, name: str, sums: torch.Tensor) -> None:
        """Counts in what `bit_sums` gave for a weight."""
        self._added.append((self._rows[group_of(name)], sums))

    def table(self) -> torch.Tensor:
        """int64[groups, 3], which may be added to those of others; waits for the device."""
        table = torch.zeros((len(self._rows), 3), dtype=torch.int64, device=self._device)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        if self._added:
            rows = torch.tensor([row for row, _ in self._added], device=self._device)
            table.index_add_(0, rows, torch.stack([sums.to(self._device) for _, sums in self._added]))
        return table

    def result(self, table: torch.Tensor | None = None) -> WeightSums:
        """The sums of every group, out of its own table or one to which others were added."""
        rows = (self.table() if table is None else table).tolist()
        return {group: LayerSums(*row) for group, row in zip(self._rows, rows, strict=True)}


def share(tensor: torch.Tensor, rank: int, ranks: int) -> torch.Tensor:
    """The part of a tensor's numbers that one of several ranks counts, so that each is counted once."""
    flat = tensor.reshape(-1)
    return flat[rank * flat.numel() // ranks : (rank + 1) * flat.numel() // ranks]


def added(parts: Iterable[WeightSums]) -> WeightSums:
    """The digest of weights that lie in several places, out of those of the parts."""
    total: WeightSums = {}
    for part in parts:
        for group, sums in part.items():
            before = total.get(group, LayerSums(0, 0, 0))
            total[group] = LayerSums(*(_wrapped(a + b) for a, b in zip(before, sums, strict=True)))
    return total


def _wrapped(number: int) -> int:
    """A sum as 64 bits hold it, as torch's own sums do."""
    return (number + 2**63) % 2**64 - 2**63

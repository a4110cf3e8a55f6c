"""The digest of weights: equal for fused, cut, padded and transposed copies, another one where a bit flips, and how
long it takes over as many bytes as a real model has."""

import time
from dataclasses import dataclass

import torch

from actors.transfer.digest import Digest, share


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of the weights."""

    layers: int
    rows: int
    columns: int


REAL = Size(layers=64, rows=16_384, columns=7168)  # 15 GB in bfloat16
SMALL = Size(layers=3, rows=8, columns=6)


def measure(device: str, size: Size = REAL) -> dict[str, float]:
    """GB, and seconds that its digest takes.

    Raises:
        AssertionError: two copies of the same weights differ, or two different ones do not.
    """
    torch.manual_seed(0)
    place = torch.device(device)
    # Layers of one storage: what is timed is reading, and memory is for as many bytes as there are.
    layers = [torch.randn(size.rows, size.columns, device=place).to(torch.bfloat16) for _ in range(size.layers)]
    names = [f"model.layers.{number}.weight" for number in range(size.layers)]
    groups = [f"layer {number}" for number in range(size.layers)]

    def digest(parts: list[tuple[str, torch.Tensor]]) -> object:
        made = Digest(groups, torch.bfloat16, place)
        for name, tensor in parts:
            made.add(name, tensor)
        return made.result()

    whole = list(zip(names, layers, strict=True))
    plain = digest(whole)
    started = time.monotonic()
    assert digest(whole) == plain, "the digest of the same weights differs from one time to the next"
    seconds = time.monotonic() - started
    name, first = whole[0]
    half, zeros = size.rows // 2, torch.zeros_like(first[:2])
    copies = {
        "in two pieces": [(name, first[:half]), (name, first[half:])],
        "transposed": [(name, first.T.contiguous())],
        "with rows of zeros behind": [(name, torch.cat([first, zeros]))],
        "in the shares of three ranks": [(name, share(first, rank, 3)) for rank in range(3)],
    }
    for what, parts in copies.items():
        assert digest([*parts, *whole[1:]]) == plain, f"the digest of weights {what} differs"
    flipped = first.clone()
    flipped.view(torch.int16)[half, 1] ^= 1
    assert digest([(name, flipped), *whole[1:]]) != plain, "the digest does not see a flipped bit"
    swapped = [(name, layers[1]), (names[1], first), *whole[2:]]
    assert digest(swapped) != plain, "the digest does not see that two layers have changed places"
    return {"gb": sum(layer.nbytes for layer in layers) / 1e9, "seconds": seconds}

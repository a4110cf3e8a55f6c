"""How a stream of tensors is cut into buckets: computed alike on both sides of a weight transfer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_ALIGNMENT = 16  # bytes, so that a bucket can be viewed as any dtype at each tensor's offset
WIRE_BYTES = 2**22  # of a gloo bucket, at most: small ones stay in the processor's cache and in the heap


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Where one tensor lies in its bucket."""

    index: int  # position in the manifest
    start: int  # bytes from the start of the bucket
    size: int  # bytes


def byte_size(itemsize: int, shape: Sequence[int]) -> int:
    """Bytes of a dense tensor."""
    return itemsize * math.prod(shape)


def plan_buckets(sizes: Sequence[int], bucket_bytes: int) -> list[list[Piece]]:
    """Cuts a manifest into buckets of at most `bucket_bytes` (a larger tensor travels alone); order is kept.

    Args:
        sizes: bytes of each tensor of the manifest.
        bucket_bytes: the bound.
    """
    buckets: list[list[Piece]] = []
    filled = 0
    for index, size in enumerate(sizes):
        start = -(-filled // _ALIGNMENT) * _ALIGNMENT
        if not buckets or start + size > bucket_bytes:
            buckets.append([])
            start = 0
        buckets[-1].append(Piece(index=index, start=start, size=size))
        filled = start + size
    return buckets

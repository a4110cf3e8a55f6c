"""The weights of a Hugging Face folder, written shard by shard: no more than one shard is in memory."""

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file

from actors.transfer.buckets import plan_buckets

SHARD_BYTES = 4 * 2**30
INDEX = "model.safetensors.index.json"


def write_weights(
    folder: Path, sizes: Sequence[int], tensors: Iterable[tuple[str, torch.Tensor]], shard_bytes: int = SHARD_BYTES
) -> None:
    """Writes named tensors into `model.safetensors`, or into several files with an index where they are larger than
    one shard.

    Args:
        folder: where they go; it is there.
        sizes: bytes of each tensor.
        tensors: as many, in the same sequence.
        shard_bytes: of a file, unless a single tensor is larger.
    """
    shards, left, homes = plan_buckets(sizes, shard_bytes), iter(tensors), {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        state = {name: tensor.contiguous() for name, tensor in islice(left, len(shard))}
        save_file(state, folder / file, metadata={"format": "pt"})
        homes |= dict.fromkeys(state, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes)}, "weight_map": homes}
        (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")

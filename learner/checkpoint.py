"""A policy as a Hugging Face folder: gathered layer by layer and written in shards of a few GiB by the rank's thread.
The memory of the host holds one shard that is gathered and one that is written, and training goes on while the last
ones are written.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import AutoTokenizer, PreTrainedModel

from learner.sending import tensor_sizes
from learner.weights import Exporting, ZeroSource
from learner.writing import Writer

SHARD_BYTES = 4 * 2**30  # of weights in one file
GATHER_BYTES = 2**28  # of weights that ZeRO gathers at once
INDEX = "model.safetensors.index.json"
_LAYER = re.compile(r".*?\.\d+\.")  # up to the number of the layer


def save_policy(
    engine: Exporting,
    folder: Path,
    writer: Writer,
    *,
    tokenizer: Path | str,
    dtype: torch.dtype,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Has a policy written as a folder for `from_pretrained`. All ranks call it together, and rank 0 writes. Returns
    when all weights have been copied: the policy may be trained again.

    Args:
        engine: the policy's.
        folder: an empty one, or of other files.
        writer: of this rank.
        tokenizer: the folder whose tokenizer is written beside the weights.
        dtype: of the written weights.
        shard_bytes: of weights in one file, where layers are not larger.
    """
    source = ZeroSource(engine, dtype, bucket_bytes=GATHER_BYTES)
    names = [meta.name for meta in source.metadata()]
    shards = plan_shards(names, tensor_sizes(source), shard_bytes)
    try:
        if dist.get_rank() == 0:
            _hand_over(engine.module.lm, folder, writer, iter(source), shards)
            writer.add(partial(_write_rest, folder, tokenizer))
    finally:
        source.drain()  # all ranks take part in every gather, also where this one failed


def _hand_over(
    lm: PreTrainedModel,
    folder: Path,
    writer: Writer,
    tensors: Iterator[tuple[str, torch.Tensor]],
    shards: Sequence[int],
) -> None:
    for number, count in enumerate(shards):
        shard = {name: tensor.to("cpu", copy=True) for name, tensor in islice(tensors, count)}
        writer.wait()
        writer.add(partial(_write_shard, lm, shard, folder, number, len(shards)))


def _write_rest(folder: Path, tokenizer: Path | str) -> Iterable[Path]:
    write_index(folder)
    AutoTokenizer.from_pretrained(tokenizer, local_files_only=True).save_pretrained(folder)
    return [path for path in folder.iterdir() if path.is_file()]


def plan_shards(names: Sequence[str], sizes: Sequence[int], most: int) -> list[int]:
    """How many tensors each shard takes, in their order. A layer is never split, as some are written in another form
    than they are held, all tensors of a layer together.

    Args:
        names: of the tensors, those of a layer one behind the other.
        sizes: their bytes.
        most: bytes of a shard; a larger layer has one of its own.
    """
    shards: list[int] = []
    filled = 0
    for _, layer in groupby(range(len(names)), key=lambda index: _layer_of(names[index])):
        members = list(layer)
        size = sum(sizes[index] for index in members)
        if not shards or filled + size > most:
            shards.append(0)
            filled = 0
        shards[-1] += len(members)
        filled += size
    return shards


def _layer_of(name: str) -> str:
    found = _LAYER.match(name)
    return found.group() if found else name


def _write_shard(
    lm: PreTrainedModel, shard: dict[str, torch.Tensor], folder: Path, number: int, shards: int
) -> Iterable[Path]:
    """One file of weights in the names and the form of published checkpoints, and the model's own small files."""
    folder.mkdir(exist_ok=True)
    scratch = folder / f"shard-{number}"
    size = sum(tensor.numel() * tensor.element_size() for tensor in shard.values())
    lm.save_pretrained(scratch, state_dict=shard, is_main_process=True, max_shard_size=2 * size + 1)
    for path in scratch.iterdir():
        whole = shard_file(number, shards) if path.suffix == ".safetensors" else path.name
        path.replace(folder / whole)
    scratch.rmdir()
    return ()  # `_write_rest` names all files


def shard_file(number: int, shards: int) -> str:
    """What transformers calls a file of weights."""
    return "model.safetensors" if shards == 1 else f"model-{number + 1:05}-of-{shards:05}.safetensors"


def write_index(folder: Path) -> None:
    """Which file holds which tensor, where there are several."""
    files = sorted(folder.glob("model-*.safetensors"))
    held = {file.name: header_of(file) for file in files}
    if not held:
        return
    total = sum(end - start for tensors in held.values() for start, end in tensors.values())
    places = {name: file for file, tensors in held.items() for name in tensors}
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def header_of(file: Path) -> dict[str, tuple[int, int]]:
    """name -> (start, end) in bytes, of the tensors of a safetensors file."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return {name: tuple(tensor["data_offsets"]) for name, tensor in header.items() if name != "__metadata__"}

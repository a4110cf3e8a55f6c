"""Checkpoints: Hugging Face folders that are complete exactly when their marker, written last, is there.

A policy is gathered layer by layer and written in shards of a few GiB by a thread: the memory of the host holds one
shard that is gathered and one that is written, and training goes on while the last ones are written.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import AutoTokenizer, PreTrainedModel

from learner.engine import Engine
from learner.sending import tensor_sizes
from learner.settings import SHARD_BYTES
from learner.types import MARKER
from learner.weights import ZeroSource

GATHER_BYTES = 2**28  # of weights that ZeRO gathers at once
INDEX = "model.safetensors.index.json"
_LAYER = re.compile(r".*?\.\d+\.")  # up to the number of the layer


class Checkpoints:
    """Writes a policy to one folder after another. All ranks call every method together; rank 0 writes."""

    def __init__(
        self, engine: Engine, *, tokenizer: Path | str, dtype: torch.dtype, shard_bytes: int = SHARD_BYTES
    ) -> None:
        """
        Args:
            engine: the policy's.
            tokenizer: the folder whose tokenizer is written beside the weights.
            dtype: of the written weights.
            shard_bytes: of weights in one file, where layers are not larger.
        """
        self._engine, self._tokenizer, self._dtype, self._shard_bytes = engine, tokenizer, dtype, shard_bytes
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None

    def save(self, folder: Path) -> None:
        """Starts to write what the policy exports as a folder for `from_pretrained`; a folder of that name is replaced.
        Returns when all weights have been copied: the policy may be trained again.

        Raises:
            Exception: what an earlier folder failed with, such as OSError where the disk is full.
        """
        source = ZeroSource(self._engine, self._dtype, bucket_bytes=GATHER_BYTES)
        names = [meta.name for meta in source.metadata()]
        shards = plan_shards(names, tensor_sizes(source), self._shard_bytes)
        try:
            if dist.get_rank() == 0:
                self._write(folder, iter(source), shards)
        finally:
            source.drain()  # all ranks take part in every gather, also where this one failed

    def _write(self, folder: Path, tensors: Iterator[tuple[str, torch.Tensor]], shards: Sequence[int]) -> None:
        self.finish()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        lm: PreTrainedModel = self._engine.module.lm
        for number, count in enumerate(shards):
            shard = {name: tensor.to("cpu", copy=True) for name, tensor in islice(tensors, count)}
            self.finish()
            self._writing = self._thread.submit(_write_shard, lm, shard, folder, number, len(shards))
        self._writing = self._thread.submit(self._complete, folder, self._writing)

    def finish(self) -> None:
        """Waits until what was given to the thread is on disk.

        Raises:
            Exception: what that failed with, such as OSError where the disk is full.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Finishes, and ends the thread."""
        try:
            self.finish()
        finally:
            self._thread.shutdown()

    def _complete(self, folder: Path, last: "Future[None] | None") -> None:
        if last is not None:
            last.result()
        write_index(folder)
        AutoTokenizer.from_pretrained(self._tokenizer, local_files_only=True).save_pretrained(folder)
        mark_complete(folder)


def mark_complete(folder: Path) -> None:
    """Writes the marker of a folder whose files are all there, when they are on disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    (folder / MARKER).touch()


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


def _write_shard(lm: PreTrainedModel, shard: dict[str, torch.Tensor], folder: Path, number: int, shards: int) -> None:
    """One file of weights in the names and the form of published checkpoints, and the model's own small files."""
    scratch = folder / f"shard-{number}"
    size = sum(tensor.numel() * tensor.element_size() for tensor in shard.values())
    lm.save_pretrained(scratch, state_dict=shard, is_main_process=True, max_shard_size=2 * size + 1)
    for path in scratch.iterdir():
        whole = shard_file(number, shards) if path.suffix == ".safetensors" else path.name
        path.replace(folder / whole)
    scratch.rmdir()


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

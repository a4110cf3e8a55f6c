"""Checkpoints: Hugging Face folders that are complete exactly when their marker, written last, is there."""

import os
import shutil
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import AutoTokenizer

from learner.engine import Engine
from learner.types import MARKER
from learner.weights import ZeroSource


def save_checkpoint(engine: Engine, folder: Path, *, tokenizer: Path | str, dtype: torch.dtype) -> None:
    """Writes what the policy exports as a folder for `from_pretrained`; every rank calls it, rank 0 writes.

    The weights are gathered bucket by bucket into host memory. A half-written folder of that name is replaced.

    Args:
        engine: the policy's.
        folder: to write.
        tokenizer: the folder whose tokenizer is written beside the weights.
        dtype: of the written weights.
    """
    writer = dist.get_rank() == 0
    state = {}
    for name, tensor in ZeroSource(engine, dtype, bucket_bytes=2**28):
        if writer:
            state[name] = tensor.cpu().clone()
    if writer:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        engine.module.lm.save_pretrained(folder, state_dict=state, is_main_process=True)
        AutoTokenizer.from_pretrained(tokenizer, local_files_only=True).save_pretrained(folder)
        mark_complete(folder)
    dist.barrier()


def mark_complete(folder: Path) -> None:
    """Writes the marker of a folder whose files are all there, when they are on disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    (folder / MARKER).touch()

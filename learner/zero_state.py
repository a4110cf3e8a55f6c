"""What an engine and a rank hold beside weights, on disk: optimizer and schedule in DeepSpeed's own files, one for each
rank, and random states."""

import json
import random
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine

from learner.writing import Writer


class ThreadedFiles(CheckpointEngine):  # type: ignore[misc]  # DeepSpeed has no types
    """DeepSpeed's way to its files: copies what is to be saved, and has the rank's thread write the copy.

    DeepSpeed itself touches no disk then: a rank whose disk is full would leave the others waiting in a barrier.
    """

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Leaves it to the thread."""

    def create(self, info: CheckpointCommitInfo) -> None:
        """Nothing is to be done before the files."""

    def save(self, state_dict: Mapping[str, Any], path: str) -> None:
        """Copies, and returns when the tensors may change again."""
        if state_dict.get("param_shapes"):  # of ZeRO: weights are made anew out of what the optimizer holds
            buffers = {name: state_dict["module"][name] for name in state_dict["buffer_names"]}
            state_dict = {**state_dict, "module": buffers}
        self._writer.add(partial(_write, copied(state_dict, {}), Path(path)))

    def load(self, path: str, map_location: Any = None) -> Any:
        """A file of `save`.

        Raises:
            OSError: it cannot be read; of whatever kind the failure was, the file is named.
        """
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=False)
        except Exception as failure:
            raise OSError(
                f"{path} cannot be read: {failure}. Go on from an earlier checkpoint, by its folder, or start a new run"
            ) from failure

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """Whoever has the whole checkpoint written says when it is complete."""
        return True


def copied(value: Any, known: dict[tuple[Any, ...], torch.Tensor]) -> Any:
    """A copy in the memory of the host. Tensors that share their numbers do so in the copy, and views of a larger one
    take no more than their own.

    Args:
        value: tensors and plain values in dictionaries, lists and tuples.
        known: tensors that have been copied, by where they lie.
    """
    if isinstance(value, torch.Tensor):
        place = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if not value.numel() or place not in known:
            known[place] = value.detach().to("cpu", copy=True)
        return known[place]
    if isinstance(value, dict):
        return {key: copied(each, known) for key, each in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(copied(each, known) for each in value)
    return value


def _write(state: object, path: Path) -> Iterable[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return (path,)


def seed_all(seed: int) -> None:
    """Seeds the random generators of this process, so that all it draws follows from the run's seed."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def save_random_states(file: Path, writer: Writer) -> None:
    """Has the states of this process's random generators written."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, numbers, gauss = random.getstate()
    states = {
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "cuda": torch.cuda.get_rng_state().numpy().tobytes().hex() if torch.cuda.is_available() else "",
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": [version, list(numbers), gauss],
    }
    writer.add(partial(_write_text, json.dumps(states), file))


def _write_text(text: str, file: Path) -> Iterable[Path]:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")
    return (file,)


def restore_random_states(file: Path) -> None:
    """Goes on with the random states of a rank that were saved; a rank that had no part then keeps its own."""
    if not file.is_file():
        return
    states = json.loads(file.read_text(encoding="utf-8"))
    torch.set_rng_state(_bytes(states["torch"]))
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes(states["cuda"]))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))


def _bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)


def save_engine(engine: Any, folder: Path, writer: Writer) -> None:
    """Has optimizer, schedule and trained weights of a DeepSpeed engine written, each rank its share. All ranks call
    it together; it returns when they are copied. Frozen weights are left out, and so are weights that the optimizer
    holds in float32 anyway."""
    engine.checkpoint_engine = ThreadedFiles(writer)
    engine._copy_recovery_script = lambda path: None  # two scripts of DeepSpeed's beside its files, which nobody needs
    engine.save_checkpoint(str(folder.parent), tag=folder.name, save_latest=False, exclude_frozen_parameters=True)


def restore_engine(engine: Any, folder: Path, writer: Writer) -> None:
    """Has a DeepSpeed engine go on from what `save_engine` wrote, with as many ranks and the same ZeRO stage. All ranks
    call it together, before the first update.

    Raises:
        FileNotFoundError: the folder holds no such state.
    """
    engine.checkpoint_engine = ThreadedFiles(writer)
    found, _ = engine.load_checkpoint(str(folder.parent), tag=folder.name, load_module_strict=False)
    if found is None:
        raise FileNotFoundError(f"{folder} holds no state of an optimizer")
    if hasattr(engine.optimizer, "update_lp_params"):
        engine.optimizer.update_lp_params()  # the weights out of the optimizer's own

"""Adapter folders: checkpoints of a policy whose adapter alone was trained, as peft reads them; and how one becomes the
folder of a whole model."""

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer

from learner.checkpoint import SHARD_BYTES, header_of, plan_shards, shard_file, write_index
from learner.engine import Engine
from learner.models.adapter import CONFIG, PREFIX, WEIGHTS, adapter_parameters, merged, write_adapter_config
from learner.writing import Writer, mark_complete

# Settings of peft's with which a layer computes something else than with W + (alpha / rank) B A.
OTHER_KINDS = (
    *("use_rslora", "use_dora", "use_qalora", "use_bdlora", "rank_pattern", "alpha_pattern", "layer_replication"),
    *("alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config", "velora_config"),
)


class UnfitAdapter(ValueError):
    """The adapter cannot be merged, or not into this model."""


def save_adapter(engine: Engine, folder: Path, writer: Writer, *, base: Path, dtype: torch.dtype) -> None:
    """Has the adapter of a policy written as a folder for peft; every rank calls it, and rank 0 writes.

    Args:
        engine: the policy's.
        folder: an empty one, or of other files.
        writer: of this rank.
        base: the folder of the model that the adapter belongs to; its tokenizer is written beside the adapter.
        dtype: of the written weights.
    """
    writes, state = dist.get_rank() == 0, {}
    for name, parameter in adapter_parameters(engine.module.lm):
        with engine.gathered([parameter]):
            if writes:
                state[name] = parameter.detach().to("cpu", dtype, copy=True).contiguous()
    if writes:
        writer.add(partial(write_adapter, engine.module.lm, state, folder, base))


def write_adapter(lm: torch.nn.Module, state: Mapping[str, torch.Tensor], folder: Path, base: Path) -> Iterable[Path]:
    """Writes an adapter folder; gives its files.

    Args:
        lm: the model with the adapter.
        state: the adapter's parameters under the names of `adapter_parameters`, whole.
        folder: to write.
        base: the folder of the model that the adapter belongs to; its tokenizer is written beside the adapter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(state), folder / WEIGHTS, metadata={"format": "pt"})
    write_adapter_config(lm, folder, base)
    AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(folder)
    return [path for path in folder.iterdir() if path.is_file()]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFolder:
    """What an adapter folder says of its adapter."""

    folder: Path
    base: Path  # the folder of the model that it belongs to, as it was called when the adapter was trained
    scale: float  # alpha / rank
    turned: bool  # whether its layers hold their matrices as float[in, out]

    @classmethod
    def read(cls, folder: Path) -> "AdapterFolder":
        """Reads the folder's configuration.

        Raises:
            UnfitAdapter: it is missing, or of a kind of adapter that is more than a product of two matrices.
        """
        file = folder / CONFIG
        if not file.is_file() or not (folder / WEIGHTS).is_file():
            raise UnfitAdapter(f"{folder} is no adapter folder: it must hold {CONFIG} and {WEIGHTS}")
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            rank, alpha = int(found["r"]), float(found["lora_alpha"])
            more = [name for name in OTHER_KINDS if found.get(name)]
            kind, base, turned = found["peft_type"], str(found["base_model_name_or_path"]), found["fan_in_fan_out"]
        except (ValueError, KeyError, TypeError, RecursionError) as failure:
            raise UnfitAdapter(f"{file} is not the configuration of an adapter ({failure!r})") from failure
        if kind != "LORA" or more or rank < 1:
            raise UnfitAdapter(
                f"{file} is of an adapter that winnow does not merge ({', '.join([str(kind), *more])}, rank {rank}): "
                "merge it with merge_and_unload of peft"
            )
        return cls(folder=folder, base=Path(base), scale=alpha / rank, turned=bool(turned))

    def layers(self) -> dict[str, tuple[str, str]]:
        """layer -> names of its A and its B in the folder's weights.

        Raises:
            UnfitAdapter: the weights hold something else.
        """
        with safe_open(self.folder / WEIGHTS, framework="pt") as weights:
            names = set(weights.keys())
        ends = (".lora_A.weight", ".lora_B.weight")
        found = {name.removeprefix(PREFIX).removesuffix(end) for name in names for end in ends if name.endswith(end)}
        pairs = {layer: (f"{PREFIX}{layer}{ends[0]}", f"{PREFIX}{layer}{ends[1]}") for layer in sorted(found)}
        if odd := names.symmetric_difference(name for pair in pairs.values() for name in pair):
            raise UnfitAdapter(
                f"{self.folder / WEIGHTS} holds more than the two matrices of each layer, or less ({min(odd)}): merge "
                "it with merge_and_unload of peft"
            )
        return pairs


def check_merge(adapter: AdapterFolder, files: Sequence[Path]) -> None:
    """Whether an adapter can be merged into the model whose weights are in these safetensors files.

    Raises:
        UnfitAdapter: the model has no such layers, or of other shapes.
    """
    with _opened(adapter, files):
        pass


def write_merged(adapter: AdapterFolder, files: Sequence[Path], out: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Writes the weights in these safetensors files into the folder `out`, each in its own dtype, the adapter merged
    into those that it belongs to. No more than a shard is in memory.

    Raises:
        UnfitAdapter: see `check_merge`; nothing is written then.
    """
    places = {name: place for file in files for name, place in header_of(file).items()}
    with _opened(adapter, files) as weights:
        names, tensors = list(weights.readers), weights.tensors()
        shards = plan_shards(names, [places[name][1] - places[name][0] for name in names], shard_bytes)
        for number, count in enumerate(shards):
            shard = {name: tensor.contiguous() for name, tensor in islice(tensors, count)}
            save_file(shard, out / shard_file(number, len(shards)), metadata={"format": "pt"})
    write_index(out)
    mark_complete(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """Open files: a model's weights, and those of an adapter that fits them."""

    adapter: AdapterFolder
    halves: Any  # safetensors' reader of the adapter's weights
    readers: Mapping[str, Any]  # weight of the model -> safetensors' reader that has it
    pairs: Mapping[str, tuple[str, str]]  # weight that has an adapter -> names of its A and its B

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The model's weights one after another, with the adapter merged into them."""
        for name, reader in self.readers.items():
            tensor = reader.get_tensor(name)
            if name in self.pairs:
                low, high = (self.halves.get_tensor(half) for half in self.pairs[name])
                tensor = merged(tensor, low, high, self.adapter.scale, self.adapter.turned)
            yield name, tensor


@contextmanager
def _opened(adapter: AdapterFolder, files: Sequence[Path]) -> Iterator[_Weights]:
    with ExitStack() as opened:
        halves = opened.enter_context(safe_open(adapter.folder / WEIGHTS, framework="pt"))
        open_files = [opened.enter_context(safe_open(file, framework="pt")) for file in files]
        readers = {name: reader for reader in open_files for name in reader.keys()}  # noqa: SIM118  # no mapping
        pairs = {_matrix_of(layer, readers, adapter): pair for layer, pair in adapter.layers().items()}
        for name, pair in pairs.items():
            _check_shape(name, readers[name], [halves.get_slice(half).get_shape() for half in pair], adapter)
        yield _Weights(adapter=adapter, halves=halves, readers=readers, pairs=pairs)


def _matrix_of(layer: str, names: Container[str], adapter: AdapterFolder) -> str:
    """What the files of a model call the matrix of a layer: some leave away how its name begins."""
    wanted = f"{layer}.weight"
    while wanted not in names and "." in wanted:
        wanted = wanted.partition(".")[2]
    if wanted not in names:
        raise UnfitAdapter(
            f"{adapter.folder} has an adapter for the layer {layer}, and the model that it is to be merged into has "
            f"none of that name: give the folder of the model that it was trained on, {adapter.base}"
        )
    return wanted


def _check_shape(name: str, reader: Any, halves: Sequence[Sequence[int]], adapter: AdapterFolder) -> None:
    (_, width), (height, _) = halves
    wanted = [width, height] if adapter.turned else [height, width]
    found = list(reader.get_slice(name).get_shape())
    if found != wanted:
        raise UnfitAdapter(
            f"{adapter.folder} has an adapter for a matrix {name} of shape {wanted}, and the model has one of shape "
            f"{found}: give the folder of the model that it was trained on, {adapter.base}"
        )

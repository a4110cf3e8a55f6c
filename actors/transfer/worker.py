"""What winnow adds to vLLM's workers: the digest of the weights that an engine computes with, and the end of an update
that did not come to its own. vLLM mixes `WeightsExtension` into its worker class (`worker_extension_cls`).
"""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
    UnquantizedLinearMethod,
)
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

from actors.transfer.digest import Digest, bit_sums, groups_of

# On the CPU vLLM packs the matrix of a linear layer and lets the original go: its sums are taken just before that.
_PACKED: WeakKeyDictionary[torch.nn.Module, torch.Tensor] = WeakKeyDictionary()


class WeightsExtension:
    """Methods that a worker has beside vLLM's; called through `AsyncLLM.collective_rpc`."""

    def weight_sums(self) -> dict[str, list[int]]:
        """The digest of this worker's share of the live weights, as plain numbers; added over workers it is that of
        the model, each weight counted once. The worker must not be in an update."""
        worker: Any = self
        model: torch.nn.Module = worker.model_runner.get_model()
        names = [name for name, _ in model.named_parameters()]
        dtype: torch.dtype = worker.model_config.dtype
        digest = Digest(groups_of(names), dtype, worker.device)
        for name, sums in own_sums(model, dtype):
            digest.add_sums(name, sums)
        return {group: list(sums) for group, sums in digest.result().items()}

    def end_weight_update(self) -> None:
        """Ends an update whose end will not come, whatever there was of it. The weights mean nothing until the next
        update has come whole."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        worker: Any = self
        finalize: Any = finalize_layerwise_reload  # vLLM gives it no types
        with torch.no_grad(), set_current_vllm_config(worker.vllm_config):
            finalize(worker.model_runner.get_model(), worker.model_config)
        worker._weight_update_active = False

    def give_up_weight_update(self) -> None:
        """The same for one that was cut off; leaves the transfer group, too."""
        self.end_weight_update()
        worker: Any = self
        worker.weight_transfer_engine.shutdown()


def own_sums(model: torch.nn.Module, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, sums) of what this worker counts of every parameter; parameters that modules share come once."""
    rank, size = get_tensor_model_parallel_rank(), get_tensor_model_parallel_world_size()
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            whole = f"{path}.{name}" if path else name
            if name == "weight" and not parameter.numel() and module in _PACKED:
                yield whole, _PACKED[module]
            else:
                own = own_share(module, name, parameter.detach(), rank, size)
                yield whole, bit_sums(own.to(dtype) if own.is_floating_point() else own)


def own_share(module: torch.nn.Module, name: str, tensor: torch.Tensor, rank: int, size: int) -> torch.Tensor:
    """What one tensor-parallel worker counts of its copy of a parameter, so that all workers count each number once.

    Args:
        module: whose parameter it is.
        name: of the parameter in the module.
        tensor: the worker's own part, or its copy of the whole.
        rank: of the worker.
        size: how many workers there are.
    """
    if size == 1:
        return tensor
    cut = getattr(module, "tp_size", 1) > 1  # a layer may be kept whole by every worker
    if isinstance(module, QKVParallelLinear) and cut:  # with few heads of keys and values several workers have the same
        first = rank % module.num_kv_head_replicas == 0
        return tensor if first else tensor[: module.num_heads * module.head_size]
    of_column = isinstance(module, ColumnParallelLinear | VocabParallelEmbedding) and cut
    of_row = isinstance(module, RowParallelLinear) and cut and name != "bias"
    return tensor if of_column or of_row or is_experts(module) or rank == 0 else tensor[:0]


def is_experts(module: torch.nn.Module) -> bool:
    """Whether a module holds the cut matrices of a mixture of experts."""
    return getattr(module, "tp_size", 1) > 1 and hasattr(module, "w13_weight")


def keep_sums_of_packed_layers() -> None:
    """From now on the sums of a linear layer are kept where vLLM packs its matrix; for engines on the CPU."""
    pack = UnquantizedLinearMethod.process_weights_after_loading
    if pack.__name__ != "process_weights_after_loading":
        return

    def counted_and_packed(self: UnquantizedLinearMethod, layer: torch.nn.Module) -> None:
        weight = getattr(layer, "weight", None)
        if weight is not None and not weight.is_meta:
            rank, size = get_tensor_model_parallel_rank(), get_tensor_model_parallel_world_size()
            _PACKED[layer] = bit_sums(own_share(layer, "weight", weight.detach(), rank, size))
        pack(self, layer)

    method: Any = UnquantizedLinearMethod
    method.process_weights_after_loading = counted_and_packed

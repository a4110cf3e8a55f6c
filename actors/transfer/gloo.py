"""The receiving side of winnow's `gloo` weight transfer, registered in vLLM as a plugin of the same name.

Weights arrive as a stream of buckets whose borders both sides compute from the same manifest; what one side packs,
the other unpacks at the same offsets. The sending side is `learner/weights.py`.
"""

import ctypes
import multiprocessing
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from vllm.distributed.utils import init_gloo_process_group
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

from actors.transfer.arrivals import Arrivals
from actors.transfer.buckets import Piece, byte_size, plan_buckets
from actors.transfer.names import RECEIVERS
from actors.transfer.stores import open_store

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


@dataclass
class GlooInitInfo(WeightTransferInitInfo):
    """How a worker joins the transfer group: rank 0 sends, workers sit at `rank_offset` + their rank in the engine."""

    master_address: str
    master_port: int
    rank_offset: int
    world_size: int
    bucket_bytes: int
    timeout_seconds: float


@dataclass
class GlooUpdateInfo(WeightTransferUpdateInfo):
    """The manifest of one transfer: parallel lists in the order of sending."""

    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]


def join_group(info: GlooInitInfo, rank: int, door: socket.socket | None = None) -> torch.distributed.ProcessGroup:
    """A gloo process group apart from torch's default one; every member calls this with its own rank.

    Args:
        info: where the members meet, and how many they are.
        rank: of this member.
        door: of rank 0: the socket of `actors.transfer.stores.listen` that listens at that place.
    """
    store = open_store(info.master_address, info.master_port, info.world_size, info.timeout_seconds, door)
    return init_gloo_process_group(
        prefix_store=PrefixStore("gloo", store),
        group_rank=rank,
        group_size=info.world_size,
        timeout=timedelta(seconds=info.timeout_seconds),
    )


def broadcast(group: torch.distributed.ProcessGroup, tensor: torch.Tensor) -> torch.distributed.Work:
    """Starts the broadcast of a CPU tensor from rank 0; wait for the result before touching the tensor."""
    options = torch.distributed.BroadcastOptions()
    options.rootRank, options.rootTensor = 0, 0
    return group.broadcast([tensor], options)


class GlooWeightTransferEngine(WeightTransferEngine[GlooInitInfo, GlooUpdateInfo]):
    """Receives checkpoint-format weights over gloo and loads them with vLLM's layerwise reload."""

    init_info_cls = GlooInitInfo
    update_info_cls = GlooUpdateInfo

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._group: torch.distributed.ProcessGroup | None = None
        self._bucket_bytes = 0
        self._arrivals = Arrivals(self.model)

    def init_transfer_engine(self, init_info: GlooInitInfo) -> None:
        """Joins the group; blocks until every member has."""
        self._bucket_bytes = init_info.bucket_bytes
        self._group = join_group(init_info, init_info.rank_offset + self.parallel_config.rank)

    def start_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        if self.device.type == "cpu":
            from actors.transfer.worker import keep_sums_of_packed_layers

            keep_sums_of_packed_layers()
        self._arrivals.clear()
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: GlooUpdateInfo) -> None:
        """Receives every bucket of the manifest and hands its tensors to the model."""
        if self._group is None:
            raise RuntimeError("init_weight_transfer_engine must be called before update_weights")
        # one call for all, as a model looks through all its modules at the start of each
        self._arrivals.load_weights(self._tensors(update_info))

    def _tensors(self, update_info: GlooUpdateInfo) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors of the manifest as they come, views of their buckets."""
        dtypes = [getattr(torch, name) for name in update_info.dtype_names]
        sizes = [byte_size(dtype.itemsize, shape) for dtype, shape in zip(dtypes, update_info.shapes, strict=True)]
        for bucket, buffer in self._buckets(plan_buckets(sizes, self._bucket_bytes)):
            for piece in bucket:
                numbers = buffer[piece.start : piece.start + piece.size].view(dtypes[piece.index])
                yield update_info.names[piece.index], numbers.reshape(update_info.shapes[piece.index])

    def _buckets(self, plan: Sequence[list[Piece]]) -> Iterator[tuple[list[Piece], torch.Tensor]]:
        """Each bucket with its bytes; the next one is on its way while the caller works on the last."""
        assert self._group is not None
        flying: tuple[list[Piece], torch.Tensor, torch.distributed.Work] | None = None
        for bucket in plan:
            # A fresh buffer each time: the reload keeps views of it until a layer is complete.
            buffer = torch.empty(bucket[-1].start + bucket[-1].size, dtype=torch.uint8)
            coming = broadcast(self._group, buffer)
            if flying is not None:
                flying[2].wait()
                yield flying[:2]
            flying = bucket, buffer, coming
        if flying is not None:
            flying[2].wait()
            yield flying[:2]

    def finish_weight_update(self) -> None:
        """Puts the weights in force.

        Raises:
            RuntimeError: a parameter of the model was not among the weights sent.
        """
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize: Any = finalize_layerwise_reload  # vLLM gives it no types
        finalize(self.model, self.model_config)
        self._arrivals.check()
        refresh_packed_heads(self.model)

    def shutdown(self) -> None:
        self._group = None


def refresh_packed_heads(model: torch.nn.Module) -> None:
    """Packs the output heads anew. With tied embeddings vLLM's layerwise reload on the CPU refreshes the embedding and
    leaves the packed copy that the head multiplies with as it was: the old weights would go on sampling."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


def register() -> None:
    """Entry point `vllm.general_plugins`: called by vLLM in each of its processes."""
    die_with_parent()
    if RECEIVERS["gloo"] not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(RECEIVERS["gloo"], __name__, GlooWeightTransferEngine.__name__)
        WeightTransferEngineFactory.register_engine(RECEIVERS["nccl"], "actors.transfer.nccl", "NcclReceiver")
        WeightTransferEngineFactory.register_engine(RECEIVERS["ipc"], "actors.transfer.nccl", "IpcReceiver")


def die_with_parent() -> None:
    """Has Linux kill this process, a child of an actor, when the actor ends: an engine that hangs, stopped or in a call
    that does not return, goes with the actor that is killed, and so does its GPU memory."""
    if multiprocessing.parent_process() is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

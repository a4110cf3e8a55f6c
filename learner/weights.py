"""The sending side of weight synchronisation: one source of whole tensors out of ZeRO shards for every back end, the
`gloo` sender, and the client through which vLLM's senders call the generators.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import ray
import torch
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
)
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

from actors.transfer.buckets import WIRE_BYTES, Piece, byte_size, plan_buckets
from actors.transfer.gloo import BACKEND, GlooInitInfo, GlooUpdateInfo, broadcast, join_group
from actors.transfer.stores import listen, meeting_address, port_of
from learner.engine import Engine
from learner.models.export import parts_of
from learner.types import Receivers, SyncStats, free_port

AHEAD = 2  # gloo buckets on their way at the same time


class ZeroSource(WeightSource):
    """What the policy exports, gathered bucket by bucket: no rank ever holds the whole model beside its shard.

    Every rank iterates in the same order and leaves a gather only when the bucket has been handed on.
    """

    def __init__(self, engine: Engine, dtype: torch.dtype, bucket_bytes: int) -> None:
        self._engine, self._dtype, self._bucket_bytes = engine, dtype, bucket_bytes

    def metadata(self) -> list[ParamMeta]:
        """Name, dtype and whole shape of each tensor; nothing is gathered."""
        return [ParamMeta(export.name, self._dtype, export.shape) for export in self._engine.exported()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        exports = self._engine.exported()
        for bucket in plan_buckets(tensor_sizes(self), self._bucket_bytes):
            members = [exports[piece.index] for piece in bucket]
            with self._engine.gathered(parts_of(members)):
                for export in members:
                    yield export.name, export.tensor().detach().to(self._dtype)


def tensor_sizes(source: WeightSource) -> list[int]:
    """Bytes of each tensor of a source, in its order."""
    return [byte_size(meta.dtype.itemsize, meta.shape) for meta in source.metadata()]


class GeneratorsSyncClient:
    """Calls the weight-transfer methods of all generators and waits for all of them, never longer than the timeout.

    vLLM's senders call it, in this order: `init_weight_transfer_engine` once; for each version `start_weight_update`,
    `update_weights`, `finish_weight_update`. They do not know the version, so their last call does nothing, and
    `WeightSync` finishes the update with `finish_version`.
    """

    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Each generator's workers get the ranks behind those of the generators before it."""
        generators = self._receivers.generators
        infos = [init_info] * len(generators)
        if "rank_offset" in init_info:
            offsets = range(init_info["rank_offset"], init_info["world_size"], self._receivers.workers_each)
            infos = [{**init_info, "rank_offset": offset} for offset in offsets]
        self._wait([g.init_weight_transfer_engine.remote(info) for g, info in zip(generators, infos, strict=True)])

    def start_weight_update(self) -> None:
        """Tells all generators that weights will come."""
        self._wait([generator.start_weight_update.remote() for generator in self._receivers.generators])

    def update_weights(self, update_info: Any) -> None:
        """Has all generators receive; returns when they have."""
        self._wait([generator.update_weights.remote(update_info) for generator in self._receivers.generators])

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Does nothing: see `finish_version`."""

    def finish_version(self, version: int) -> None:
        """Tells all generators that the weights are whole, and what they are called."""
        self._wait([generator.finish_weight_update.remote(str(version)) for generator in self._receivers.generators])

    def _wait(self, calls: list[Any]) -> None:
        ray.get(calls, timeout=self._receivers.timeout_seconds)


@dataclass
class GlooTrainerInitInfo(TrainerInitInfo):
    """How the learner opens a gloo transfer group."""

    backend: ClassVar[str] = BACKEND

    master_address: str  # of this node, where the store listens
    world_size: int
    bucket_bytes: int
    timeout_seconds: float


class GlooTrainerEngine(TrainerWeightTransferEngine[GlooTrainerInitInfo]):
    """Sends weights over gloo: the next bucket is gathered and packed while the last two are on their way. A tensor as
    large as a bucket is sent from where it lies."""

    init_info_cls = GlooTrainerInitInfo

    def __init__(
        self, *, client: VLLMWeightSyncClient, source: WeightSource, is_sender: bool, bucket_bytes: int
    ) -> None:
        super().__init__(client=client, source=source, is_sender=is_sender)
        self._bucket_bytes = bucket_bytes
        self._group: torch.distributed.ProcessGroup | None = None

    @classmethod
    def trainer_init(
        cls, init_info: GlooTrainerInitInfo, *, client: VLLMWeightSyncClient, source: WeightSource | None = None
    ) -> Self:
        if source is None:
            raise ValueError("the gloo sender needs a WeightSource")
        engine = cls(client=client, source=source, is_sender=init_info.is_sender, bucket_bytes=init_info.bucket_bytes)
        if engine.is_sender:
            door = listen(init_info.master_address)
            known = {name: value for name, value in asdict(init_info).items() if name != "rank"}
            info = GlooInitInfo(**known, master_port=port_of(door), rank_offset=1)
            with ThreadPoolExecutor(max_workers=1) as side:
                joined = side.submit(client.init_weight_transfer_engine, asdict(info))
                engine._group = join_group(info, 0, door)
                joined.result()
        return engine

    def send_weights(self) -> None:
        """The whole round trip of one update; called on every learner rank."""
        assert self.source is not None
        if not self.is_sender:
            for _ in self.source:
                pass
            return
        meta = self.source.metadata()
        manifest = GlooUpdateInfo(
            names=[m.name for m in meta],
            dtype_names=[str(m.dtype).removeprefix("torch.") for m in meta],
            shapes=[list(m.shape) for m in meta],
        )
        self.client.start_weight_update()
        side = ThreadPoolExecutor(max_workers=1)
        received = side.submit(self.client.update_weights, asdict(manifest))
        try:
            self._broadcast(tensor_sizes(self.source))
            received.result()
        finally:
            side.shutdown(wait=False)  # a receiver that failed must not keep the learner waiting
        self.client.finish_weight_update()

    def _broadcast(self, sizes: Sequence[int]) -> None:
        assert self.source is not None
        assert self._group is not None
        tensors, in_flight = iter(self.source), deque[tuple[torch.distributed.Work, torch.Tensor]]()
        for bucket in plan_buckets(sizes, self._bucket_bytes):
            if len(in_flight) == AHEAD:
                in_flight.popleft()[0].wait()
            buffer = _packed(bucket, tensors)
            in_flight.append((broadcast(self._group, buffer), buffer))
        next(tensors, None)  # leave the last gather together with the other ranks
        for work, _ in in_flight:
            work.wait()

    def shutdown(self) -> None:
        """Leaves the group."""
        self._group = None


def _packed(bucket: Sequence[Piece], tensors: Iterator[tuple[str, torch.Tensor]]) -> torch.Tensor:
    """The bytes of a bucket, uint8; a tensor that travels alone is sent from where it lies."""
    if len(bucket) == 1:
        return _bytes_of(next(tensors)[1])
    buffer = torch.empty(bucket[-1].start + bucket[-1].size, dtype=torch.uint8)
    for piece in bucket:
        buffer[piece.start : piece.start + piece.size].copy_(_bytes_of(next(tensors)[1]))
    return buffer


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


WeightTransferTrainerFactory.register_engine(BACKEND, GlooTrainerEngine)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connection:
    """The way to these receivers."""

    receivers: Receivers
    client: GeneratorsSyncClient
    sender: TrainerWeightTransferEngine[Any]
    size: int  # bytes of all weights


class WeightSync:
    """Publishes the learner's weights. The transfer group is made anew whenever the receivers change."""

    def __init__(self, engine: Engine, dtype: torch.dtype, rank: int) -> None:
        self._engine, self._dtype, self._rank = engine, dtype, rank
        self._connection: _Connection | None = None

    def send(self, version: int, receivers: Receivers) -> SyncStats:
        """Brings the weights of `version` to all receivers; every learner rank calls it."""
        started = time.monotonic()
        connection = self._connection
        if connection is None or connection.receivers != receivers:
            self.close()
            connection = self._connection = self._connected(receivers)
        connection.sender.send_weights()
        if self._rank == 0:
            connection.client.finish_version(version)
        return SyncStats(size=connection.size, seconds=time.monotonic() - started)

    def close(self) -> None:
        """Leaves the transfer group."""
        if self._connection is not None:
            self._connection.sender.shutdown()
            self._connection = None

    def _connected(self, receivers: Receivers) -> _Connection:
        client = GeneratorsSyncClient(receivers)
        source = ZeroSource(self._engine, self._dtype, receivers.bucket_bytes)
        sizes = tensor_sizes(source)
        info = SENDERS[receivers.backend](receivers, self._rank, max(sizes))
        sender = WeightTransferTrainerFactory.trainer_init(info, client=client, source=source)
        return _Connection(receivers=receivers, client=client, sender=sender, size=sum(sizes))


def _gloo(receivers: Receivers, rank: int, largest: int) -> TrainerInitInfo:
    wire = min(receivers.bucket_bytes, WIRE_BYTES)
    return GlooTrainerInitInfo(meeting_address(), _world(receivers), wire, receivers.timeout_seconds, rank=rank)


def _ipc(receivers: Receivers, rank: int, largest: int) -> TrainerInitInfo:
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

    return IPCTrainerInitInfo(rank=rank, packed=True, packed_buffer_size_bytes=max(receivers.bucket_bytes, largest))


def _nccl(receivers: Receivers, rank: int, largest: int) -> TrainerInitInfo:
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

    address, port = meeting_address(), free_port()  # vLLM's own store listens on all addresses of the node
    return NCCLTrainerInitInfo(
        address, port, _world(receivers), rank=rank, packed=True, packed_buffer_size_bytes=receivers.bucket_bytes
    )


def _world(receivers: Receivers) -> int:
    """Ranks of a transfer group: the sender and all workers of all generators."""
    return 1 + len(receivers.generators) * receivers.workers_each


# What vLLM's trainer side needs for each back end of `learner.transfer.BACKENDS`; rank 0 sends.
# (receivers, this learner rank, bytes of the largest tensor, which the buffer that ipc shares must hold) -> that
SENDERS: dict[str, Callable[[Receivers, int, int], TrainerInitInfo]] = {"gloo": _gloo, "ipc": _ipc, "nccl": _nccl}

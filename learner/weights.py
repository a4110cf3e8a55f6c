"""The sending side of weight synchronisation: one source of whole tensors out of ZeRO shards for every back end, and
the round trip of one version. The senders are in `learner/sending.py`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    WeightSource,
)
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

from actors.transfer.buckets import WIRE_BYTES, Piece, plan_buckets
from actors.transfer.digest import Digest, groups_of, share
from actors.transfer.stores import meeting_address
from actors.types import WeightSums
from learner.engine import Engine, all_reduced
from learner.models.export import Export, parts_of
from learner.sending import (
    GeneratorsSyncClient,
    GlooTrainerInitInfo,
    NcclTrainerEngine,
    NcclTrainerInitInfo,
    tensor_sizes,
)
from learner.types import LostReceiver, Place, Receivers, SyncStats


class Exporting(Protocol):
    """A policy whose weights may be sharded: the engine's, or a frozen one."""

    @property
    def module(self) -> Any:
        """The policy itself."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def exported(self) -> list[Export]:
        """What generators and checkpoints get of it."""

    def gathered(self, parameters: Sequence[torch.nn.Parameter]) -> AbstractContextManager[None]:
        """Within it these parameters are whole on every rank; a collective."""


class ZeroSource(WeightSource):
    """What the policy exports, gathered bucket by bucket: no rank ever holds the whole model beside its shard.

    Every rank iterates in the same order and leaves a gather only when the bucket has been handed on. A pass that must
    be proved: `begin`, an iteration that may end early, `drain`, `sums`.
    """

    def __init__(self, engine: Exporting, dtype: torch.dtype, bucket_bytes: int, place: Place | None = None) -> None:
        """
        Args:
            engine: the policy's.
            dtype: of the tensors that come out.
            bucket_bytes: gathered at once.
            place: of this rank, where `sums` will be asked for.
        """
        self._engine, self._dtype, self._place = engine, dtype, place
        self._plan: list[list[Piece]] = plan_buckets(tensor_sizes(self), bucket_bytes)
        self._entered = 0  # buckets of this pass so far
        self._tensors: Iterator[tuple[str, torch.Tensor]] | None = None
        self._digest = self._new_digest()

    def metadata(self) -> list[ParamMeta]:
        """Name, dtype and whole shape of each tensor; nothing is gathered."""
        exports = self._engine.exported()
        return [ParamMeta(export.name, export.dtype or self._dtype, export.shape) for export in exports]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        self._tensors = self._gathered()
        return self._tensors

    def begin(self) -> None:
        """Before a pass."""
        self._entered, self._tensors, self._digest = 0, None, self._new_digest()

    def drain(self) -> None:
        """Ends the pass of a rank that has stopped early: the others wait for it in every gather."""
        if self._tensors is not None:
            self._tensors.close()  # type: ignore[attr-defined]  # a generator: leaves the gather that it stands in
        exports = self._engine.exported()
        for bucket in self._plan[self._entered :]:
            with self._engine.gathered(parts_of([exports[piece.index] for piece in bucket])):
                pass

    def sums(self) -> WeightSums:
        """The digest of what every rank iterated over, each number counted on one rank; a collective."""
        return self._digest.result(all_reduced(self._digest.table(), self._engine.device))

    def _gathered(self) -> Iterator[tuple[str, torch.Tensor]]:
        exports = self._engine.exported()
        for bucket in self._plan:
            self._entered += 1
            members = [exports[piece.index] for piece in bucket]
            with self._engine.gathered(parts_of(members)):
                for export in members:
                    whole = export.tensor().detach().to(export.dtype or self._dtype)
                    if self._place is not None:
                        self._digest.add(export.name, share(whole, self._place.rank, self._place.ranks))
                    yield export.name, whole

    def _new_digest(self) -> Digest:
        return Digest(groups_of(meta.name for meta in self.metadata()), self._dtype, self._engine.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """What leads to these receivers."""

    receivers: Receivers
    client: GeneratorsSyncClient
    source: ZeroSource
    size: int  # bytes of all weights


class WeightSync:
    """Publishes the learner's weights. The transfer group is made anew whenever the receivers change."""

    def __init__(self, engine: Engine, dtype: torch.dtype, place: Place) -> None:
        self._engine, self._dtype, self._place = engine, dtype, place
        self._way: _Way | None = None
        self._sender: TrainerWeightTransferEngine[Any] | None = None  # once the group of the way has met

    def send(self, receivers: Receivers) -> SyncStats:
        """Brings the weights to all receivers, who do not put them in force yet; every learner rank calls it.

        Where a receiver dies or hangs on the way, the stats name it, and nobody has the weights: send again to those
        that are left, after each of them has given its update up.

        Raises:
            Exception: a receiver refused the weights, or this rank failed. The other ranks return, but for "ipc": there
                they wait until somebody ends them.
        """
        started = time.monotonic()
        failure: Exception | None = None
        failed_first = False  # whether this rank failed before the transfer was cut
        if self._way is None or self._way.receivers != receivers:
            self.close()
            self._way = self._way_to(receivers)
        way = self._way
        way.client.begin()
        way.source.begin()
        try:
            self._sender_on(way).send_weights()
        except Exception as problem:  # of whatever kind: the other ranks wait for this one
            failure, failed_first = problem, not way.client.was_cut
        if failure is not None and receivers.backend == "ipc":
            raise failure  # the others stand in collectives of vLLM's own sender
        way.source.drain()
        sums = way.source.sums()
        lost = self._lost_on(way, failure, failed_first) if self._place.rank == 0 else ()
        if failure is not None and not lost:
            raise failure
        return SyncStats(size=way.size, seconds=time.monotonic() - started, sums={} if lost else sums, lost=lost)

    def close(self) -> None:
        """Leaves the transfer group, and has the receivers leave it."""
        if self._way is not None and self._sender is not None:
            if self._place.rank == 0:
                self._way.client.begin()
                self._way.client.leave_weight_transfer_engine()
            self._sender.shutdown()
        self._way = self._sender = None

    def _lost_on(self, way: _Way, failure: Exception | None, failed_first: bool) -> tuple[LostReceiver, ...]:
        """The receivers that were lost in a send; after a failure the way is no more."""
        was_cut = way.client.was_cut
        if failure is None and not was_cut:
            return ()
        try:
            return way.client.settle(failed_first)
        except RuntimeError:
            if failure is None or was_cut:
                raise
            return ()  # the receivers only say that nothing came any more: what failed is this rank
        finally:
            self.close()

    def _way_to(self, receivers: Receivers) -> _Way:
        source = ZeroSource(self._engine, self._dtype, receivers.bucket_bytes, self._place)
        size = sum(tensor_sizes(source))
        return _Way(receivers=receivers, client=GeneratorsSyncClient(receivers), source=source, size=size)

    def _sender_on(self, way: _Way) -> TrainerWeightTransferEngine[Any]:
        if self._sender is None:
            info = SENDERS[way.receivers.backend](way.receivers, self._place.rank, max(tensor_sizes(way.source)))
            self._sender = WeightTransferTrainerFactory.trainer_init(info, client=way.client, source=way.source)
            if isinstance(self._sender, NcclTrainerEngine):
                way.client.abort_with(self._sender.abort)
        return self._sender


def _gloo(receivers: Receivers, rank: int, largest: int) -> TrainerInitInfo:
    wire = min(receivers.bucket_bytes, WIRE_BYTES)
    return GlooTrainerInitInfo(meeting_address(), _world(receivers), wire, receivers.step_seconds, rank=rank)


def _ipc(receivers: Receivers, rank: int, largest: int) -> TrainerInitInfo:
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

    return IPCTrainerInitInfo(rank=rank, packed=True, packed_buffer_size_bytes=max(receivers.bucket_bytes, largest))


def _nccl(receivers: Receivers, rank: int, largest: int) -> TrainerInitInfo:
    return NcclTrainerInitInfo(
        meeting_address(),
        0,  # of a socket that is bound to this address alone
        _world(receivers),
        rank=rank,
        packed=True,
        packed_buffer_size_bytes=receivers.bucket_bytes,
        meeting_seconds=receivers.step_seconds,
        timeout_seconds=receivers.timeout_seconds,
    )


def _world(receivers: Receivers) -> int:
    """Ranks of a transfer group: the sender and all workers of all generators."""
    return 1 + len(receivers.generators) * receivers.workers_each


# What vLLM's trainer side needs for each back end of `learner.transfer.BACKENDS`; rank 0 sends.
# (receivers, this learner rank, bytes of the largest tensor, which the buffer that ipc shares must hold) -> that
SENDERS: dict[str, Callable[[Receivers, int, int], TrainerInitInfo]] = {"gloo": _gloo, "ipc": _ipc, "nccl": _nccl}

"""The senders of weights, one for each back end, and the client through which vLLM's senders call the generators.

A generator may die or hang in the middle of a send. Then the transfer is cut: the sender's communicator is aborted, so
that nobody waits in it, and the client knows which generators were lost.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self, TypeVar

import ray
import torch
from ray.exceptions import RayError
from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator
from vllm.distributed.utils import StatelessProcessGroup
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
)
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.nccl_common import worker_init_payload
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo, NCCLTrainerWeightTransferEngine

from actors.deaths import GONE
from actors.errors import EngineDied
from actors.remote import cause_of
from actors.transfer.buckets import Piece, byte_size, plan_buckets
from actors.transfer.gloo import GlooInitInfo, GlooUpdateInfo, broadcast, join_group
from actors.transfer.names import RECEIVERS
from actors.transfer.nccl import CUT, NcclInitInfo, abort, open_communicator
from actors.transfer.stores import listen, port_of
from learner.types import LostReceiver, Receivers

AHEAD = 2  # gloo buckets on their way at the same time
LOOK_SECONDS = 0.5  # between two looks at whether a transfer was cut
Found = TypeVar("Found")


class GeneratorsSyncClient:
    """Calls the weight-transfer methods of all generators and waits for all of them, never longer than the timeout.

    vLLM's senders call it, in this order: `init_weight_transfer_engine` once; for each version `start_weight_update`,
    `update_weights`, `finish_weight_update`. Of the last three only `update_weights` asks anybody: what a generator
    receives first begins an update, and the driver ends it, which knows the version and asks for what is held then.

    No method raises where a generator fails, as a sender whose ranks work together would leave the others waiting:
    the first failure cuts the transfer, nothing is asked after that, and `settle` says what came of it.
    """

    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers
        self._deadline = time.monotonic() + receivers.timeout_seconds
        self._cut, self._cut_at, self._asking = threading.Event(), 0.0, threading.Lock()
        self._abort: Callable[[], None] = lambda: None
        self._late = False  # whether it was cut as time was up
        self._lost: dict[int, LostReceiver] = {}
        self._refusals: list[str] = []  # what generators said that failed and live
        self._first_to_refuse: LostReceiver | None = None  # whose failure cut the transfer; the others fail after that

    def begin(self) -> None:
        """From now on the timeout runs for one sync."""
        self._deadline = time.monotonic() + self._receivers.timeout_seconds

    def abort_with(self, abort: Callable[[], None]) -> None:
        """What is called, once and in any thread, when the transfer is cut."""
        self._abort = abort

    def cut(self) -> None:
        """Gives the transfer up: whoever waits in the sender's communicator comes out."""
        if not self._cut.is_set():
            self._cut_at = time.monotonic()
            self._cut.set()
            self._abort()

    def settle(self, sender_failed: bool = False) -> tuple[LostReceiver, ...]:
        """Gives the transfer up, and which generators did not live through it; waits until all that live have come out.

        Where all live, and the transfer was cut as one of several failed, that one counts as lost: what any of them
        would refuse comes out when it is the only one that is left.

        Args:
            sender_failed: whether the sender failed before the transfer was cut, so that receivers fail for that.

        Raises:
            RuntimeError: none was lost, and time was up, or generators refused what they were sent.
        """
        self.cut()
        with self._asking:
            first = self._first_to_refuse
            if first and not (self._lost or self._late or sender_failed) and len(self._receivers.generators) > 1:
                return (first,)
            if self._late and not self._lost:
                raise RuntimeError(
                    f"the sync did not end within sync.timeout_seconds = {self._receivers.timeout_seconds:g}: raise it"
                )
            if self._refusals and not self._lost:
                raise RuntimeError(self._refusals[0])
            return tuple(self._lost.values())

    @property
    def was_cut(self) -> bool:
        """Whether the transfer was given up."""
        return self._cut.is_set()

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Each generator's workers get the ranks behind those of the generators before it."""
        generators = self._receivers.generators
        infos = [init_info] * len(generators)
        if "rank_offset" in init_info:
            offsets = range(init_info["rank_offset"], init_info["world_size"], self._receivers.workers_each)
            infos = [{**init_info, "rank_offset": offset} for offset in offsets]
        pairs = list(zip(generators, infos, strict=True))
        self._ask(lambda: [generator.init_weight_transfer_engine.remote(info) for generator, info in pairs])

    def leave_weight_transfer_engine(self) -> None:
        """Has all generators leave the transfer group that they are in: its buffers hold memory of their GPUs."""
        self._ask(lambda: [one.leave_weight_transfer_engine.remote() for one in self._receivers.generators])

    def start_weight_update(self) -> None:
        """Does nothing: the first part of an update begins it."""

    def update_weights(self, update_info: Any) -> None:
        """Has all generators receive; returns when they have."""
        self._ask(lambda: [generator.update_weights.remote(update_info) for generator in self._receivers.generators])

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Does nothing: the driver ends the update."""

    def _ask(self, call: Callable[[], list[Any]]) -> None:
        """Calls all generators, unless the transfer was cut, and waits for them."""
        with self._asking:
            if self.was_cut:
                return
            waiting = {reply: index for index, reply in enumerate(call())}
            while waiting and not self._time_is_up():
                # all that are there at once: one at a time, each wait would look at all that are left
                for reply in ray.wait(list(waiting), num_returns=len(waiting), timeout=LOOK_SECONDS)[0]:
                    self._note(waiting.pop(reply), reply)
            for index in waiting.values():
                why = f"did not answer within {self._receivers.timeout_seconds:g} s"
                self._lost[index] = LostReceiver(index=index, why=why)

    def _time_is_up(self) -> bool:
        """Cuts the transfer at the timeout. After a cut those that live are waited for a while longer: they come out of
        their receive by then."""
        now = time.monotonic()
        if now >= self._deadline and not self.was_cut:
            self._late = True
            self.cut()
        return self.was_cut and now >= self._cut_at + self._receivers.leaving_seconds

    def _note(self, index: int, reply: Any) -> None:
        """What a generator has answered; a failure cuts the transfer."""
        try:
            ray.get(reply)
        except RayError as failure:
            cause = cause_of(failure)
            receiver = LostReceiver(index=index, why=" ".join(str(cause).split()))
            if isinstance(cause, EngineDied) or isinstance(failure, GONE):
                self._lost[index] = receiver
            else:
                self._refusals.append(str(failure))
                self._first_to_refuse = self._first_to_refuse or (None if self.was_cut else receiver)
            self.cut()


@dataclass
class GlooTrainerInitInfo(TrainerInitInfo):
    """How the learner opens a gloo transfer group."""

    backend: ClassVar[str] = RECEIVERS["gloo"]

    master_address: str  # of this node, where the store listens
    world_size: int
    bucket_bytes: int
    timeout_seconds: float  # for the group to meet, and for one bucket


class GlooTrainerEngine(TrainerWeightTransferEngine[GlooTrainerInitInfo]):
    """Sends weights over gloo: the next bucket is gathered and packed while the last two are on their way. A tensor as
    large as a bucket is sent from where it lies, or from a copy where that is a GPU's memory."""

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


def tensor_sizes(source: WeightSource) -> list[int]:
    """Bytes of each tensor of a source, in its order."""
    return [byte_size(meta.dtype.itemsize, meta.shape) for meta in source.metadata()]


def _packed(bucket: Sequence[Piece], tensors: Iterator[tuple[str, torch.Tensor]]) -> torch.Tensor:
    """The bytes of a bucket, uint8 on the CPU; a tensor that travels alone is sent from where it lies, if it can."""
    if len(bucket) == 1:
        return _bytes_of(next(tensors)[1]).cpu()  # gloo's group is one of the CPU
    buffer = torch.empty(bucket[-1].start + bucket[-1].size, dtype=torch.uint8)
    for piece in bucket:
        buffer[piece.start : piece.start + piece.size].copy_(_bytes_of(next(tensors)[1]))
    return buffer


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


@dataclass
class NcclTrainerInitInfo(NCCLTrainerInitInfo):
    """How the learner opens an nccl transfer group."""

    backend: ClassVar[str] = RECEIVERS["nccl"]

    meeting_seconds: float = 100.0  # for the group to meet
    timeout_seconds: float = 300.0  # for one update


class NcclTrainerEngine(NCCLTrainerWeightTransferEngine):
    """vLLM's sender over NCCL, with a group that meets within a timeout and can be aborted from another thread."""

    init_info_cls = NcclTrainerInitInfo
    model_update_group: PyNcclCommunicator | None  # vLLM's

    @classmethod
    def trainer_init(
        cls, init_info: NCCLTrainerInitInfo, *, client: VLLMWeightSyncClient, source: WeightSource | None = None
    ) -> Self:
        assert isinstance(init_info, NcclTrainerInitInfo)
        if source is None:
            raise ValueError("the nccl sender needs a WeightSource")
        engine = cls(
            client=client,
            source=source,
            is_sender=init_info.is_sender,
            packed=init_info.packed,
            packed_buffer_size_bytes=init_info.packed_buffer_size_bytes,
            packed_num_buffers=init_info.packed_num_buffers,
        )
        if not engine.is_sender:
            return engine
        # vLLM's first look for the current stream would make another one current, on which rank 0 alone would train
        torch.cuda.set_stream(torch.cuda.current_stream())
        door, seconds = listen(init_info.master_address), init_info.meeting_seconds
        info = NcclInitInfo(
            master_address=init_info.master_address,
            master_port=port_of(door),
            rank_offset=1,
            world_size=init_info.world_size,
            packed=init_info.packed,
            packed_buffer_size_bytes=init_info.packed_buffer_size_bytes,
            packed_num_buffers=init_info.packed_num_buffers,
            meeting_seconds=seconds,
            timeout_seconds=init_info.timeout_seconds,
        )
        with ThreadPoolExecutor(max_workers=1) as side:
            joined = side.submit(client.init_weight_transfer_engine, worker_init_payload(info))
            engine.model_update_group = within(2 * seconds, lambda: open_communicator(info, 0, seconds, door))
            joined.result()
        return engine

    def abort(self) -> None:
        """Has all members leave the group, wherever they wait. In any thread; `send_weights` then runs to its end and
        sends nothing more."""
        communicator = self.model_update_group
        if communicator is not None:
            meeting = communicator.group
            assert isinstance(meeting, StatelessProcessGroup)
            meeting.store.set(CUT, "1")
            abort(communicator)


def within(seconds: float, call: Callable[[], Found]) -> Found:
    """What a call gives that may never return: it runs in a thread of its own, which is left to itself then.

    Raises:
        TimeoutError: it has not returned.
    """
    found: list[Found] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as failure:
            failed.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"the weight transfer group has not come together within {seconds:g} s")
    return found[0]


WeightTransferTrainerFactory.register_engine(GlooTrainerInitInfo.backend, GlooTrainerEngine)
WeightTransferTrainerFactory.register_engine(NcclTrainerInitInfo.backend, NcclTrainerEngine)

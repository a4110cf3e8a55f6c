"""The receiving sides of winnow's `nccl` and `ipc` weight transfers: vLLM's own, with two things that these lack. A
receive ends when the sender gives the transfer up, goes away or takes too long; and no parameter may be missing.

NCCL has no timeout: whoever waits in a broadcast waits for ever once a member of the group is gone. So beside each
receive runs a watch that asks the group's store whether the sender has cut the transfer, and aborts the communicator.
"""

import math
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self

import torch
from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator
from vllm.distributed.utils import StatelessProcessGroup
from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferEngine, IPCWeightTransferUpdateInfo
from vllm.distributed.weight_transfer.nccl_common import NCCLWeightTransferInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine, NCCLWeightTransferUpdateInfo
from vllm.utils.nccl import unpinned_nccl_env

from actors.transfer.arrivals import Arrivals

CUT = "cut"  # the key of the store that says that the sender has given the transfer up
LOOK_SECONDS = 0.2  # between two looks at it
ABORT_SECONDS = 5.0  # that an abort is waited for; NCCL goes on with it beyond


class Store(Protocol):
    """What a watch needs of torch's store."""

    def check(self, keys: list[str]) -> bool:
        """Whether all keys are there; raises RuntimeError where the store is gone."""
        ...


@dataclass(kw_only=True)
class NcclInitInfo(NCCLWeightTransferInitInfo):
    """How a worker joins the transfer group."""

    meeting_seconds: float  # for the group to meet
    timeout_seconds: float  # for one update


def open_communicator(
    info: NCCLWeightTransferInitInfo, rank: int, timeout_seconds: float, door: socket.socket | None = None
) -> PyNcclCommunicator:
    """A communicator of the transfer group on this process's GPU; every member calls this with its own rank.

    Args:
        info: where the members meet, and how many they are.
        rank: of this member.
        timeout_seconds: for all members to come to the store.
        door: of rank 0: the socket that listens at that place.

    Raises:
        TimeoutError: they have not come.
    """
    assert info.master_address is not None
    assert info.master_port is not None
    try:
        meeting = StatelessProcessGroup.create(
            info.master_address,
            info.master_port,
            rank,
            info.world_size,
            store_timeout=math.ceil(timeout_seconds),
            listen_socket=door,
        )
    except (RuntimeError, OSError) as failure:  # OSError as well, where vLLM closes the socket once more
        said = failure.__context__ or failure
        raise TimeoutError(
            f"the {info.world_size} members of the transfer group have not met at {info.master_address} within "
            f"{timeout_seconds:g} s: {said}"
        ) from failure
    with unpinned_nccl_env():
        return PyNcclCommunicator(meeting, device=torch.accelerator.current_device_index())


def abort(communicator: PyNcclCommunicator) -> None:
    """Frees whoever waits in a communicator, in any thread. It is marked as closed before that: who comes out must not
    use it while NCCL frees it, as `PyNcclCommunicator.destroy` would let it."""
    if communicator.disabled:
        return
    communicator.available, communicator.disabled = False, True

    def run() -> None:
        communicator.nccl.ncclCommAbort(communicator.comm)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ABORT_SECONDS)


class Watch:
    """While it is entered: aborts what waits where the store says that the sender has cut the transfer, where the store
    does not answer, and after the timeout."""

    def __init__(self, store: Store, abort: Callable[[], None], timeout_seconds: float) -> None:
        self.reason = ""  # why it aborted
        self._store, self._abort, self._seconds = store, abort, timeout_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        for _ in range(math.ceil(self._seconds / LOOK_SECONDS)):
            if self._done.wait(LOOK_SECONDS):
                return
            if reason := self._problem():
                break
        else:
            reason = f"the weights have not come within {self._seconds:g} s"
        self.reason = reason
        self._abort()

    def _problem(self) -> str:
        try:
            return "the sender has given the transfer up" if self._store.check([CUT]) else ""
        except RuntimeError as failure:
            return f"the sender has gone: {failure}"


class NcclReceiver(NCCLWeightTransferEngine):
    """Receives over NCCL, and never waits for ever."""

    init_info_cls = NcclInitInfo  # type: ignore[assignment]  # vLLM types it as its own
    model: Any  # vLLM's, as are the following; what stands in for it while weights come has no other methods
    packed: bool
    packed_buffer_size_bytes: int
    packed_num_buffers: int
    model_update_group: PyNcclCommunicator | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arrivals = Arrivals(self.model)
        self._seconds = 0.0

    def init_transfer_engine(self, init_info: NCCLWeightTransferInitInfo) -> None:
        """Joins the group; returns when every member has."""
        assert isinstance(init_info, NcclInitInfo)
        self.shutdown()  # a communicator of another group holds memory of the GPU
        self.packed = init_info.packed
        self.packed_buffer_size_bytes = init_info.packed_buffer_size_bytes
        self.packed_num_buffers = init_info.packed_num_buffers
        self._seconds = init_info.timeout_seconds
        rank = init_info.rank_offset + self.parallel_config.rank
        self.model_update_group = open_communicator(init_info, rank, init_info.meeting_seconds)

    def start_weight_update(self) -> None:
        """Before the first part of an update."""
        self._arrivals.clear()
        super().start_weight_update()

    def receive_weights(self, update_info: NCCLWeightTransferUpdateInfo) -> None:
        """Receives all weights.

        Raises:
            RuntimeError: they did not come whole; the group is of no more use then.
        """
        group = self.model_update_group
        assert group is not None
        meeting = group.group
        assert isinstance(meeting, StatelessProcessGroup)
        model, self.model = self.model, self._arrivals
        try:
            with Watch(meeting.store, partial(abort, group), self._seconds) as watch:
                super().receive_weights(update_info)
        finally:
            self.model = model
        if watch.reason:  # an aborted communicator does nothing and says nothing
            raise RuntimeError(f"the weight transfer was aborted: {watch.reason}")

    def finish_weight_update(self) -> None:
        """Puts the weights in force. Raises RuntimeError where one was not sent."""
        super().finish_weight_update()
        self._arrivals.check()


class IpcReceiver(IPCWeightTransferEngine):
    """Receives through shared memory of a GPU."""

    model: Any  # vLLM's

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arrivals = Arrivals(self.model)

    def start_weight_update(self) -> None:
        """Before the first part of an update."""
        self._arrivals.clear()
        super().start_weight_update()

    def receive_weights(self, update_info: IPCWeightTransferUpdateInfo) -> None:
        """Loads one part of the weights."""
        model, self.model = self.model, self._arrivals
        try:
            super().receive_weights(update_info)
        finally:
            self.model = model

    def finish_weight_update(self) -> None:
        """Puts the weights in force. Raises RuntimeError where one was not sent."""
        super().finish_weight_update()
        self._arrivals.check()

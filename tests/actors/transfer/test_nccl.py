"""The abort of an nccl transfer, on both sides, over a real store and a communicator written by hand: no GPU is here.

The communicator waits in a broadcast as NCCL does, for ever, until it is aborted; like vLLM's it then does nothing and
says nothing.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.distributed.utils import StatelessProcessGroup
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.nccl_common import worker_init_payload

from actors.transfer.arrivals import Arrivals
from actors.transfer.nccl import CUT, NcclInitInfo, NcclReceiver, Watch, abort, open_communicator
from actors.transfer.stores import listen, open_store, port_of
from learner.sending import NcclTrainerEngine, within
from tests.tables import each

pytestmark = pytest.mark.ray


class Communicator:
    """Waits in its second broadcast until it is aborted."""

    def __init__(self) -> None:
        self.broadcasts, self.aborted = 0, threading.Event()
        self.available, self.disabled, self.comm = True, False, None
        self.nccl = SimpleNamespace(ncclCommAbort=self._abort)

    def broadcast(self, tensor: torch.Tensor, src: int) -> None:
        if not self.disabled:
            self.broadcasts += 1
            if self.broadcasts == 2:
                assert self.aborted.wait(60)

    def _abort(self, comm: None) -> None:
        assert self.disabled  # whoever comes out must not use what is freed
        self.aborted.set()


class Source(WeightSource):
    """Five tensors; counts how many were asked for."""

    def __init__(self) -> None:
        self.given = 0

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(f"p{number}", torch.float32, (2,)) for number in range(5)]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for number in range(5):
            self.given += 1
            yield f"p{number}", torch.zeros(2)


class Client:
    """Its receivers come out when the transfer is cut, and then it says that one was lost."""

    def __init__(self) -> None:
        self.receiving, self.cut = threading.Event(), threading.Event()

    def start_weight_update(self) -> None:
        pass

    def update_weights(self, update_info: Any) -> None:
        self.receiving.set()
        assert self.cut.wait(60)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        pass

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        pass


class Sender(NcclTrainerEngine):
    """The real sender but for packing, which takes CUDA streams."""

    def _broadcast(self, source: WeightSource, meta: list[ParamMeta]) -> None:
        group: Any = self.model_update_group
        for _, tensor in self._checked_iter(source, meta):
            group.broadcast(tensor, src=0)


def meeting() -> tuple[Any, Any]:
    """A store as its server and as another process sees it."""
    door = listen("127.0.0.1")
    port = port_of(door)
    with ThreadPoolExecutor(1) as side:
        other = side.submit(open_store, "127.0.0.1", port, 2, 20.0)
        return open_store("127.0.0.1", port, 2, 20.0, door), other.result()


def test_a_sender_that_is_aborted_runs_to_its_end_so_that_no_other_rank_waits_in_a_gather(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from learner import sending

    monkeypatch.setattr(sending, "StatelessProcessGroup", SimpleNamespace)  # only asserted
    server, other = meeting()
    communicator, client, source = Communicator(), Client(), Source()
    sender = Sender(client=client, source=source)
    sender.model_update_group = communicator  # type: ignore[assignment]
    communicator.group = SimpleNamespace(store=server)  # type: ignore[attr-defined]
    with ThreadPoolExecutor(1) as side:
        sent = side.submit(sender.send_weights)
        assert client.receiving.wait(60)
        assert not other.check([CUT])
        sender.abort()
        client.cut.set()
        sent.result(60)
    assert source.given == 5
    other.wait([CUT], timedelta(seconds=20))  # the receivers hear of it


def receive(store: Any, seconds: float) -> str:
    """Waits in a broadcast under a watch; why the watch ended it."""
    communicator = Communicator()
    with Watch(store, partial(abort, communicator), seconds) as watch:
        communicator.broadcast(torch.zeros(1), src=0)
        communicator.broadcast(torch.zeros(1), src=0)
    return watch.reason


def test_a_receive_ends_when_the_sender_gives_the_transfer_up() -> None:
    server, other = meeting()
    with ThreadPoolExecutor(1) as side:
        received = side.submit(receive, other, 60.0)
        server.set(CUT, "1")
        assert received.result(60) == "the sender has given the transfer up"


def test_a_receive_ends_when_the_sender_has_gone_or_takes_too_long() -> None:
    class Gone:
        def check(self, keys: list[str]) -> bool:
            raise RuntimeError("connection reset")

    assert receive(Gone(), 60.0) == "the sender has gone: connection reset"
    _, other = meeting()
    assert receive(other, 0.5) == "the weights have not come within 0.5 s"


def test_a_watch_over_a_receive_that_goes_well_aborts_nothing() -> None:
    _, other = meeting()
    communicator = Communicator()
    with Watch(other, partial(abort, communicator), 60.0) as watch:
        communicator.broadcast(torch.zeros(1), src=0)
    assert watch.reason == ""
    assert not communicator.aborted.is_set()


def test_a_group_meets_on_one_address_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)  # vLLM's communicator then does nothing
    door = listen("127.0.0.1")
    info = NcclInitInfo(
        master_address="127.0.0.1",
        master_port=port_of(door),
        rank_offset=1,
        world_size=2,
        meeting_seconds=20.0,
        timeout_seconds=60.0,
    )
    told = NcclInitInfo(**worker_init_payload(info))  # as it comes to a worker
    with ThreadPoolExecutor(1) as side:
        other = side.submit(open_communicator, told, 1, told.meeting_seconds)
        here, there = open_communicator(info, 0, 20.0, door), other.result(60)
    sender = Sender(client=Client(), source=Source())
    sender.model_update_group = here
    assert isinstance(there.group, StatelessProcessGroup)
    assert not there.group.store.check([CUT])
    sender.abort()
    there.group.store.wait([CUT], timedelta(seconds=20))
    alone = listen("127.0.0.1")
    with pytest.raises(
        TimeoutError, match=r"the 2 members of the transfer group have not met at 127\.0\.0\.1 within 1 s"
    ):
        open_communicator(replace(info, master_port=port_of(alone)), 0, 1.0, alone)


class Model(torch.nn.Module):
    """Two parameters, which `load_weights` names."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))

    def load_weights(self, weights: Any) -> set[str]:
        return {name for name, _ in weights}


@each(("parts", "missing"), [([["a", "b"]], ""), ([["a"], ["b"]], ""), ([["a"]], "b"), ([], "a")])
def test_a_parameter_that_was_not_sent_is_named_whatever_carried_the_others(
    parts: list[list[str]], missing: str
) -> None:
    arrivals = Arrivals(Model())
    arrivals.load_weights([("a", torch.zeros(1)), ("b", torch.zeros(1))])
    arrivals.clear()
    for part in parts:
        arrivals.load_weights([(name, torch.zeros(1)) for name in part])
    if missing:
        with pytest.raises(RuntimeError, match=rf"parameters were not sent, the first is {missing}"):
            arrivals.check()
    else:
        arrivals.check()


def test_a_model_that_does_not_say_what_it_loaded_is_not_accused() -> None:
    class Silent(Model):
        def load_weights(self, weights: Any) -> Any:
            list(weights)

    arrivals = Arrivals(Silent())
    arrivals.load_weights([("a", torch.zeros(1))])
    arrivals.check()


def test_the_receivers_are_those_of_vllm_with_its_own_interface() -> None:
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    from actors.transfer.gloo import register
    from actors.transfer.names import RECEIVERS

    register()
    for name in RECEIVERS.values():
        assert name in WeightTransferEngineFactory._registry
    assert WeightTransferEngineFactory._registry[RECEIVERS["nccl"]]() is NcclReceiver


def test_a_call_that_never_returns_is_left_to_itself() -> None:
    with pytest.raises(TimeoutError, match=r"has not come together within 0\.1 s"):
        within(0.1, threading.Event().wait)
    assert within(60, lambda: 3) == 3
    with pytest.raises(ValueError, match="no"):
        within(60, lambda: int("no"))

"""Weights from this process into a model in another one, by vLLM's own engines of weight transfer: CUDA IPC on one GPU,
winnow's gloo on the CPU. The same steps, and the same tensors bit for bit, on both."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import torch
import torch.multiprocessing as processes
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

from actors.transfer.stores import LOOPBACK

ROUNDS = 3
LIMIT = 120.0  # seconds for a call of the receiver
ENDS_AT = 2  # the call of an update at which a receiver that is to die does


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent."""

    device: str
    count: int  # tensors, every other one in bfloat16
    numbers: int  # in each
    bucket: int  # bytes


REAL = Load(device="cuda", count=96, numbers=2**23, bucket=2**28)
SMALL = Load(device="cpu", count=6, numbers=1000, bucket=4096)


class Tensors(WeightSource):
    """Tensors of which each round has others."""

    def __init__(self, load: Load) -> None:
        self._load, self.round = load, 0

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(f"p{at}", dtype_of(at), (self._load.numbers,)) for at in range(self._load.count)]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return ((f"p{at}", tensor_of(self._load, at, self.round)) for at in range(self._load.count))


def dtype_of(at: int) -> torch.dtype:
    return torch.bfloat16 if at % 2 else torch.float32


def tensor_of(load: Load, at: int, number: int) -> torch.Tensor:
    """The tensor at a place in a round; all differ."""
    numbers = torch.arange(load.numbers, device=load.device)
    return ((numbers * (at + 1) + 7919 * number) % 1021).to(dtype_of(at))


class Model(torch.nn.Module):
    """As many parameters, which `load_weights` overwrites."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        for at in range(load.count):
            empty = torch.zeros(load.numbers, dtype=dtype_of(at), device=load.device)
            self.register_parameter(f"p{at}", torch.nn.Parameter(empty, requires_grad=False))

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Copies each into its parameter; the names of what was there."""
        own, loaded = dict(self.named_parameters()), set()
        for name, tensor in weights:
            own[name].copy_(tensor)
            loaded.add(name)
        return loaded


class Receiver:
    """The other process: vLLM's receiving engine over a plain module; the layerwise reload is left out."""

    def __init__(self, load: Load) -> None:
        self._load, self._model, self._dies_in = load, Model(load), 0
        config: Any = SimpleNamespace(parallel_config=SimpleNamespace(rank=0), model_config=None)
        place = torch.device(load.device, 0) if load.device == "cuda" else torch.device("cpu")
        self._engine = _receiving(load.device)(None, config, place, self._model)

    def init(self, info: dict[str, Any]) -> None:
        self._engine.init_transfer_engine(self._engine.init_info_cls(**info))

    def update(self, info: dict[str, Any]) -> None:
        self._dies_in -= 1
        if self._dies_in == 0:
            os._exit(9)
        self._engine.receive_weights(self._engine.update_info_cls(**info))

    def die(self) -> None:
        """Ends at the second call of the next update, or at the only one."""
        self._dies_in = ENDS_AT if self._load.device == "cuda" else 1

    def wrong(self, number: int) -> list[str]:
        """The parameters that are not those of this round, bit for bit."""
        if hasattr(self._engine, "_packed_importer"):
            self._engine._packed_importer.close()  # as at the end of an update
        own = self._model.named_parameters()
        return [name for at, (name, p) in enumerate(own) if not torch.equal(p, tensor_of(self._load, at, number))]


def _receiving(device: str) -> Any:
    if device == "cuda":
        from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferEngine

        return IPCWeightTransferEngine
    from actors.transfer.gloo import GlooWeightTransferEngine

    return GlooWeightTransferEngine


def _serve(line: Connection, load: Load) -> None:
    """The main function of the other process; None ends it."""
    receiver = Receiver(load)
    line.send(None)
    while (call := line.recv()) is not None:
        line.send(getattr(receiver, call[0])(*call[1:]))


class Client:
    """The receiver as vLLM's sender calls it."""

    def __init__(self, line: Connection) -> None:
        self._line = line

    def ask(self, *call: Any) -> Any:
        """What the receiver answers.

        Raises:
            ConnectionError: it has ended, or does not answer in time.
        """
        try:
            self._line.send(call)
            if self._line.poll(LIMIT):
                return self._line.recv()
        except (EOFError, OSError):
            raise ConnectionError("the receiver has ended") from None
        raise ConnectionError(f"the receiver has not answered within {LIMIT:g} s")

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.ask("init", init_info)

    def start_weight_update(self) -> None:
        """Nothing: the layerwise reload is left out."""

    def update_weights(self, update_info: Any) -> None:
        self.ask("update", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Nothing, as at the start."""


@contextmanager
def _client(load: Load) -> Iterator[Client]:
    context: Any = processes.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, load), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(LIMIT):
            raise ConnectionError("the receiver does not start")
        here.recv()
        yield Client(here)
    finally:
        process.kill()
        process.join()


def _sender(load: Load, client: Client, source: Tensors) -> Any:
    if load.device == "cuda":
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo, IPCTrainerWeightTransferEngine

        init = IPCTrainerInitInfo(rank=0, packed=True, packed_buffer_size_bytes=load.bucket)
        return IPCTrainerWeightTransferEngine.trainer_init(init, client=client, source=source)
    from learner.sending import GlooTrainerEngine, GlooTrainerInitInfo

    info = GlooTrainerInitInfo(LOOPBACK, 2, load.bucket, LIMIT, rank=0)
    return GlooTrainerEngine.trainer_init(info, client=client, source=source)


def measure(device: str, load: Load = REAL) -> dict[str, float]:
    """GB a second, what memory of the GPU a transfer leaves behind, and whether a receiver that dies is noticed.

    Raises:
        AssertionError: a tensor arrived changed, memory was kept, or the sender did not notice the receiver's end.
    """
    source = Tensors(load)
    size = sum(meta.dtype.itemsize * load.numbers for meta in source.metadata())
    times, noticed = [], False
    with _client(load) as client:
        sender = _sender(load, client, source)
        for number in range(ROUNDS):
            source.round = number + 1
            started = time.monotonic()
            sender.send_weights()
            times.append(time.monotonic() - started)
            wrong = client.ask("wrong", number + 1)
            assert wrong == [], f"round {number + 1}: {len(wrong)} tensors arrived changed, the first is {wrong[0]}"
        client.ask("die")
        try:
            sender.send_weights()
        except (ConnectionError, RuntimeError):
            noticed = True
    assert noticed, "the sender has not noticed that the receiver ended in the middle of an update"
    return {"gb_per_second": size / min(times) / 1e9, "gb": size / 1e9}

"""Whether processes of this machine reach each other and how fast: a store to meet at, collectives among ranks, memory
that two processes share. The same code runs on GPUs (NCCL, CUDA IPC) and on the CPU (gloo, shared memory)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from actors.transfer.stores import LOOPBACK, listen, open_store, port_of

MIB = 2**20
ROUNDS = 4  # timed broadcasts
NUMBERS = 2**20  # that are summed over ranks; small ones, so that the sum is exact in every dtype
KINDS = (torch.float32, torch.bfloat16, torch.float64, torch.int64)


class Unreachable(RuntimeError):
    """Processes of this machine do not reach each other, or not in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """What ranks found when they talked to each other."""

    ranks: int
    wrong: tuple[str, ...]  # dtypes in which a sum over the ranks was not what it should be
    gb_per_second: float  # bytes that arrive at each rank in a broadcast, 10^9 a second; 0 for a single rank


def meet(seconds: float = 10.0) -> str:
    """Has a store listen on the loopback address and another end put a word in; the word as the first one reads it."""
    door = listen(LOOPBACK)
    port = port_of(door)
    server = open_store(LOOPBACK, port, 2, seconds, door)
    client = open_store(LOOPBACK, port, 2, seconds)
    client.set("word", "met")
    found: bytes = server.get("word")
    return found.decode()


def link(device: str, ranks: int, mib: int, seconds: float) -> Linked:
    """Has processes of this machine sum and broadcast tensors.

    Args:
        device: "cuda" gives each rank the GPU of its number and NCCL, "cpu" gloo.
        ranks: how many processes.
        mib: of the tensor that is broadcast.
        seconds: for all of it; processes that have not ended by then are killed.

    Raises:
        Unreachable: a rank failed, or the time is over; the message says which.
    """
    door = listen(LOOPBACK)
    port = port_of(door)
    store = open_store(LOOPBACK, port, ranks + 1, seconds, door)  # its server lives as long as this
    asked = [(rank, ranks, port, device, mib, seconds) for rank in range(ranks)]
    found: list[Linked] = in_processes(_rank, asked, seconds)
    del store
    return found[0]


def _rank(line: Connection, rank: int, ranks: int, port: int, device: str, mib: int, seconds: float) -> None:
    """The main function of a rank's process: sends what it found."""
    torch.set_num_threads(1)
    place = torch.device(device, rank) if device == "cuda" else torch.device("cpu")
    if device == "cuda":
        torch.cuda.set_device(place)
    store = open_store(LOOPBACK, port, ranks + 1, seconds)
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=seconds),
    )
    wrong = tuple(str(kind).removeprefix("torch.") for kind in KINDS if not _sums(kind, rank, ranks, place))
    speed = _broadcast_speed(mib * MIB, rank, place) if ranks > 1 else 0.0
    line.send(Linked(ranks=ranks, wrong=wrong, gb_per_second=speed))
    dist.destroy_process_group()


def _sums(kind: torch.dtype, rank: int, ranks: int, place: torch.device) -> bool:
    """Whether a sum over the ranks is exact: numbers from 0 to 6 and the rank, which bfloat16 holds for 32 ranks."""
    numbers = torch.arange(NUMBERS, device=place) % 7
    own = (numbers + rank % 2).to(kind)
    dist.all_reduce(own)
    wanted = (ranks * numbers + ranks // 2).to(kind)
    return bool(torch.equal(own, wanted))


def _broadcast_speed(size: int, rank: int, place: torch.device) -> float:
    """Bytes a second / 10^9 of broadcasts from rank 0.

    Raises:
        Unreachable: what arrived is not what was sent.
    """
    sent = (torch.arange(size, device=place) % 251).to(torch.uint8)
    tensor = sent.clone() if rank == 0 else torch.zeros_like(sent)
    dist.broadcast(tensor, 0)  # the first one opens the connections
    _wait(place)
    started = time.monotonic()
    for _ in range(ROUNDS):
        dist.broadcast(tensor, 0)
    _wait(place)
    taken = time.monotonic() - started
    if not torch.equal(tensor, sent):
        raise Unreachable(f"a broadcast of {size} bytes arrived damaged at rank {rank}")
    return ROUNDS * size / taken / 1e9


def share(device: str, mib: int, seconds: float) -> bool:
    """Hands a tensor's memory to another process, which reads it and changes it; whether each saw what the other wrote.

    Args:
        device: "cuda" shares memory of the GPU (CUDA IPC), "cpu" shared memory.
        mib: of the tensor.
        seconds: for all of it.

    Raises:
        Unreachable: the other process failed, or the time is over.
    """
    tensor = (torch.arange(mib * MIB // 4, device=device) % 1009).to(torch.int32)
    wanted = int(tensor.sum())
    (seen,) = in_processes(_borrow, [(tensor,)], seconds)
    _wait(tensor.device)
    return seen == wanted and int(tensor.sum()) == wanted + tensor.numel()


def _borrow(line: Connection, tensor: torch.Tensor) -> None:
    """The main function of the other process: sends the sum that it sees, then adds one to each number."""
    seen = int(tensor.sum())
    tensor.add_(1)
    _wait(tensor.device)
    line.send(seen)


def _wait(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def in_processes(function: Callable[..., None], asked: list[tuple[Any, ...]], seconds: float) -> list[Any]:
    """What a function sent in a process for each of these arguments; all processes have ended after it."""
    context: Any = processes.get_context("spawn")
    lines, started = [], []
    deadline = time.monotonic() + seconds
    try:
        for number, arguments in enumerate(asked):
            here, there = context.Pipe(duplex=False)
            asked_of = (there, function, *arguments)
            process = context.Process(target=_told, args=asked_of, name=f"rank {number}", daemon=True)
            process.start()
            there.close()
            lines.append(here)
            started.append(process)
        return [_answer(*pair, deadline, seconds) for pair in zip(lines, started, strict=True)]
    finally:
        for process in started:
            process.join(max(0.0, min(5.0, deadline - time.monotonic())))
            process.kill()
            process.join()


def _told(line: Connection, function: Callable[..., None], *arguments: Any) -> None:
    """The main function of every process: what torch, NCCL or the network refuse is sent instead of an answer."""
    try:
        function(line, *arguments)
    except (AssertionError, RuntimeError, OSError, ValueError) as failure:
        lines = str(failure).splitlines() or [type(failure).__name__]
        line.send(_Failure(said=" ... ".join(dict.fromkeys((lines[0], lines[-1])))))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """Why a process has no answer."""

    said: str


def _answer(line: Connection, process: Any, deadline: float, seconds: float) -> Any:
    try:
        if line.poll(max(0.0, deadline - time.monotonic())):
            found = line.recv()
            if isinstance(found, _Failure):
                raise Unreachable(f"{process.name}: {found.said}")
            return found
    except EOFError:
        process.join(max(1.0, deadline - time.monotonic()))
        raise Unreachable(f"{process.name} ended with status {process.exitcode} before it said anything") from None
    raise Unreachable(f"{process.name} has not answered within {seconds:g} s")

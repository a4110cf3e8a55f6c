"""`python -m tests.bench.sync`: the gloo weight sync against a bare broadcast of the same bytes, in turns in one run.

Two plain processes on this machine: the sender of `learner/weights.py` with a source of tensors in memory, and the
receiver of `actors/transfer/gloo.py` over a plain torch module that copies each tensor into its parameter. ZeRO's
gathers and vLLM's layerwise reload are left out: both do the same work whatever carries the bytes.

Where the time goes is told as CPU seconds for each GiB, by process and thread: on cores that others use too, the clock
also counts what these do.
"""

import hashlib
import json
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

from actors.transfer.buckets import WIRE_BYTES
from actors.transfer.digest import bit_sums
from actors.transfer.gloo import GlooInitInfo, GlooUpdateInfo, GlooWeightTransferEngine, broadcast, join_group
from actors.transfer.stores import listen, port_of
from learner.sending import GlooTrainerEngine, GlooTrainerInitInfo

BUCKET = 2**28  # bytes of a bucket: the default of sync.bucket_mib, and one bare broadcast
ROUNDS = 15  # syncs, each between two bare broadcasts
LIMIT = 120.0  # seconds
THREADS = {"gloo_tcp_loop": "sockets", "pt_gloo_runloop": "queues"}  # of gloo, by Linux's name; others pack and load


class Tensors(WeightSource):
    """Equal float32 tensors that lie in memory."""

    def __init__(self, count: int, size: int) -> None:
        self.held = [torch.full((size // 4,), float(number)) for number in range(count)]

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(f"p{number}", t.dtype, tuple(t.shape)) for number, t in enumerate(self.held)]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return ((f"p{number}", tensor) for number, tensor in enumerate(self.held))


class Model(torch.nn.Module):
    """As many parameters, which `load_weights` overwrites."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        for number in range(count):
            self.register_parameter(f"p{number}", torch.nn.Parameter(torch.zeros(size // 4), requires_grad=False))

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Copies each into its parameter; the names of what was there."""
        parameters, loaded = dict(self.named_parameters()), set()
        for name, tensor in weights:
            parameters[name].copy_(tensor)
            loaded.add(name)
        return loaded


class Receiver:
    """The other process: answers calls by name."""

    def __init__(self, count: int, size: int) -> None:
        torch.set_num_threads(1)
        self._model = Model(count, size)
        config: Any = SimpleNamespace(parallel_config=SimpleNamespace(rank=0), model_config=None)
        self._engine = GlooWeightTransferEngine(None, config, torch.device("cpu"), self._model)  # type: ignore[arg-type]

    def init_weight_transfer_engine(self, info: dict[str, Any]) -> None:
        self._engine.init_transfer_engine(GlooInitInfo(**info))

    def update_weights(self, info: dict[str, Any]) -> None:
        self._engine.receive_weights(GlooUpdateInfo(**info))

    def join(self, info: dict[str, Any]) -> None:
        self._bare = join_group(GlooInitInfo(**info), 1)

    def bare(self, total: int) -> None:
        bare_broadcasts(self._bare, total)

    def settle(self) -> int:
        return settle()

    def cpu(self) -> Counter[str]:
        return cpu_seconds("loading")

    def peak(self) -> int:
        return resident("VmHWM")

    def values(self) -> list[float]:
        """The first and the last number of each parameter."""
        return [float(p[at]) for p in self._model.parameters() for at in (0, -1)]


def serve(line: Connection, count: int, size: int) -> None:
    """The main function of the other process; None ends it."""
    receiver = Receiver(count, size)
    line.send(None)
    while (call := line.recv()) is not None:
        line.send(getattr(receiver, call[0])(*call[1:]))


class Client:
    """Calls the receiver and counts the calls; like a run's client it asks nothing before and after an update."""

    def __init__(self, line: Connection) -> None:
        self._line, self.calls = line, 0

    def call(self, *call: Any) -> Any:
        self.begin(*call)
        return self.result()

    def begin(self, *call: Any) -> None:
        self.calls += 1
        self._line.send(call)

    def result(self) -> Any:
        if not self._line.poll(LIMIT):
            raise TimeoutError("the receiver has not answered")
        return self._line.recv()

    def end(self, process: Any) -> None:
        self._line.send(None)
        process.join(LIMIT)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.call("init_weight_transfer_engine", init_info)

    def start_weight_update(self) -> None:
        """Nothing."""

    def update_weights(self, update_info: Any) -> None:
        self.call("update_weights", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Nothing."""


def bare_group(client: Client) -> torch.distributed.ProcessGroup:
    """A transfer group beside that of the sync, joined by both processes."""
    door = listen("127.0.0.1")
    info = {"master_address": "127.0.0.1", "master_port": port_of(door), "rank_offset": 1, "world_size": 2}
    info |= {"bucket_bytes": BUCKET, "timeout_seconds": LIMIT}
    client.begin("join", info)
    group = join_group(GlooInitInfo(**info), 0, door)
    client.result()
    return group


@cache
def bare_buffer() -> torch.Tensor:
    """One bucket, in memory before the clock starts."""
    return torch.ones(BUCKET, dtype=torch.uint8)


def bare_broadcasts(group: torch.distributed.ProcessGroup, total: int) -> None:
    """Broadcasts so many bytes out of one buffer, bucket after bucket."""
    for start in range(0, total, BUCKET):
        broadcast(group, bare_buffer()[: total - start]).wait()


def settle() -> int:
    """Resets the peak of this process; resident bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(name: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at their peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def seconds(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def computing(action: Callable[[], object]) -> float:
    """CPU seconds of this thread."""
    started = time.thread_time()
    action()
    return time.thread_time() - started


def cpu_seconds(others: str) -> Counter[str]:
    """CPU seconds of this process so far, by what its threads do; `others` is what those do that are not gloo's."""
    found = Counter[str]()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            nanoseconds = int((task / "schedstat").read_text().split()[0])
            found[THREADS.get((task / "comm").read_text().strip(), others)] += nanoseconds / 1e9  # type: ignore[assignment]
    return found


class Profile:
    """CPU seconds of both processes, by part, summed over what was measured."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.spent: Counter[str] = Counter()
        self.times: list[float] = []  # by the clock

    def measure(self, action: Callable[[], object]) -> None:
        before = self._now()
        self.times.append(seconds(action))
        after = self._now()
        after.subtract(before)
        self.spent.update(after)

    def _now(self) -> Counter[str]:
        here = {f"sender_{part}": spent for part, spent in cpu_seconds("packing").items()}
        return Counter(here | {f"receiver_{part}": spent for part, spent in self._client.call("cpu").items()})


def sha256(tensor: torch.Tensor) -> str:
    """What vLLM's own checksum makes of a tensor on the CPU."""
    return hashlib.sha256(tensor.view(torch.uint8).numpy()).hexdigest()


def connected(count: int, total: int) -> tuple[Any, Client, GlooTrainerEngine, Tensors]:
    """(process, client, sender, its source) of a sync of so many tensors."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there, count, total // count // 4 * 4))
    process.start()
    client, source = Client(here), Tensors(count, total // count // 4 * 4)
    client.result()
    info = GlooTrainerInitInfo("127.0.0.1", 2, WIRE_BYTES, LIMIT, rank=0)
    return process, client, GlooTrainerEngine.trainer_init(info, client=client, source=source), source


def calls_of(count: int) -> int:
    """Calls of one sync of so many tensors of 1 KiB."""
    process, client, sender, _ = connected(count, count * 1024)
    before = client.calls
    sender.send_weights()
    made = client.calls - before
    client.end(process)
    return made


def measure(gib: float = 1.0, count: int = 300) -> dict[str, float]:
    """The sync's share of a bare broadcast's bandwidth, each sync against the broadcasts before and after it, the CPU
    seconds of its parts, buckets of extra memory on both sides, and calls to the receiver.

    Args:
        gib: all weights.
        count: tensors that they are cut into.

    Raises:
        RuntimeError: the receiver does not hold what was sent.
    """
    torch.set_num_threads(1)
    process, client, sender, source = connected(count, int(gib * 2**30))
    total = sum(tensor.nbytes for tensor in source.held)
    group = bare_group(client)

    def bare() -> None:
        client.begin("bare", total)
        bare_broadcasts(group, total)
        client.result()

    before = settle(), client.call("settle")
    sender.send_weights()
    peaks = resident("VmHWM"), client.call("peak")
    bare()
    bares, syncs = Profile(client), Profile(client)
    for _ in range(ROUNDS):
        bares.measure(bare)
        syncs.measure(sender.send_weights)
    bares.measure(bare)
    beside = [(one + other) / 2 for one, other in pairwise(bares.times)]
    low, middle, high = statistics.quantiles([one / other for one, other in zip(beside, syncs.times, strict=True)])
    gib_each = total / 2**30 * ROUNDS
    bare_cpu, sync_cpu = bares.spent.total() / (ROUNDS + 1) * ROUNDS, syncs.spent.total()
    wanted = [float(tensor[0]) for tensor in source.held for _ in range(2)]
    if client.call("values") != wanted:
        raise RuntimeError("the receiver does not hold what was sent")
    client.end(process)
    return {
        "cpu_seconds_for_a_gib_of_digest": computing(lambda: [bit_sums(tensor) for tensor in source.held]) / gib,
        "cpu_seconds_for_a_gib_of_sha256": computing(lambda: [sha256(tensor) for tensor in source.held]) / gib,
        "bare_gib_per_second": total / 2**30 / statistics.median(bares.times),
        "sync_gib_per_second": total / 2**30 / statistics.median(syncs.times),
        "share_of_bare": middle,
        "share_of_bare_lower_quartile": low,
        "share_of_bare_upper_quartile": high,
        "share_of_bare_quickest": min(bares.times) / min(syncs.times),
        "share_of_bare_in_cpu_seconds": bare_cpu / sync_cpu,
        "cpu_seconds_for_a_gib_bare": bare_cpu / gib_each,
        "cpu_seconds_for_a_gib": sync_cpu / gib_each,
        **{f"cpu_seconds_for_a_gib_{part}": spent / gib_each for part, spent in sorted(syncs.spent.items())},
        "sender_extra_buckets": (peaks[0] - before[0]) / BUCKET,
        "receiver_extra_buckets": (peaks[1] - before[1]) / BUCKET,
        **{f"calls_with_{number}_tensors": calls_of(number) for number in (10, 1000)},
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))

"""A checkpoint of a model of 3 GB from a real ZeRO engine: how long training is held up, what the host holds meanwhile,
and that the files have the weights of the moment at which it was asked for, though training goes on before they are
written."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from transformers import Qwen2Config

from actors.transfer.stores import LOOPBACK, listen, port_of
from learner.checkpoint import save_policy
from learner.checks.agreement import write_model
from learner.engine import Engine, join_learners
from learner.methods.algorithms import algorithm_of
from learner.settings import SHARD_BYTES, LearnerSettings, ModelSettings
from learner.types import Place, Schedule
from learner.writing import Writer
from tests.builders import learner_spec
from tests.gpu.passes import new_policy, qwen

MIB = 2**20
LOOK_SECONDS = 0.01  # between two looks at the memory of this process


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a model, and of the files that it is written in."""

    config: Qwen2Config
    shards: int  # bytes of one file
    spare: int  # bytes that the host may hold beside two files: what is written goes through buffers


REAL = Size(config=qwen(28, 1536, 8960, 12, 2), shards=512 * MIB, spare=1024 * MIB)  # 3.1 GB in bfloat16
SMALL = Size(config=qwen(5, 512, 8192, 4, 2, vocabulary=1024), shards=32 * MIB, spare=32 * MIB)


def measure(device: str, size: Size = REAL) -> dict[str, float]:
    """Seconds for which training is held up and until the files are whole, and GiB of the host's memory at the peak:
    once in files of the size that runs have, once in smaller ones.

    Raises:
        AssertionError: a file has other weights, or the host held more than two files and what is spare.
    """
    figures: dict[str, float] = {}
    with TemporaryDirectory() as scratch:
        write_model(Path(scratch))  # for its tokenizer
        engine = _engine(device, size.config)
        for name, shards in (("whole", SHARD_BYTES), ("in_shards", size.shards)):
            saved = _saved(engine, tokenizer=Path(scratch), folder=Path(scratch) / name, shards=shards)
            figures |= {f"{what}_{name}": value for what, value in saved}
            if name == "in_shards":
                largest = max(weights.nbytes for weights in engine.module.parameters())
                allowed = 2 * max(shards, largest) + size.spare
                held = figures["host_gib_in_shards"] * 2**30
                assert held <= allowed, f"the host held {held / MIB:.0f} MiB, and {allowed / MIB:.0f} MiB are explained"
    return figures


def _saved(engine: Engine, *, tokenizer: Path, folder: Path, shards: int) -> list[tuple[str, float]]:
    wanted = {name: weights.detach().clone() for name, weights in engine.module.lm.named_parameters()}
    with _watched() as memory:
        started, writer = time.monotonic(), Writer()
        writer.begin(folder)
        save_policy(engine, folder, writer, tokenizer=tokenizer, dtype=torch.bfloat16, shard_bytes=shards)
        held_up = time.monotonic() - started
        with torch.no_grad():  # training goes on
            for weights in engine.module.parameters():
                weights.add_(1)
        written = writer.finish()
        writer.close()
        whole = time.monotonic() - started
    assert written.problem == "", written.problem
    files = sorted(folder.glob("*.safetensors"))
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    wrong = [name for name, weights in wanted.items() if name in found and not torch.equal(found[name], weights.cpu())]
    assert wrong == [], f"{len(wrong)} tensors of {folder.name} are not as they were, the first is {wrong[0]}"
    assert found.keys() <= wanted.keys()
    assert sum(weights.nbytes for weights in found.values()) >= sum(weights.nbytes for weights in wanted.values()), (
        f"{folder.name} does not hold all weights"
    )
    return [
        ("seconds_held_up", held_up),
        ("seconds", whole),
        ("host_gib", memory.more / 2**30),
        ("gb", sum(weights.nbytes for weights in found.values()) / 1e9),
        ("files", float(len(files))),
    ]


def _engine(device: str, config: Qwen2Config) -> Engine:
    """The only rank's, in bfloat16 with ZeRO 2."""
    door = listen(LOOPBACK)
    join_learners(Place(rank=0, ranks=1), LOOPBACK, port_of(door), door)
    on_gpu = device == "cuda"
    model = ModelSettings(dtype="bfloat16").on_device(on_gpu)
    spec = learner_spec(model, LearnerSettings(zero_stage=2).on_device(on_gpu), algorithm_of("raft"))
    return Engine(lambda: new_policy(device, config, 1024), spec, Schedule(lr=1e-6, updates=1, warmup=0, end=1.0))


@dataclass(slots=True)
class _Memory:
    """What this process holds that no file backs, page-locked memory included, beyond what it held at first."""

    done: threading.Event = field(default_factory=threading.Event)
    more: int = 0  # bytes, at the peak

    def watch(self) -> None:
        first = _held()
        while not self.done.wait(LOOK_SECONDS):
            self.more = max(self.more, _held() - first)


def _held() -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


@contextmanager
def _watched() -> Iterator[_Memory]:
    memory = _Memory()
    thread = threading.Thread(target=memory.watch)
    thread.start()
    try:
        yield memory
    finally:
        memory.done.set()
        thread.join()

"""`python -m tests.bench.learning`: what packing and checkpointing are worth, as ratios within one run on this machine.

Forward and backward passes of the tiny model on one thread; the two sides of a ratio take turns.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from actors.data.world import ALPHABET
from learner.batches.packing import balance, batch_of, pack
from learner.batches.types import Sample, TrainBatch
from learner.models.policy import Policy, load_policy
from learner.models.tiny import write_tiny_model
from learner.settings import ModelSettings

ROUNDS = 5
RANKS = 2
# name: (draws tokens of so many prompts and of their responses, number, micro_batch_tokens)
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
WORKLOADS: dict[str, tuple[Draw, int, int]] = {
    "short": (lambda r, n: (r.integers(4, 6, n), r.integers(2, 4, n)), 512, 4096),
    "demo": (lambda r, n: (r.integers(6, 11, n), r.integers(4, 21, n)), 128, 2048),
    "tail": (lambda r, n: (r.integers(6, 11, n), 8 + r.exponential(40, n).clip(0, 248)), 128, 4096),
    "lognormal": (lambda r, n: (r.integers(50, 200, n), r.lognormal(6, 1, n).clip(1, 3896)), 256, 16384),
    "eight": (lambda r, n: (r.integers(6, 11, n), r.integers(4, 21, n)), 8, 2048),
}
TIMED = ("demo", "tail")  # a step of the others takes minutes on a CPU


def samples(name: str) -> list[Sample]:
    """Sequences of a workload, all but the prompts trained."""
    draw, number, _ = WORKLOADS[name]
    generator = np.random.default_rng(0)
    prompts, responses = (lengths.astype(int) for lengths in draw(generator, number))
    return [
        Sample(
            tokens=generator.integers(1, 16, prompt + response).astype(np.int32),
            trained=np.arange(prompt + response) >= prompt,
            sampler=None,
            advantage=1.0,
            weight=1.0,
        )
        for prompt, response in zip(prompts.tolist(), responses.tolist(), strict=True)
    ]


def padded(sequences: Sequence[Sample], micro_batch_tokens: int) -> list[TrainBatch]:
    """A sequence to a row, in the order given, as many rows as the budget allows."""
    widest = max(sample.tokens.size for sample in sequences)
    height = max(1, micro_batch_tokens // widest)
    return [
        batch_of(sequences, [[index] for index in range(start, min(start + height, len(sequences)))])
        for start in range(0, len(sequences), height)
    ]


def padding(batches: Sequence[TrainBatch]) -> float:
    """Share of padding in the tokens computed."""
    return sum(batch.padding for batch in batches) / sum(batch.tokens.size for batch in batches)


def step(policy: Policy, batches: Sequence[TrainBatch]) -> None:
    """Forward and backward pass of all of them."""
    for batch in batches:
        arrays = (torch.from_numpy(array) for array in (batch.tokens, batch.positions, batch.states, batch.targets))
        (policy(*arrays, 1.0)[0] * torch.from_numpy(batch.weights)).sum().backward()


def seconds(policy: Policy, batches: Sequence[TrainBatch]) -> float:
    started = time.process_time()  # of the processor: neighbours on the machine count less
    step(policy, batches)
    return time.process_time() - started


def kept_bytes(policy: Policy, batch: TrainBatch) -> int:
    """Bytes that one forward pass keeps for its backward pass."""
    held: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    arrays = (torch.from_numpy(array) for array in (batch.tokens, batch.positions, batch.states, batch.targets))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = policy(*arrays, 1.0)
    weights = {parameter.untyped_storage().data_ptr() for parameter in policy.parameters()}
    del out
    return sum(size for pointer, size in held.items() if pointer not in weights)


def packing_milliseconds(sequences: Sequence[Sample], micro_batch_tokens: int) -> float:
    """CPU milliseconds of a sample to pack it, the least of some rounds."""

    def once() -> float:
        started = time.process_time()
        pack(sequences, micro_batch_tokens)
        return time.process_time() - started

    return 1000 * min(once() for _ in range(ROUNDS)) / len(sequences)


def measure() -> dict[str, float]:
    """Padding on the worst of two ranks, what packing costs, tokens a second over those of padded rows, and bytes kept
    by a forward pass with checkpointing over without."""
    torch.set_num_threads(1)
    figures = {}
    for name, (*_, budget) in WORKLOADS.items():
        sequences = samples(name)
        shares = balance([sample.tokens.size for sample in sequences], RANKS)
        packed = [pack([sequences[index] for index in share], budget) for share in shares]
        figures[f"padding_{name}"] = max(map(padding, packed))
        figures[f"packing_ms_{name}"] = packing_milliseconds(sequences, budget)
    with TemporaryDirectory() as folder:
        write_tiny_model(Path(folder), alphabet=ALPHABET, seed=0)
        plain, sparing = (
            load_policy(folder, ModelSettings(dtype="float32", checkpointing=on), 2048).train() for on in (False, True)
        )
    for name in TIMED:
        sequences, budget = samples(name), WORKLOADS[name][2]
        both = pack(sequences, budget), padded(sequences, budget)
        step(plain, both[0])
        times = [[seconds(plain, batches) for batches in both] for _ in range(ROUNDS)]
        figures[f"speed_over_padded_{name}"] = statistics.median(slow / quick for quick, slow in times)
        figures[f"padding_of_padded_{name}"] = padding(both[1])
    batch = pack(samples("demo"), 2048)[0]
    figures["kept_with_checkpointing"] = kept_bytes(sparing, batch) / kept_bytes(plain, batch)
    return figures


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))

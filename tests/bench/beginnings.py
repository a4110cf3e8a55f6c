"""`python -m tests.bench.beginnings`: what it saves the learner to compute equal beginnings of sequences once.

Packing, forward and backward pass of the tiny model on one thread, in CPU time; both sides of a ratio take turns.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from actors.data.world import ALPHABET
from learner.batches.packing import pack
from learner.batches.types import Sample
from learner.models.examination import examine
from learner.models.inputs import inputs_of
from learner.models.policy import Policy, load_policy
from learner.models.tiny import write_tiny_model
from learner.settings import ModelSettings

ROUNDS = 5
SIBLINGS = 8
BUDGET = 4096  # tokens of a micro-batch
# name: (groups, draws tokens of a prompt and of an answer)
Draw = Callable[[np.random.Generator], int]
WORKLOADS: dict[str, tuple[int, Draw, Draw]] = {
    "short": (64, lambda r: 5, lambda r: int(r.integers(2, 4))),  # short answers to short prompts
    "long_prompts": (4, lambda r: int(r.integers(400, 700)), lambda r: int(r.integers(2, 20))),
    "demo": (16, lambda r: int(r.integers(6, 11)), lambda r: int(r.integers(4, 21))),
    "tail": (16, lambda r: int(r.integers(6, 11)), lambda r: int(8 + min(248, r.exponential(40)))),
}


def samples(name: str) -> list[Sample]:
    """Groups of random answers of ten tokens' kinds to random prompts."""
    groups, prompt_of, answer_of = WORKLOADS[name]
    draw, found = np.random.default_rng(0), []
    for _ in range(groups):
        prompt = draw.integers(1, 11, prompt_of(draw))
        for _ in range(SIBLINGS):
            tokens = np.concatenate([prompt, draw.integers(1, 11, answer_of(draw))]).astype(np.int32)
            trained = np.arange(tokens.size) >= prompt.size
            found.append(Sample(tokens=tokens, trained=trained, sampler=None, advantage=1.0, weight=1.0))
    return found


def cost(policy: Policy, sequences: list[Sample], width: int) -> tuple[float, int]:
    """CPU milliseconds of a sample, and the tokens that were computed."""
    started, tokens = time.process_time(), 0  # of the processor: neighbours on the machine count less
    for batch in pack(sequences, BUDGET, width=width):
        (policy(**inputs_of(policy, batch, torch.device("cpu")), temperature=1.0)[0]).sum().backward()
        tokens += batch.tokens.size
    return 1e3 * (time.process_time() - started) / len(sequences), tokens


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """CPU milliseconds of a sample with beginnings shared and apart, medians; their ratio in each round, the median and
    the least; and the tokens computed, shared over apart."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        write_tiny_model(Path(folder), alphabet=ALPHABET, seed=0)
        policy = load_policy(folder, ModelSettings(dtype="float32"), 2048)
    examine(policy)
    policy.train()
    figures: dict[str, float] = {}
    for name in WORKLOADS:
        sequences = samples(name)
        cost(policy, sequences, policy.width)
        turns = [(cost(policy, sequences, policy.width), cost(policy, sequences, 0)) for _ in range(rounds)]
        ratios = [apart / shared for (shared, _), (apart, _) in turns]
        ((_, tokens_shared), (_, tokens_apart)), *_ = turns
        figures |= {
            f"ms_shared_{name}": statistics.median(shared for (shared, _), _ in turns),
            f"ms_apart_{name}": statistics.median(apart for _, (apart, _) in turns),
            f"speed_{name}": statistics.median(ratios),
            f"speed_least_{name}": min(ratios),
            f"tokens_{name}": tokens_shared / tokens_apart,
        }
    return figures


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))

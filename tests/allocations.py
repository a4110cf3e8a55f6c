"""What a learner rank allocates, measured: one rank of a real engine in this process, every allocation of PyTorch on
the CPU seen by its profiler. Run as a program by `tests/learner/test_memory.py`; prints one line of JSON."""

import json
import os
import socket
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from learner import engine as home
from learner.batches.packing import pack
from learner.batches.types import Sample
from learner.methods.algorithms import ALGORITHMS
from learner.models.policy import load_policy
from learner.settings import LearnerSettings, ModelSettings
from learner.types import Place, Schedule
from tests.builders import learner_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is measured."""

    model: str  # folder
    dtype: str
    stage: int
    checkpointing: bool
    tokens: int  # of a micro-batch, of sequences of 128
    bucket: int  # gradients that are exchanged at once
    rank: int
    ranks: int
    port: int


def main(case: Case) -> None:
    """Builds an engine, makes two updates of two micro-batches each, and prints what was held when."""
    os.environ.update(DS_ACCELERATOR="cpu", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")
    torch.set_num_threads(1)
    home.REDUCE_BUCKET = case.bucket
    door = None
    if case.rank == 0:
        door = socket.socket()
        door.bind(("127.0.0.1", case.port))
        door.listen()
    home.join_learners(Place(rank=case.rank, ranks=case.ranks), "127.0.0.1", case.port, door)
    spec = learner_spec(
        ModelSettings(dtype=case.dtype, attention="sdpa", checkpointing=case.checkpointing),
        LearnerSettings(zero_stage=case.stage, micro_batch_tokens=case.tokens, logit_chunk=256),
        ALGORITHMS["reinforce-rej"],
    )
    draw = np.random.default_rng(0)
    samples = [
        Sample(
            tokens=draw.integers(0, 1000, 128).astype(np.int32),
            trained=np.arange(128) > 0,
            sampler=None,
            advantage=1.0,
            weight=1e-3,
        )
        for _ in range(2 * case.tokens // 128)
    ]
    batches = pack(samples, case.tokens)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        build = partial(load_policy, Path(case.model), spec.model, spec.learner.logit_chunk)
        engine = home.Engine(build, spec, Schedule(lr=1e-3, updates=4, warmup=0, end=1.0))
        for _ in range(2):
            engine.update(batches, lambda number, batch, out: home.Measured(loss=-out[0].mean(), sums={"loss": 0.0}))
    print(json.dumps(held(profile)))
    dist.destroy_process_group()


def held(profile: Any) -> dict[str, int]:
    """Bytes: at most, and at the end."""
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    now = most = 0
    for event in events:
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return {"most": most, "end": now}


if __name__ == "__main__":
    main(Case(**json.loads(sys.argv[1])))

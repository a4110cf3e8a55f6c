"""The real control plane with simulated engines: real Ray actors, loop, pool, verifiers, filter; no model.

    Generator (simulated engine) -> Verifier (its real process) -> Filter (real ledger, files) -> learner that fetches

What it measures is what winnow itself costs. Sleeps stand for the work of an engine and of a learner.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from actors.arrow import unpacked
from actors.engines import Completion, Sampling
from actors.filtering.client import FilterClient
from actors.filtering.filter import AcceptedBatch, Filter, FilterSpec
from actors.filtering.rules import drop_both
from actors.garbage import collect_seldom
from actors.grading.verifier import VERIFIER_THREADS, Verifier
from actors.pool import GeneratorPool
from actors.remote import answer, answers
from actors.rollouts.client import GeneratorClient
from actors.rollouts.generator import Generator
from actors.settings import GeneratorSettings, RolloutSettings
from actors.types import EngineSpec, Finish, Prompt, SamplingSpec
from cluster.reporting.steps import StepDone
from cluster.running.loop import Stages, run_loop
from rewards import RewardSettings
from tests.bench.processes import Usage, usage

PROMPT, ANSWER = 8, 16  # tokens of a simulated prompt and response
RIGHT, WRONG = 5, 6  # last token of a response
PATIENCE = 10**6
CUT = 4.0  # times the mean at most, as max_new_tokens cuts long responses


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How long the simulated stages take."""

    response: float = 0.0  # mean seconds of a response in the engine; 0 answers at once
    tail: float = 0.0  # sigma of the logarithm of these seconds; 1 is a heavy tail: 4 % take three times the mean
    together: int = 256  # responses that the engine works on at the same time
    update: float = 0.0  # mean seconds of a training step
    update_tail: float = 0.0  # sigma of the logarithm of these


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run on the rig."""

    groups: int  # the run ends after the step in which so many have been graded
    load: Load = field(default_factory=Load)
    per_step: int = 128  # P
    size: int = 8  # G
    staleness: int = 1  # S
    seconds: float = float("inf")  # or after the step in which so many have passed
    every: int = 1  # steps from a mark to the next; reading all processes costs as much as some groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What was known after a step."""

    step: int
    seconds: float  # since the loop began
    graded: int  # groups so far
    trained: int  # of these
    used: Usage  # CPU seconds and memory of this process and all below it


class Tokenizer:
    """Decodes a response by its last token."""

    def decode(self, tokens: Sequence[int], **_: Any) -> str:
        return "5" if tokens[-1] == RIGHT else "6"


class Engine:
    """Stands where a generator has its engine; a prompt whose first token is divisible by four is always solved."""

    tokenizer, max_model_len = Tokenizer(), PROMPT + ANSWER

    def __init__(self, load: Load) -> None:
        self._load, self._free = load, asyncio.Semaphore(load.together)

    async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        """Responses of fixed size, each after a sleep; the seed alone decides on both."""
        seeds = range(seed, seed + sampling.completions)
        if self._load.response:
            await asyncio.gather(*map(self._sampled, seeds))
        return [_COMPLETIONS[tokens[0] % 4 == 0 or seed % 2 == 0] for seed in seeds]

    async def _sampled(self, seed: int) -> None:
        async with self._free:
            await asyncio.sleep(drawn(self._load.response, self._load.tail, seed))


def drawn(mean: float, sigma: float, seed: int | str) -> float:
    """A lognormal number with this mean, cut at CUT times the mean; the seed alone decides on it."""
    return mean * min(CUT, random.Random(seed).lognormvariate(-sigma * sigma / 2, sigma))


def _completion(last: int) -> Completion:
    return Completion(
        tokens=np.array([*range(1, ANSWER), last], np.int32),
        logprobs=np.full(ANSWER, -0.5, np.float32),
        versions=np.zeros(ANSWER, np.int32),
        finish=Finish.STOP,
        shown=(),
    )


_COMPLETIONS = {True: _completion(RIGHT), False: _completion(WRONG)}


class SimulatedGenerator(Generator):
    """The real generator actor on a simulated engine."""

    async def simulate(self, load: Load) -> None:
        """Takes the place of `start`."""
        self._engine = Engine(load)  # type: ignore[assignment]
        collect_seldom()


class SimulatedLearner:
    """Fetches what it would train on, and sleeps."""

    def train(self, seconds: float, *groups: pa.Buffer) -> int:
        """One step; gives the number of responses."""
        started = time.monotonic()
        rows = sum(unpacked(group).num_rows for group in groups)
        time.sleep(max(0.0, seconds - (time.monotonic() - started)))
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """The running actors."""

    generators: Sequence[GeneratorClient]
    filter: FilterClient
    learner: Any

    def run(self, plan: Plan, folder: Path) -> list[Mark]:
        """Runs until so many groups have been graded: a mark for the start and for each step."""
        return asyncio.run(self._run(plan, folder))

    async def _run(self, plan: Plan, folder: Path) -> list[Mark]:
        rollout = RolloutSettings(groups_per_step=plan.per_step, group_size=plan.size, max_new_tokens=ANSWER)
        sampling = SamplingSpec(seed=0, rollout=rollout, reward=RewardSettings(name="exact"), greedy=False)
        spec = FilterSpec(
            drop=drop_both,
            groups_per_step=plan.per_step,
            max_staleness=plan.staleness,
            patience=PATIENCE,
            trajectories=folder,
        )
        await asyncio.gather(
            self.filter.begin(spec),
            *(generator.begin(sampling) for generator in self.generators),
            answers([generator.handle.simulate.remote(plan.load) for generator in self.generators], "generator"),
        )
        collect_seldom()
        driver = _Driver(self, plan)
        await run_loop(driver.stages(), steps=10**9)
        return driver.marks


class _Driver:
    """The stages of `cluster.running.run.Run`, with a learner and engines that are simulated."""

    def __init__(self, rig: Rig, plan: Plan) -> None:
        self._rig, self._plan = rig, plan
        self._pool, self._filter = GeneratorPool(rig.generators), rig.filter
        self._dealt = self._graded = self._trained = 0
        self._began = time.monotonic()
        self.marks = [self._mark(0)]

    def stages(self) -> Stages:
        return Stages(
            admit=self._filter.admit,
            prompts=self._prompts,
            dispatched=self._filter.dispatched,
            rollout=self._pool.rollout,
            offer=self._filter.offer,
            drop=self._filter.drop,
            take=self._filter.take,
            train=self._train,
            publish=self._filter.publish,
            report=self._report,
        )

    def _prompts(self, count: int) -> list[tuple[Prompt, int]]:
        numbers = range(self._dealt, self._dealt + count)
        self._dealt += count
        return [(_prompt(number), 0) for number in numbers]

    async def _train(self, batch: AcceptedBatch) -> int:
        load = self._plan.load
        seconds = drawn(load.update, load.update_tail, f"update/{self._trained}") if load.update else 0.0
        rows: int = await answer(self._rig.learner.train.remote(seconds, *batch.groups), "learner")
        await self._filter.trained()
        self._trained += len(batch.groups)
        return rows

    async def _report(self, done: StepDone) -> bool:
        await self._filter.report(done.step)
        self._graded += len(self._filter.graded())
        last = self._graded >= self._plan.groups or self._seconds() >= self._plan.seconds
        if last or done.step % self._plan.every == 0:
            self.marks.append(self._mark(done.step))
        return not last

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _mark(self, step: int) -> Mark:
        return Mark(
            step=step, seconds=self._seconds(), graded=self._graded, trained=self._trained, used=usage(os.getpid())
        )


def _prompt(number: int) -> Prompt:
    tokens = np.arange(number, number + PROMPT, dtype=np.int32)
    return Prompt(id=str(number), tokens=tokens, text="2+3=", reward="exact", reference="5")


@contextmanager
def rig(generators: int = 1, verifiers: int = 1, calls: int = 8192) -> Iterator[Rig]:
    """The actors; they are gone when the context ends."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
    ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    try:
        checkers = [_create(Verifier, f"verifier-{n}", {}, groups=VERIFIER_THREADS) for n in range(verifiers)]
        spec = EngineSpec(
            model="",
            dtype="float32",
            seed=0,
            max_model_len=PROMPT + ANSWER,
            tensor_parallel=1,
            backend="",
            on_cpu=True,
            engine=GeneratorSettings(),
        )
        names = [f"generator-{n}" for n in range(generators)]
        yield Rig(
            generators=[
                GeneratorClient(name, _create(SimulatedGenerator, name, spec, checkers, calls=calls)) for name in names
            ],
            filter=FilterClient(partial(_create, Filter, "filter", calls=calls)),
            learner=_create(SimulatedLearner, "learner"),
        )
        ray.get([checker.stop.remote() for checker in checkers])
    finally:
        ray.shutdown()


def _create(
    kind: type, name: str, *arguments: Any, calls: int | None = None, groups: dict[str, int] | None = None
) -> Any:
    options: dict[str, Any] = {} if calls is None else {"max_concurrency": calls}
    remote: Any = ray.remote
    return remote(concurrency_groups=groups or {})(kind).options(name=name, num_cpus=0, **options).remote(*arguments)

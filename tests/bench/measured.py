"""Winnow's own runs, measured step by step without checkpoints, and with one stage alone; actors live on between
them."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from actors.filtering.filter import AcceptedBatch
from actors.types import GroupRef, RolloutRequest, Summary
from cluster.config.run_config import RunConfig
from cluster.placement.actors import RunActors, running_actors
from cluster.placement.layout import Layout
from cluster.placement.session import ray_session, settled
from cluster.preparing.preflight import Prepared, prepare
from cluster.reporting.display import ProgressLine
from cluster.reporting.steps import StepDone
from cluster.running.loop import Stages
from cluster.running.run import Run
from cluster.running.warmup import warm_up
from learner.types import UpdateStats
from rewards import Outcome
from tests.bench.processes import usage

Canned = list[tuple[Summary, Any]]  # accepted groups: summary and reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Totals after a step."""

    seconds: float  # since training began
    cpu: float  # core seconds of all processes of the run
    graded: int  # responses
    correct: int  # of these
    trained: int  # responses
    tokens_graded: int  # sampled tokens
    tokens_trained: int
    wait: float  # seconds that the learner waited for batches
    sync: float  # seconds of weight syncs


class MeasuredRun(Run):
    """A run that keeps its totals of each step in `steps`; nothing else of it is left behind."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.steps: list[Step] = []
        self.kept: Canned = []

    def stages(self) -> Stages:
        return replace(super().stages(), rollout=self.rollout)

    async def rollout(self, request: RolloutRequest) -> tuple[Summary, GroupRef]:
        summary, group = await self.groups.rollout(request)
        if not self._config.algorithm.drop(np.array(summary.scores)):
            self.kept.append((summary, group))
        return summary, group

    async def finish_step(self, done: StepDone) -> bool:
        if self._end is not None:
            graded = self._end.report.graded
        else:  # nothing was trained
            await self._actors.filter.report(done.step)
            graded = self._actors.filter.graded()
        self.reporter.show_failure(graded)
        self.counters = replace(self.counters, step=done.step)
        last = self.steps[-1] if self.steps else Step(**dict.fromkeys(Step.__slots__, 0))
        batch: Sequence[Summary] = done.batch.summaries
        step = Step(
            seconds=self.reporter.seconds,
            cpu=usage(os.getpid()).seconds,
            graded=last.graded + sum(len(s.outcomes) for s in graded),
            correct=last.correct + sum(o is Outcome.CORRECT for s in graded for o in s.outcomes),
            trained=last.trained + sum(len(s.scored_lengths) for s in batch),
            tokens_graded=last.tokens_graded + sum(sum(s.lengths) for s in graded),
            tokens_trained=last.tokens_trained + sum(sum(s.scored_lengths) for s in batch),
            wait=last.wait + done.seconds_wait,
            sync=last.sync + done.seconds_sync,
        )
        self.steps.append(step)
        self._display.status(f"step {done.step}, {step.seconds:.1f} s, {step.trained} responses trained on")
        limit = self._config.run.seconds
        return done.step < self._config.run.steps and not (limit and step.seconds >= limit)


class Generation(MeasuredRun):
    """Sampling, grading and filtering alone: batches are taken and let go."""

    def stages(self) -> Stages:
        return replace(super().stages(), take=self._actors.filter.take)

    async def train(self, batch: AcceptedBatch) -> list[UpdateStats]:
        await self._actors.filter.trained()
        return []

    async def publish(self, version: int) -> Any:
        return await (self._actors.filter.publish(version) if version else super().publish(0))


class Learning(MeasuredRun):
    """The learner alone: groups that were kept in another run come at once, over and over."""

    canned: Canned

    async def rollout(self, request: RolloutRequest) -> tuple[Summary, GroupRef]:
        summary, group = self.canned[request.group % len(self.canned)]
        return replace(summary, id=request.group), group

    async def publish(self, version: int) -> Any:
        return await (self._actors.filter.publish(version) if version else super().publish(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchActors:
    """Running actors and where their runs put files."""

    actors: RunActors
    layout: Layout  # where they run
    folder: Path

    def run(
        self,
        config: RunConfig,
        kind: type[MeasuredRun] = MeasuredRun,
        name: str = "",
        canned: Canned | None = None,
    ) -> MeasuredRun:
        """One run from its start to its end."""
        place = self.folder / f"{name}-{time.monotonic_ns()}"
        place.mkdir(parents=True)
        run = kind(settled(_prepared(config), self.layout), self.actors, place, _line(name))
        if isinstance(run, Learning):
            run.canned = canned or []
        asyncio.run(run.go())
        return run

    def warm(self, config: RunConfig, target: Path) -> None:
        """Warms the model of the run up and saves it in `target`."""
        asyncio.run(self._warm(config, target))

    async def _warm(self, config: RunConfig, target: Path) -> None:
        await self.actors.learner.join()
        await warm_up(self.actors.learner, config, target, _line("warm-up"))


@contextmanager
def bench_actors(config: RunConfig, folder: Path) -> Iterator[BenchActors]:
    """Actors that can serve this run and others of its shape (see `cluster.placement.warm`)."""
    with ray_session(config) as (layout, *_), running_actors(settled(_prepared(config), layout), layout) as actors:
        yield BenchActors(actors=actors, layout=layout, folder=folder)


def with_settings(config: RunConfig, **sections: dict[str, Any]) -> RunConfig:
    """The run with some settings replaced, by section; checked again."""
    tree = config.model_dump()
    return RunConfig(**{name: tree[name] | sections.get(name, {}) for name in tree})


def rates(steps: Sequence[Step]) -> dict[str, float]:
    """What a run did per second, its first two steps left out where it has more: the pipe is full then."""
    left_out = min(2, len(steps) - 1)
    start = steps[left_out - 1] if left_out else Step(**dict.fromkeys(Step.__slots__, 0))
    end, seconds = steps[-1], steps[-1].seconds - start.seconds
    return {
        "steps/s": (len(steps) - left_out) / seconds,
        "samples/s": (end.trained - start.trained) / seconds,
        "graded/s": (end.graded - start.graded) / seconds,
        "trained tokens/s": (end.tokens_trained - start.tokens_trained) / seconds,
        "generated tokens/s": (end.tokens_graded - start.tokens_graded) / seconds,
        "cores busy": (end.cpu - start.cpu) / seconds,
        "share of time waited for batches": (end.wait - start.wait) / seconds,
        "share of time in syncs": (end.sync - start.sync) / seconds,
    }


def _prepared(config: RunConfig) -> Prepared:
    return prepare(config, memory=False)


def _line(name: str) -> ProgressLine:
    return ProgressLine(Console(stderr=True, highlight=False), name)

"""A training run from its config to its last checkpoint: prepares, starts, warms up, loops, and cleans up."""

import asyncio
import shutil
import time
from functools import partial
from pathlib import Path

from actors.errors import Starved
from actors.filter import AcceptedBatch
from actors.pool import call, call_all
from actors.prompts import PromptSource
from cluster.config import ConfigError, RunConfig
from cluster.layout import Layout
from cluster.loop import Stages, StepDone, run_loop
from cluster.metrics import Clock, FilterReport, step_metrics
from cluster.outputs import Display, MetricsWriter
from cluster.preflight import Prepared, describe, make_run_folder, prepare, write_config, write_world
from cluster.publish import Publisher, SyncReport
from cluster.startup import Parts, ray_session, running_parts, sync_backend
from learner.algorithms import algorithm_of
from learner.batching import plan_updates
from learner.types import Schedule, Share, UpdateStats

WARMUP_REPORT = 10  # supervised updates between two lines of progress


def train(config: RunConfig) -> Path:
    """Runs a training to its end and gives the run folder.

    Raises:
        ConfigError: the run cannot start.
        Starved: the filter's patience was spent; a checkpoint was written.
        BrokenPart: a part of the run failed.
    """
    folder = make_run_folder(config)
    try:
        with Display(config.run.steps) as display:
            _train_in(folder, config, display)
    except ConfigError:
        shutil.rmtree(folder)  # nothing has run: only what a built-in world wrote is in it
        raise
    return folder


def _train_in(folder: Path, config: RunConfig, display: Display) -> None:
    display.say(f"run folder: {folder}")
    config = write_world(config, folder)
    prepared = prepare(config)
    write_config(config, folder)
    display.status("starting Ray")
    with ray_session(config) as (layout, dashboard):
        display.say(describe(prepared, layout))
        display.say(f"Ray dashboard: http://{dashboard}")
        with running_parts(prepared, layout, folder) as parts:
            asyncio.run(_Run(prepared, layout, parts, folder, display).go())


class _Run:
    """The stages of one run, wired to its actors."""

    def __init__(self, prepared: Prepared, layout: Layout, parts: Parts, folder: Path, display: Display) -> None:
        config = prepared.config
        self._config, self._prepared, self._parts = config, prepared, parts
        self._folder, self._display = folder, display
        self._algorithm = algorithm_of(config.learner, config.filter.keep)
        self._source = PromptSource(prepared.prompts, config.run.seed)
        self._writer = MetricsWriter(folder, folder.name)
        how = {
            "workers_each": config.cluster.tensor_parallel,
            "backend": sync_backend(config, layout),
            "bucket_bytes": config.sync.bucket_mib * 2**20,
        }
        self._publisher = Publisher((parts.ranks, parts.generators), config.sync, how, config.model.dtype)
        self._began = self._step_began = time.monotonic()
        self._updates = self._step = 0

    async def go(self) -> None:
        """Start-up, warm-up, first sync, the loop, and the last checkpoint, whatever ends the loop."""
        config = self._config
        await self._start()
        await self._publish(0)
        self._began = self._step_began = time.monotonic()
        book = self._parts.filter
        stages = Stages(
            admit=partial(call, book, "admit"),
            prompts=self._source.take,
            rollout=self._parts.generators.rollout,
            offer=partial(call, book, "offer"),
            drop=partial(call, book, "drop"),
            take=partial(call, book, "take"),
            train=self._train,
            publish=self._publish,
            report=self._report,
        )
        try:
            await run_loop(stages, config.run.steps)
        except Starved:
            await self._checkpoint(self._step)
            raise
        finally:
            self._writer.close()
            await call(book, "close", self._step + 1)

    async def _start(self) -> None:
        """Engines start while the learner warms up; the first that fails ends the start."""
        self._display.status("starting the generators and the learner")
        generators = list(self._parts.generators.alive.values())
        await asyncio.gather(call_all(generators, "start"), self._start_learner())

    async def _start_learner(self) -> None:
        """Warms the model up, where that is asked for, and loads what the warm-up made."""
        parts, config = self._parts, self._config
        address, port = (await call_all(parts.ranks[:1], "address"))[0]
        await call_all(parts.ranks, "join", address, port)
        start = Path(config.model.path)
        if config.warmup.updates:
            start = await self._warm_up(start)
        total = config.run.steps * config.learner.updates_per_step
        schedule = Schedule(
            lr=config.learner.lr, updates=total, warmup=config.learner.lr_warmup, end=config.learner.lr_end
        )
        parameters = (await call_all(parts.ranks, "load", start, schedule))[0]
        await call_all(parts.ranks, "remember_start")
        self._display.status(f"learner ready: {parameters / 1e6:.3g} million parameters; waiting for the generators")

    async def _warm_up(self, start: Path) -> Path:
        warmup, ranks = self._config.warmup, self._parts.ranks
        schedule = Schedule(lr=warmup.lr, updates=warmup.updates, warmup=warmup.updates // 4, end=warmup.lr_end)
        await call_all(ranks, "load", start, schedule)
        await call_all(ranks, "open_warmup", warmup)
        for done in range(0, warmup.updates, WARMUP_REPORT):
            count = min(WARMUP_REPORT, warmup.updates - done)
            stats: UpdateStats = (await call_all(ranks, "warm_up", count))[0]
            self._display.status(f"warm-up: update {done + count} of {warmup.updates}, loss {stats.loss:.3f}")
        target = self._folder / "warmup"
        await call_all(ranks, "save", target)
        await call_all(ranks, "unload")
        return target

    async def _train(self, batch: AcceptedBatch) -> list[UpdateStats]:
        ranks, learner = self._parts.ranks, self._config.learner
        plans = plan_updates(
            batch.summaries,
            self._algorithm,
            updates=learner.updates_per_step,
            ranks=len(ranks),
            longest=self._config.rollout.max_new_tokens,
        )
        shares = [
            [Share(totals=plan.totals, groups=tuple(batch.boxes[i] for i in plan.ranks[rank])) for plan in plans]
            for rank in range(len(ranks))
        ]
        calls = (call(actor, "train", share) for actor, share in zip(ranks, shares, strict=True))
        stats: list[UpdateStats] = (await asyncio.gather(*calls))[0]
        await call(self._parts.filter, "trained", batch.boxes)
        self._updates += len(stats)
        return stats

    async def _publish(self, version: int) -> SyncReport:
        report = await self._publisher.publish(version, self._prepared.probe)
        await call(self._parts.filter, "publish", version)
        return report

    async def _report(self, done: StepDone) -> None:
        self._step = done.step
        every = self._config.run.checkpoint_every
        if done.step == self._config.run.steps or (every and done.step % every == 0):
            await self._checkpoint(done.step)
        counts, drops, graded = await call(self._parts.filter, "report", done.step)
        now = time.monotonic()
        known = done.seconds_wait + done.seconds_train + done.seconds_sync
        clock = Clock(wall=now - self._began, other=now - self._step_began - known, updates=self._updates)
        self._step_began = now
        metrics = step_metrics(done, FilterReport(counts=counts, drops=drops, graded=graded), clock)
        self._writer.write(metrics)
        self._display.step(metrics)

    async def _checkpoint(self, step: int) -> None:
        await call_all(self._parts.ranks, "save", self._folder / "checkpoints" / f"step-{step}")

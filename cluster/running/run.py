"""One run on actors that are there: its stages, wired to them, and what it leaves behind."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray

from actors.arrow import packed
from actors.data.chooser import Chooser
from actors.data.prompts import PromptSource
from actors.errors import Starved
from actors.filtering.filter import AcceptedBatch, FilterClient
from actors.pool import call, call_all
from actors.types import Order, Prompt, Summary, Times
from cluster.placement.layout import Layout
from cluster.placement.startup import Parts, begin_run, learner_spec, sync_backend
from cluster.preparing.preflight import Prepared
from cluster.reporting.metrics import Clock, FilterReport, step_metrics, where_the_time_went
from cluster.reporting.outputs import MetricsWriter, Progress
from cluster.running.evaluate import Evaluator
from cluster.running.loop import Stages, StepDone, run_loop
from cluster.running.publish import Publisher, SyncReport
from cluster.running.warmup import warm_up
from learner.batches.planning import plan_step
from learner.methods.credit import quantiles
from learner.types import Schedule, UpdateStats

POOL = 2**17  # newest scores among which responses are sorted into quantiles


class Run:
    """A training run from the start of its engines to its last checkpoint."""

    def __init__(
        self, prepared: Prepared, layout: Layout, parts: Parts, folder: Path, display: Progress, name: str = ""
    ) -> None:
        config = prepared.config
        self._config, self._prepared, self._parts = config, prepared, parts
        self._folder, self._display = folder, display
        self._algorithm = config.algorithm
        chooser = Chooser(group_size=config.rollout.group_size) if config.rollout.choose == "likely-mixed" else None
        self._source = PromptSource(prepared.prompts, config.run.seed, chooser=chooser)
        self._writer = MetricsWriter(folder, name or folder.name)
        how = {
            "workers_each": config.cluster.tensor_parallel,
            "backend": sync_backend(config, layout),
            "bucket_bytes": config.sync.bucket_mib * 2**20,
        }
        self._publisher = Publisher((parts.learner, parts.generators), config.sync, how, config.model.dtype)
        self._evaluator = Evaluator(
            pool=parts.generators,
            prompts=prepared.heldout,
            samples=config.eval.samples,
            file=folder / "evals.jsonl",
        )
        self._filter = FilterClient(parts.filter)
        self._pool = np.empty(0)  # scores so far, where responses are sorted into quantiles
        self._began = self._step_began = time.monotonic()
        self._updates = self._step = self._tokens = 0
        self._dealt = 0  # stored groups so far
        self._busy = (0.0, 0.0)  # seconds of generators and of verifiers until the last report
        self._lines: list[dict[str, Any]] = []  # what each step took
        self._shown = False  # whether a person has been told why a response had no verdict

    async def go(self) -> None:
        """Start-up, warm-up, first sync and the loop; a checkpoint at its end, and when the filter starves."""
        await self._start()
        await self._publish(0)
        self._began = self._step_began = time.monotonic()
        if self._prepared.heldout:
            await self._evaluate(0)
        book = self._parts.filter
        stages = Stages(
            admit=partial(call, book, "admit"),
            prompts=self._deal,
            rollout=self._rollout,
            offer=self._filter.offer,
            drop=partial(call, book, "drop"),
            take=self._take,
            train=self._train,
            publish=self._publish,
            report=self._report,
        )
        try:
            await run_loop(stages, self._config.run.steps)
        except Starved:
            await call(book, "report", self._step + 1)
            self._show_failure(self._filter.graded())
            await self._checkpoint(self._step)
            if self._prepared.heldout:
                await self._evaluate(self._step)
            raise
        finally:
            self._writer.close()
            await call(book, "close", self._step + 1)

    # --------------------------------------------------------------------------------------------------- start

    async def _start(self) -> None:
        """Engines start while the learner warms up; the first that fails ends the start."""
        self._display.status("starting the generators and the learner")
        await begin_run(self._parts, self._prepared, self._folder)
        generators = list(self._parts.generators.alive.values())
        judges = [self._parts.judge] if self._parts.judge is not None else []
        await asyncio.gather(call_all([*generators, *judges], "start"), self._start_learner())

    async def _start_learner(self) -> None:
        """Warms the model up, where that is asked for, and loads what the warm-up made."""
        config = self._config
        start = Path(config.model.path)
        if config.warmup.updates:
            start = self._folder / "warmup"
            await warm_up(self._parts, config, start, self._display)
        total = config.run.steps * config.learner.updates_per_step * self._algorithm.passes
        schedule = Schedule(
            lr=config.learner.lr, updates=total, warmup=config.learner.lr_warmup, end=config.learner.lr_end
        )
        parameters = await self._parts.learner.open_training(learner_spec(config), start, schedule)
        self._display.status(f"learner ready: {parameters / 1e6:.3g} million parameters; waiting for the generators")

    # -------------------------------------------------------------------------------------------------- stages

    def _deal(self, count: int) -> list[tuple[Prompt, int]]:
        dealt = self._source.take(count)
        if self._config.rollout.longest_prompts_first:
            dealt.sort(key=lambda row: -row[0].tokens.size)
        return dealt

    async def _rollout(self, order: Order) -> tuple[Summary, Any]:
        """A group from a generator, or from the stored dataset."""
        stored = self._prepared.stored
        draw = random.Random(f"{self._config.run.seed}/stored/{order.group}").random()
        if stored is None or draw >= self._config.data.stored_share:
            summary, group = await self._parts.generators.rollout(order)
            self._source.graded(summary)
            return summary, group
        dealt = replace(stored.deal(self._dealt), id=order.group)
        self._dealt += 1
        return Summary.of(dealt, Times()), ray.put(packed(dealt))

    async def _take(self) -> AcceptedBatch:
        """The next batch, packed on its ranks; nothing is left to do but to train on it."""
        batch = await self._filter.take()
        plan = plan_step(
            batch.summaries,
            self._algorithm,
            updates=self._config.learner.updates_per_step,
            ranks=self._parts.learner.ranks,
            max_new_tokens=self._config.rollout.max_new_tokens,
            control=self._control(batch) if self._prepared.control else None,
            has_span_rewards=self._config.reward.span_weight > 0,
        )
        await self._parts.learner.prepare(plan, batch.groups)
        return batch

    async def _train(self, batch: AcceptedBatch) -> list[UpdateStats]:
        stats = await self._parts.learner.train()
        await call(self._parts.filter, "trained")
        self._updates += len(stats)
        return stats

    def _control(self, batch: AcceptedBatch) -> dict[float, int]:
        """The control token of every score in the batch, by its quantile among all scores so far."""
        scores = np.array([score for summary in batch.summaries for score in summary.scores])
        self._pool = np.concatenate([self._pool, scores])[-POOL:]
        known, tokens = np.unique(scores), self._prepared.control
        found = quantiles(self._pool, known, len(tokens))
        return {float(score): tokens[index] for score, index in zip(known, found, strict=True)}

    async def _publish(self, version: int) -> SyncReport:
        report = await self._publisher.publish(version, self._prepared.probe)
        await call(self._parts.filter, "publish", version)
        return report

    async def _report(self, done: StepDone) -> bool:
        """Metrics, checkpoint, evaluation; whether the budget allows another step."""
        self._step = done.step
        counts, drops = await call(self._parts.filter, "report", done.step)
        graded = self._filter.graded()
        self._tokens += sum(sum(summary.lengths) + summary.extra_tokens for summary in graded)
        self._show_failure(graded)
        last, run = self._is_last(done.step), self._config.run
        if last or (run.checkpoint_every and done.step % run.checkpoint_every == 0):
            await self._checkpoint(done.step)
        every = self._config.eval.every
        accuracy = await self._evaluate(done.step) if every and (last or done.step % every == 0) else None
        busy = await self._busy_seconds()
        now = time.monotonic()
        spent = now - self._step_began
        known = done.seconds_wait + done.seconds_train + done.seconds_sync
        clock = Clock(
            wall=now - self._began,
            other=spent - known,
            step=spent,
            busy_generators=(busy[0] - self._busy[0]) / spent / max(1, self._parts.generators.wanted),
            busy_verifiers=(busy[1] - self._busy[1]) / spent / self._config.cluster.verifiers,
            verifiers=self._config.cluster.verifiers,
            updates=self._updates,
            eval_accuracy=accuracy,
        )
        self._step_began, self._busy = now, busy
        metrics = step_metrics(done, FilterReport(counts=counts, drops=drops, graded=graded), clock)
        if metrics["staleness_max"] > self._config.rollout.max_staleness:
            raise RuntimeError(
                f"step {done.step} trained on tokens {metrics['staleness_max']} versions old, more than "
                f"rollout.max_staleness = {self._config.rollout.max_staleness}: this is a mistake in winnow"
            )
        self._writer.write(metrics)
        self._display.step(metrics)
        self._lines.append({name: value for name, value in metrics.items() if name.startswith("seconds_")})
        if last:
            self._display.say(where_the_time_went(self._lines))
        return not last

    async def _busy_seconds(self) -> tuple[float, float]:
        """Seconds so far in which (generators, verifiers) had work, each summed over all of them."""
        verifiers = [actor for name, actor in self._parts.everyone.items() if name.startswith("verifier-")]
        return self._parts.generators.busy_seconds(), sum(await call_all(verifiers, "busy"))

    def _show_failure(self, graded: Sequence[Summary]) -> None:
        """The first failure of a verifier in full, once; after that the counters tell."""
        failure = next((summary.failure for summary in graded if summary.failure), "")
        if failure and not self._shown:
            self._shown = True
            self._display.say(f"a response has no verdict, and is not trained on. The first reason: {failure}")

    def _is_last(self, step: int) -> bool:
        run, spent = self._config.run, time.monotonic() - self._began
        return (
            step == run.steps
            or (run.tokens > 0 and self._tokens >= run.tokens)
            or (run.seconds > 0 and spent >= run.seconds)
        )

    async def _evaluate(self, step: int) -> float:
        self._display.status(f"evaluating after step {step}")
        return await self._evaluator.run(step, self._tokens, time.monotonic() - self._began)

    async def _checkpoint(self, step: int) -> None:
        await self._parts.learner.save_checkpoint(self._folder / "checkpoints" / f"step-{step}")

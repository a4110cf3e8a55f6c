"""One run on actors that are there: its parts, wired together."""

import asyncio
from dataclasses import replace
from pathlib import Path

from actors.data.chooser import Chooser
from actors.data.source import PromptSource
from actors.errors import BrokenPart, Starved
from actors.filtering.filter import AcceptedBatch
from actors.types import GroupRef, Summary
from cluster.placement.actors import RunActors
from cluster.preparing.preflight import Prepared
from cluster.reporting.logs import LOGGER
from cluster.reporting.metrics import FilterReport
from cluster.reporting.outputs import Progress
from cluster.reporting.steps import SyncReport, TrainedStep
from cluster.running.calendar import Calendar
from cluster.running.evaluate import Evaluator
from cluster.running.feeder import Feeder
from cluster.running.groups import GroupSource
from cluster.running.loop import Stages, run_loop
from cluster.running.publish import Publisher
from cluster.running.replacements import Replacements
from cluster.running.reporter import Reporter, Watched
from cluster.running.specs import filter_spec, learner_spec, sampling_spec, scorer_tasks, training_schedule
from cluster.running.state import Counters, ScoreHistory, StateOwners
from cluster.running.turns import Turns
from cluster.running.warmup import warm_up
from learner.types import MARKER, UpdateStats

CLOSE_SECONDS = 60.0  # for a run that has failed to write what it still holds


class Run:
    """A training run from the start of its engines to its last checkpoint."""

    def __init__(self, prepared: Prepared, actors: RunActors, folder: Path, display: Progress, name: str = "") -> None:
        """`name` is the run's in Ray's metrics; unset, the folder's."""
        config, algorithm = prepared.config, prepared.config.algorithm
        self._prepared, self._config, self._actors = prepared, config, actors
        self._folder, self._display = folder, display
        self.counters = Counters()
        scores = ScoreHistory()
        chooser = Chooser(group_size=config.rollout.group_size) if config.rollout.choose == "likely-mixed" else None
        seed = config.run.seed if config.data.seed is None else config.data.seed
        prompts = PromptSource(prepared.prompts, seed, chooser=chooser, shares=prepared.shares)
        self.feeder = Feeder(
            filter=actors.filter,
            learner=actors.learner,
            algorithm=algorithm,
            updates=config.learner.updates_per_step,
            max_new_tokens=config.rollout.max_new_tokens,
            has_span_rewards=config.reward.span_weight > 0,
            control_tokens=prepared.control,
            scores=scores,
        )
        self.publisher = Publisher(actors.learner, actors.generators, config, actors.backend, display.say)
        self.turns = Turns(actors.learner, self.publisher, config)
        self.replacements = Replacements(
            actors.places,
            actors.generators,
            self.publisher,
            sampling_spec(config),
            display.say,
            silent_seconds=config.cluster.silent_seconds,
            colocated=self.turns.shared,
        )
        watched = Watched(generators=actors.generators, verifiers=lambda: actors.places.verifiers, filter=actors.filter)
        self.reporter = Reporter(config, watched, folder, display, name or folder.name)
        self.groups = GroupSource(
            config=config,
            prompts=prompts,
            filter=actors.filter,
            generators=actors.generators,
            stored=prepared.stored,
            lost=self.reporter.show_lost,
        )
        self.evaluator = Evaluator(
            pool=actors.generators,
            prompts=prepared.heldout,
            samples=config.eval.samples,
            file=folder / "evals.jsonl",
        )
        self.state = StateOwners(
            progress=self,
            scores=scores,
            prompts=prompts,
            stored=prepared.stored,
            filter=actors.filter,
            learner=actors.learner,
        )
        self._calendar = Calendar(config=config)
        self._begun = False  # whether the filter knows of the run
        self._checkpoint: Path | None = None  # the last one, which may still be in the making

    async def go(self) -> None:
        """Start-up, warm-up, first sync and the loop; a checkpoint at its end, and when the filter starves. However it
        ends, every graded group is on disk then."""
        try:
            await self._go()
        except BaseException:
            await self._close_after_failure()
            raise
        await self._close()

    async def _go(self) -> None:
        await self._start()
        await self.replacements.during(self._train())

    async def _train(self) -> None:
        await self.publish(self.counters.step)
        self.reporter.begin()
        if self._prepared.heldout:
            await self._evaluate()
        try:
            await run_loop(self.stages(), self._config.run.steps)
        except Starved:
            self.reporter.show_failure(self._actors.filter.graded())
            self.reporter.say_what_is_wrong()
            await self._save_checkpoint()
            await self._actors.learner.finish_checkpoint()
            if self._prepared.heldout:
                await self._evaluate()
            raise
        await self._actors.learner.finish_checkpoint()

    async def _close(self) -> None:
        self.reporter.close()
        if self._begun:
            await self._actors.filter.close(self.counters.step + 1)

    async def _close_after_failure(self) -> None:
        """Closes what can be closed: nothing that goes wrong here hides why the run ended."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._close()
        except (BrokenPart, OSError, TimeoutError) as failure:
            self._display.say(f"what was not on disk by then is lost: the filter cannot write it: {failure}")
        if self._checkpoint is None or (self._checkpoint / MARKER).is_file():
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._actors.learner.finish_checkpoint()
        except (BrokenPart, TimeoutError):
            self._display.say(f"checkpoint {self._checkpoint} is not whole")

    def stages(self) -> Stages[GroupRef, AcceptedBatch, list[UpdateStats], SyncReport]:
        """What the loop drives in this run."""
        filter = self._actors.filter
        return Stages(
            admit=filter.admit,
            prompts=self.groups.deal,
            rollout=self.groups.rollout,
            offer=self.offer,
            drop=filter.drop,
            take=self.feeder.take,
            train=self.train,
            publish=self.publish,
            report=self.finish_step,
        )

    async def offer(self, summary: Summary, group: GroupRef) -> None:
        """A graded group, to the filter."""
        self.reporter.watch(summary)
        await self._actors.filter.offer(summary, group)

    async def train(self, batch: AcceptedBatch) -> list[UpdateStats]:
        """One step on the batch that the feeder prepared."""
        async with self.publisher.training():
            await self.turns.of_learner()
            stats = await self._actors.learner.train()
            await self.turns.of_engines()
        await self._actors.filter.trained()
        self.counters = replace(self.counters, updates=self.counters.updates + len(stats))
        return stats

    async def publish(self, version: int) -> SyncReport:
        """Brings the learner's weights to all generators, and tells the filter."""
        report = await self.publisher.publish(version, self._prepared.probe)
        await self._actors.filter.publish(version)
        LOGGER.debug(
            "version %d is live: %d bytes in %.2f s, probe gap %.1e",
            version,
            report.size,
            report.seconds,
            report.probe_gap,
        )
        return report

    async def finish_step(self, done: TrainedStep) -> bool:
        """Counts, checkpoint, evaluation and metrics of a step; whether the budget allows another."""
        ledger = await self._actors.filter.report(done.step)
        graded = self._actors.filter.graded()
        tokens = self.counters.tokens + sum(sum(each.lengths) + each.extra_tokens for each in graded)
        self.counters = replace(self.counters, step=done.step, tokens=tokens)
        self.reporter.show_failure(graded)
        last = self._calendar.is_last(done.step, tokens, self.reporter.seconds)
        if self._calendar.saves(done.step, last):
            await self._save_checkpoint()
        accuracy = await self._evaluate() if self._calendar.evaluates(done.step, last) else None
        report = FilterReport(counts=ledger.counts, drops=ledger.drops, graded=graded)
        await self.reporter.step(done, report, self.counters.updates, accuracy)
        if last:
            self.reporter.say_where_the_time_went()
        return not last

    async def _start(self) -> None:
        """Engines start while the learner warms up; the first that fails ends the start. On shared GPUs engines start
        first: what another process takes or frees meanwhile they would count as their own."""
        self._display.status("starting the generators and the learner")
        actors, config = self._actors, self._config
        await actors.learner.join()
        await actors.filter.begin(filter_spec(config, self._folder))
        self._begun = True
        starts = [self.replacements.start(), *(judge.start() for judge in actors.judges)]
        starts += [actors.scorers[task.name].start(task) for task in scorer_tasks(config, list(actors.scorers))]
        if self.turns.shared:
            await asyncio.gather(*starts)
            await self.turns.of_learner()
            await self._start_learner()
            await self.turns.of_engines()
        else:
            await asyncio.gather(*starts, self._start_learner())

    async def _start_learner(self) -> None:
        """Warms the model up, where that is asked for, and loads what the warm-up made."""
        config, learner = self._config, self._actors.learner
        start = Path(config.model.path)
        if config.warmup.updates:
            start = self._folder / "warmup"
            await warm_up(learner, config, start, self._display)
        opened = await learner.open_training(learner_spec(config), start, training_schedule(config))
        for note in opened.notes:
            self._display.say(note)
        millions = f"{opened.parameters / 1e6:.3g} million parameters"
        self._display.status(f"learner ready: {millions}; waiting for the generators")

    async def _evaluate(self) -> float:
        step = self.counters.step
        self._display.status(f"evaluating after step {step}")
        return await self.evaluator.run(step, self.counters.tokens, self.reporter.seconds)

    async def _save_checkpoint(self) -> None:
        folder = self._folder / "checkpoints" / f"step-{self.counters.step}"
        self._checkpoint = folder
        await self._actors.learner.save_checkpoint(folder)
        LOGGER.debug("checkpoint %s", folder)

"""One run on actors that are there: its parts, wired together."""

import asyncio
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from actors.data.chooser import Chooser
from actors.data.source import PromptSource
from actors.errors import BrokenPart, Starved, Stopped
from actors.filtering.filter import AcceptedBatch
from actors.types import GroupRef, Summary
from cluster.config.run_files import EVALUATIONS
from cluster.placement.actors import RunActors
from cluster.preparing.preflight import Prepared
from cluster.reporting.display import Progress
from cluster.reporting.logs import LOGGER
from cluster.reporting.metrics import FilterReport
from cluster.reporting.steps import SyncReport, TrainedStep
from cluster.running.calendar import Calendar
from cluster.running.checkpoints import Checkpoints, complete_checkpoints, step_of
from cluster.running.ending import how_to_go_on
from cluster.running.evaluate import Evaluator
from cluster.running.evaluations import Evaluations
from cluster.running.feeder import Feeder
from cluster.running.groups import GroupSource
from cluster.running.inputs import check_inputs, inputs_of
from cluster.running.loop import Stages, run_loop
from cluster.running.publish import Publisher
from cluster.running.replacements import Replacements
from cluster.running.reporter import Reporter, Watched
from cluster.running.room import Room
from cluster.running.signals import StopRequest, said_at
from cluster.running.specs import filter_spec, learner_spec, sampling_spec, scorer_tasks, training_schedule
from cluster.running.state import Counters, RunState, ScoreHistory, StateOwners
from cluster.running.state_file import read_state
from cluster.running.turns import Turns
from cluster.running.waiting import Waiting
from cluster.running.warmup import warm_up
from learner.types import MARKER, UpdateStats

CLOSE_SECONDS = 60.0  # for a run that has failed to write what it still holds
HURRIED_SECONDS = 5.0  # for one that was asked a second time to end


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """What there is to tell of a step when it has been trained, before anything of the next one is sampled from its
    weights."""

    report: FilterReport
    last: bool  # whether the run ends with it
    state: RunState | None  # where a checkpoint is due


class Run:
    """A training run from the start of its engines to its last checkpoint, or from one of its checkpoints on."""

    def __init__(
        self,
        prepared: Prepared,
        actors: RunActors,
        folder: Path,
        display: Progress,
        name: str = "",
        checkpoint: Path | None = None,
        restarts: int = 0,
    ) -> None:
        """
        Args:
            prepared: the run.
            actors: that it runs on; nothing of another run is in them that this one would notice.
            folder: of the run, where it goes on rewound to the checkpoint (`cluster.running.rewinding.rewind`).
            display: is told how it gets on.
            name: of the run in Ray's metrics; unset, the folder's.
            checkpoint: a complete one of the run, to go on from.
            restarts: of the learner before this one.
        """
        config, algorithm = prepared.config, prepared.config.algorithm
        self._prepared, self._config, self._actors = prepared, config, actors
        self._folder, self._display, self._checkpoint = folder, display, checkpoint
        self.room, self.counters = Room(display.say), Counters()
        self.scores = ScoreHistory()
        seed = config.run.seed if config.data.seed is None else config.data.seed
        chooser = Chooser.of(config.rollout, prepared.prompts)
        prompts = PromptSource(prepared.prompts, seed, chooser, prepared.shares)
        self.feeder = Feeder(
            filter=actors.filter,
            learner=actors.learner,
            algorithm=algorithm,
            updates=config.learner.updates_per_step,
            max_new_tokens=config.rollout.max_new_tokens,
            has_span_rewards=config.reward.span_weight > 0,
            control_tokens=prepared.control,
            scores=self.scores,
            most_siblings=config.most_siblings,
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
        watched = Watched(
            generators=actors.generators,
            verifiers=lambda: actors.places.verifiers,
            filter=actors.filter,
            room=self.room,
        )
        begun_with = step_of(checkpoint) if checkpoint else None
        self.reporter = Reporter(config, watched, folder, display, name or folder.name, begun_with or 0, restarts)
        self.groups = GroupSource(
            config=config,
            prompts=prompts,
            generators=actors.generators,
            stored=prepared.stored,
            lost=self.reporter.show_lost,
            room=self.room,
        )
        self.stop = StopRequest()
        lending = Publisher(
            actors.learner, actors.evaluators, config, actors.backend, display.say, sender=self.publisher.sender
        )
        self.evaluators = Replacements(
            actors.places,
            actors.evaluators,
            lending,
            sampling_spec(config),
            display.say,
            silent_seconds=config.cluster.silent_seconds,
            evaluating=True,
        )
        file = folder / EVALUATIONS
        evaluator = Evaluator(prompts=prepared.heldout, samples=config.eval.samples, file=file, room=self.room)
        self.evaluations = Evaluations(
            evaluator, actors.generators, actors.evaluators, lending, self.reporter, display, self.stop
        )
        self.state = StateOwners(
            progress=self,
            inputs=inputs_of(prepared),
            scores=self.scores,
            prompts=prompts,
            stored=prepared.stored,
            filter=actors.filter,
            learner=actors.learner,
        )
        self.checkpoints = Checkpoints(
            actors.learner, folder, config.run, display.say, begun_with, lambda: self.evaluations.under_way
        )
        self._calendar = Calendar(config=config)
        self._begun = False  # whether the filter knows of the run
        self._end: StepEnd | None = None  # of the step that was trained last
        self._training = False  # whether the learner has weights of a step that is not counted yet

    async def go(self) -> None:
        """Start-up, warm-up, first sync and the loop, or all but the warm-up from a checkpoint on; a checkpoint at its
        end, when the filter starves, and where it is asked to stop. However it ends, every graded group is on disk.

        Raises:
            Stopped: it was asked to stop while it trained.
            CheckpointLost: the last checkpoint could not be written.
        """
        try:
            await self._go()
        except BaseException:
            await self._close_after_failure()
            raise
        await self._close()

    async def _go(self) -> None:
        state = read_state(self._checkpoint) if self._checkpoint is not None else None
        if state is not None:
            check_inputs(state.inputs, self.state.inputs)
        await self._start()
        if state is not None and self._checkpoint is not None:
            await self.state.restore(state, self._checkpoint)
            if self._config.evaluators and (before := self._calendar.evaluated_before(state.counters.step)) > 0:
                self.evaluations.say_missing(before)
        await self.replacements.during(self.evaluators.during(self._train()))

    async def _train(self) -> None:
        """First sync, the loop, the last checkpoint, and what is still being evaluated."""
        step = self.counters.step
        await self.publish(step)
        self.reporter.begin(self.counters.seconds)
        if self._calendar.evaluates(step, last=False):
            await self.evaluations.run(self.counters)
        with self.stop.listening(self._say_stopping):
            try:
                ended = await run_loop(self.stages(), self._config.run.steps, first=self.counters.step + 1)
            except Starved:
                self.reporter.show_failure(self._actors.filter.graded())
                self.reporter.say_what_is_wrong()
                await self.room.wait_for(self.save_now)
                if self._prepared.heldout:
                    await self.evaluations.run(self.counters)
                    await self.evaluations.finish()
                raise
            await self.room.wait_for(self.save_now)
            await self.evaluations.finish()
        if not ended:
            raise Stopped(how_to_go_on(self._folder), self.stop.signal or signal.SIGINT)

    async def save_now(self) -> bool:
        """Writes a checkpoint of the last step that was trained, where there is none yet, and waits until it is
        complete; for a run that ends early. Groups in flight are dealt again when it goes on.

        Returns:
            False where a step is being trained, whose weights nobody knows: the checkpoints before it count.

        Raises:
            CheckpointLost: it could not be written.
        """
        if self._training:
            return False
        await self.reporter.told()
        step = self.counters.step
        if not self.checkpoints.holds(step) and step not in complete_checkpoints(self._folder):
            await self.checkpoints.save(await self.state.save())
        self.checkpoints.complete(self.reporter.seconds)
        await self.checkpoints.finish()
        return True

    async def _close(self) -> None:
        await self.reporter.close()
        if self._begun:
            await self.room.wait_for(partial(self._actors.filter.close, self.counters.step + 1))

    async def _close_after_failure(self) -> None:
        """Closes what can be closed: nothing that goes wrong here hides why the run ended."""
        seconds = HURRIED_SECONDS if self.stop.hurried else CLOSE_SECONDS
        await self.evaluations.close(0.0 if self.stop.hurried else seconds)
        try:
            async with asyncio.timeout(seconds):
                await self._close()
        except (BrokenPart, OSError, TimeoutError) as failure:
            self._display.say(f"what was not on disk by then is lost: the filter cannot write it: {failure}")
        try:
            async with asyncio.timeout(seconds):
                self.checkpoints.complete(self.reporter.seconds)
                await self.checkpoints.settle()
        except (BrokenPart, TimeoutError) as failure:
            self._display.say(f"the checkpoint in the making is not whole: {failure}")

    def stages(self) -> Stages[GroupRef, AcceptedBatch, list[UpdateStats], SyncReport]:
        """What the loop drives in this run."""
        filter = self._actors.filter
        return Stages(
            admit=filter.admit,
            prompts=self.groups.deal,
            dispatched=filter.dispatched,
            rollout=self.groups.rollout,
            offer=self.offer,
            drop=filter.drop,
            take=self.feeder.take,
            train=self.train,
            publish=self.publish,
            report=self.finish_step,
            stop=self.stop.asked,
        )

    async def offer(self, summary: Summary, group: GroupRef) -> None:
        """A graded group, to the filter."""
        self.reporter.watch(summary)
        await self._actors.filter.offer(summary, group)

    async def train(self, batch: AcceptedBatch) -> list[UpdateStats]:
        """One step on the batch that the feeder prepared, and its end."""
        async with self.publisher.training():
            await self.turns.of_learner()
            self._training = True
            self.reporter.doing(f"training on step {self.counters.step + 1}")
            stats = await self._actors.learner.train()
            await self.turns.of_engines()
        await self._actors.filter.trained()
        self.scores.trained()
        self._end = await self._ended_step(len(stats))
        self._training = False
        return stats

    async def _ended_step(self, updates: int) -> StepEnd:
        step, before = self.counters.step + 1, self.counters
        ledger = self._actors.filter.counted()
        graded = sorted(self._actors.filter.graded(), key=lambda summary: summary.id)
        tokens = before.tokens + sum(sum(each.lengths) + each.extra_tokens for each in graded)
        seconds = self.reporter.seconds
        self.counters = Counters(step=step, updates=before.updates + updates, tokens=tokens, seconds=seconds)
        last = self._calendar.is_last(step, tokens, seconds)
        state = await self.state.save() if self._calendar.saves(step, last) else None
        # behind the state, so that a run that goes on from it has every response on disk that the state counts
        await self.room.wait_for(partial(self._actors.filter.close_step, step))
        report = FilterReport(ledger=ledger, graded=graded)
        return StepEnd(report=report, last=last, state=state)

    async def publish(self, version: int) -> SyncReport:
        """Brings the learner's weights to all generators, and tells the filter."""
        self.reporter.doing(f"bringing the weights of step {version} to the generators")
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
        """Checkpoint, evaluation and metrics of a step; whether the run goes on after it. A checkpoint is completed
        when the metrics are there, so that a run that goes on from it has a line for each step."""
        end = self._end
        assert end is not None  # the step has been trained
        self.reporter.show_failure(end.report.graded)
        if end.state is not None:
            self.reporter.doing(f"writing the checkpoint of step {done.step}")
            await self.checkpoints.save(end.state)
        due = self._calendar.evaluates(done.step, end.last)
        accuracy = await self.evaluations.run(self.counters) if due else None
        if end.last:
            await self.evaluations.finish()
        await self.reporter.step(done, end.report, self.counters.updates, accuracy)
        if end.state is not None or end.last:
            await self.reporter.told()
        self.reporter.doing("")
        self.checkpoints.complete(self.reporter.seconds)
        if end.last:
            self.reporter.say_where_the_time_went()
            self.evaluations.say_cost()
        return not end.last

    async def _start(self) -> None:
        """Engines start while the learner warms up; the first that fails ends the start. On shared GPUs engines start
        first: what another process takes or frees meanwhile they would count as their own."""
        actors, config = self._actors, self._config
        engines = (*actors.generators.running, *actors.evaluators.running)
        waiting = Waiting(self._display, "the learner", *engines, *actors.scorers)
        await actors.learner.join()
        await actors.filter.begin(filter_spec(config, self._folder), self._display.say)
        self._begun = True
        starts = [self.replacements.start(waiting.over), self.evaluators.start(waiting.over)]
        starts += [judge.start() for judge in actors.judges]
        for task in scorer_tasks(config, list(actors.scorers)):
            starts.append(waiting.until(task.name, actors.scorers[task.name].start(task)))
        if self.turns.shared:
            await asyncio.gather(*starts)
            await self.turns.of_learner()
            await waiting.until("the learner", self._start_learner())
            await self.turns.of_engines()
        else:
            await asyncio.gather(*starts, waiting.until("the learner", self._start_learner()))

    async def _start_learner(self) -> None:
        """Warms the model up, where that is asked for, and loads what the warm-up made."""
        config, learner = self._config, self._actors.learner
        start = Path(config.model.path)
        if config.warmup.updates:
            start = self._folder / "warmup"
            if not (start / MARKER).is_file():
                await warm_up(learner, config, start, self._display)
        opened = await learner.open_training(learner_spec(config), start, training_schedule(config))
        for note in opened.notes:
            self._display.say(note)
        self._display.say(f"learner ready: {opened.parameters / 1e6:.3g} million parameters")

    def _say_stopping(self, number: signal.Signals) -> None:
        self._display.say(said_at(number, how_to_go_on(self._folder)))
        for step in self.evaluations.under_way:
            self._display.say(f"the evaluation after step {step} is waited for, too")

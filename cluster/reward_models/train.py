"""The training of a reward model from its run file to its last checkpoint: prepares, starts Ray and the learner's
ranks, trains, cleans up. What it leaves lies in a run folder as that of any run: the model in `checkpoints/step-N`,
metrics.jsonl, evals.jsonl, report.html."""

import asyncio
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from actors.disk import append
from actors.errors import BrokenPart, Stopped
from cluster.blocking import run_blocking
from cluster.config.errors import ConfigError
from cluster.config.models import check_folder
from cluster.config.run_config import RunConfig
from cluster.config.run_files import EVALUATIONS, METRICS, REPORT
from cluster.placement.actors import learner_ranks
from cluster.placement.description import bundle_lines
from cluster.placement.session import ray_session, settled
from cluster.preparing.copies import revisions_of
from cluster.preparing.folders import held, make_run_folder
from cluster.preparing.revisions import read_revisions, write_revisions
from cluster.report.at_end import report_at_end
from cluster.reporting.display import Display
from cluster.reporting.logs import log_file
from cluster.reward_models.config import RewardModelConfig
from cluster.reward_models.metrics import agreement_line, update_line
from cluster.reward_models.preparing import ENDS, READERS, PreparedRewardModel, prepare_reward_model
from cluster.reward_models.resume import (
    Continuation,
    complete_models,
    find_continuation,
    how_to_go_on,
    write_inputs,
)
from cluster.running.checkpoints import CheckpointLost, checkpoint_of, seal, step_of
from cluster.running.inputs import check_inputs
from cluster.running.rewinding import rewind
from cluster.running.signals import StopRequest, said_at
from cluster.running.specs import learner_spec, training_schedule
from learner.client import LearnerClient
from learner.reward_models.types import RewardModelKind
from learner.types import MARKER


def train_reward_model(config: RewardModelConfig) -> Path:
    """Trains a reward model to its end and gives the run folder.

    Raises:
        ConfigError: the run cannot start.
        Stopped: it was asked to stop; a checkpoint was written.
        BrokenPart: a part of the run failed.
        OSError: a file cannot be written.

    Of all but the first, and of a KeyboardInterrupt, the message or a note says what there is to go on from.
    """
    folder = make_run_folder(config.run.name, Path(config.run.folder))
    try:
        with _running_in(folder, config) as display:
            _train_in(folder, config, display)
    except ConfigError:
        shutil.rmtree(folder)  # nothing has run
        raise
    return folder


def resume_reward_model(run: Path, overrides: Sequence[str] = ()) -> Path:
    """Goes on from the newest complete checkpoint, to the end, and gives the run folder. What the folder holds of later
    steps is moved to `undone/K` in it.

    Args:
        run: the run's folder, or the checkpoint in it to go on from.
        overrides: `section.key=value`, settings that change, such as run.steps.

    Raises:
        ConfigError: the run cannot go on; nothing was changed.
        Stopped, BrokenPart, OSError: as of `train_reward_model`.
    """
    found = find_continuation(run, overrides)
    with _running_in(found.folder, found.config) as display:
        for change in found.changed:
            display.say(f"changed: {change.line}")
        if found.is_over:
            display.say(
                f"nothing is left to do: {found.checkpoint} has the {found.config.run.steps} steps of run.steps. To "
                "train on, set run.steps=N"
            )
            return found.folder
        display.say(f"going on from {found.checkpoint}")
        _train_in(found.folder, found.config, display, found)
    return found.folder


@contextmanager
def _running_in(folder: Path, config: RewardModelConfig) -> Iterator[Display]:
    """Holds a run folder; of whatever ends the run early a note says what there is to go on from."""
    with held(folder), log_file(folder), Display(config.run.steps) as display:
        try:
            yield display
        except (BrokenPart, OSError, KeyboardInterrupt) as end:
            end.add_note(how_to_go_on(folder))
            raise


def _train_in(folder: Path, config: RewardModelConfig, display: Display, going_on: Continuation | None = None) -> None:
    display.say(f"run folder: {folder}")
    display.status("reading the model's config, the tokenizer and the data")
    found = prepare_reward_model(config, display.say, read_revisions(folder))
    write_revisions(folder, revisions_of(found.prepared.copies))
    if going_on is None:
        config.write(folder)
    display.say("\n".join(found.about))
    prepared = replace(found.prepared, folder=folder)
    display.status("starting Ray")
    with report_at_end(folder), ray_session(prepared.config, folder) as (layout, dashboard, until):
        prepared = settled(prepared, layout)
        inputs = found.inputs(prepared.config)
        if going_on is not None:
            check_inputs(going_on.inputs, inputs)
        display.say("\n".join(["the learner alone:", *bundle_lines(layout)]))
        display.say(f"Ray dashboard: http://{dashboard}")
        with learner_ranks(prepared, layout, folder.name, until) as learner:
            if going_on is not None:
                config.write(folder)
                if undone := rewind(folder, step_of(going_on.checkpoint)):
                    display.say(f"what the run had done after its checkpoint is in {undone}")
            write_inputs(folder, inputs)
            run = _RewardModelRun(learner, config, prepared.config, found, folder, display)
            run_blocking(run.go(going_on.checkpoint if going_on else None))


@dataclass(frozen=True, slots=True)
class _RewardModelRun:
    """One training on ranks that are there."""

    learner: LearnerClient
    config: RewardModelConfig
    run: RunConfig  # settled
    found: PreparedRewardModel
    folder: Path
    display: Display

    async def go(self, checkpoint: Path | None) -> None:
        """From the start, or from a checkpoint, to the last step."""
        done = step_of(checkpoint) if checkpoint else 0
        await self._open(checkpoint, done)
        stop, began = StopRequest(), time.monotonic()
        with stop.listening(lambda signal: self.display.say(said_at(signal, f"what is complete is in {self.folder}"))):
            if not done:
                await self._evaluate(0)
            for step in range(done + 1, self.config.run.steps + 1):
                await self._update(step, began)
                last = step == self.config.run.steps or stop.asked.is_set()
                if self._is_due(step, self.config.eval.every) or (last and self.config.eval.every):
                    await self._evaluate(step)
                if self._is_due(step, self.config.run.checkpoint_every) or last:
                    await self._save(step, last=last)
                if stop.signal is not None and step < self.config.run.steps:
                    raise Stopped(how_to_go_on(self.folder), stop.signal)

    async def _open(self, checkpoint: Path | None, done: int) -> None:
        self.display.status("starting the learner")
        await self.learner.join()
        run, task = self.run, self.found.task
        opened = await self.learner.open_reward_model(
            learner_spec(run), Path(run.model.path), training_schedule(run), task
        )
        self.display.say(
            "\n".join(
                [
                    f"{READERS[task.kind]}: a reward model of {opened.parameters / 1e6:.3g} million parameters in "
                    f"{run.model.settled_dtype}, {task.batch} rows an update",
                    *opened.notes,
                ]
            )
        )
        if checkpoint is not None:
            await self.learner.restore_reward_model(checkpoint, done)

    async def _update(self, step: int, began: float) -> None:
        started = time.monotonic()
        stats = await self.learner.update_reward_model()
        now = time.monotonic()
        append(self.folder / METRICS, json.dumps(update_line(step, stats, now - started, now - began)))
        agreement = stats.agreement
        self.display.advance(
            "updates", step, self.config.run.steps, f"loss {agreement.loss:.3f}, agreement {agreement.accuracy:.3f}"
        )

    async def _evaluate(self, step: int) -> None:
        """Held-out rows, where there are any."""
        if not self.config.eval.every:
            return
        agreement = await self.learner.evaluate_reward_model()
        append(self.folder / EVALUATIONS, json.dumps({"step": step, **agreement_line(agreement)}))
        what = "pairs" if self.found.task.kind is RewardModelKind.OUTCOME else "steps"
        self.display.say(
            f"step {step}: of the held-out {what} {agreement.accuracy:.1%} are judged right, loss {agreement.loss:.3f}"
        )

    async def _save(self, step: int, *, last: bool) -> None:
        """A checkpoint. One that cannot be written is said, and ends the run where it is the last."""
        folder = checkpoint_of(self.folder, step)
        await self.learner.save_checkpoint(folder)
        written = await self.learner.finish_checkpoint()
        if problem := written.problem or await asyncio.to_thread(seal, folder, written.files):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            problem = f"{folder} could not be written: {problem}"
            if last:
                raise CheckpointLost(f"the last checkpoint of the run is lost: {problem}")
            self.display.say(f"{problem}. Training goes on, and the next one is tried when it is due")
        for old in complete_models(self.folder)[self.config.run.keep_checkpoints :]:
            (old / MARKER).unlink()  # first, so that a removal that is cut short leaves none that looks complete
            shutil.rmtree(old)

    def _is_due(self, step: int, every: int) -> bool:
        return every > 0 and step % every == 0


def where_to_look(folder: Path, config: RewardModelConfig) -> str:
    """What a person is told at the end of a run."""
    newest = complete_models(folder)[0]  # the run has ended well
    (architecture,) = check_folder(newest)["architectures"]
    reads = next(setting for kind, setting in READERS.items() if architecture.endswith(ENDS[kind]))
    return "\n".join(
        [
            f"done: {folder}",
            f"  the model     {newest} ({reads}.path; winnow eval --reward-model {newest} FILE)",
            f"  the report    {folder / REPORT}",
            f"  metrics       {folder / METRICS}" + (f", {folder / EVALUATIONS}" if config.eval.every else ""),
        ]
    )

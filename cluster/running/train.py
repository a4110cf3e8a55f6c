"""A training run from its run file to its last checkpoint: prepares, starts Ray and the actors, runs, cleans up."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from actors.garbage import collecting_seldom
from cluster.blocking import run_blocking
from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.placement.actors import running_actors
from cluster.placement.description import describe
from cluster.placement.session import ray_session, settled_on_cluster
from cluster.preparing.copies import revisions_of
from cluster.preparing.folders import held, make_run_folder, write_config
from cluster.preparing.preflight import prepare
from cluster.preparing.revisions import read_revisions, write_revisions
from cluster.preparing.storage import base_of
from cluster.preparing.world import write_world
from cluster.report.at_end import report_at_end
from cluster.reporting.display import Display
from cluster.reporting.logs import log_file
from cluster.running.attempts import BEFORE_ALL, run_to_end
from cluster.running.checkpoints import step_of
from cluster.running.ending import telling_how_to_go_on
from cluster.running.inputs import check_inputs, inputs_of
from cluster.running.left import left_at_end
from cluster.running.mirror import is_taken, mirrored
from cluster.running.resume import Continuation, find_continuation, find_started
from cluster.running.rewinding import rewind
from cluster.running.state_file import read_state


def train(config: RunConfig) -> Path:
    """Runs a training to its end and gives the run folder; also where an event loop is running, as in a notebook.

    Raises:
        ConfigError: the run cannot start.
        Starved: the filter's patience was spent; a checkpoint was written.
        Stopped: it was asked to stop while it trained; a checkpoint was written.
        BrokenPart: a part of the run failed.
        OSError: a file cannot be written.

    Of all of them, and of a KeyboardInterrupt, the message or a note says what there is to go on from.
    """
    return _train_new(config, make_run_folder(config.run.name, base_of(config.run), partial(is_taken, config.run)))


def _train_new(config: RunConfig, folder: Path) -> Path:
    try:
        with held(folder), log_file(folder), telling_how_to_go_on(folder), Display(config.run.steps) as display:
            _train_in(folder, config, display)
    except ConfigError:
        shutil.rmtree(folder)  # nothing has run: only what a built-in world wrote is in it
        raise
    return folder


def resume(run: Path, overrides: Sequence[str] = ()) -> Path:
    """Has a run go on from its newest complete checkpoint, to its end; gives the run folder. What the folder holds of
    later steps is moved to `undone/K` in it.

    Args:
        run: the run's folder, or the checkpoint in it to go on from.
        overrides: `section.key=value`, settings that change.

    Raises:
        ConfigError: the run cannot go on; nothing was changed.
        Starved, Stopped, BrokenPart, OSError: as of `train`.
    """
    return _go_on(find_continuation(run, overrides))


def train_or_resume(config: RunConfig) -> Path:
    """As `resume` where the run of exactly this name has a complete checkpoint, else as `train` in the folder of this
    name: the same call, made again after whatever ended the last one, brings the run to its end. What a run left that
    had no checkpoint is moved to `undone/K`.

    Raises:
        ConfigError, Starved, Stopped, BrokenPart, OSError: as of `train` and `resume`.
    """
    folder, found = find_started(config)
    if found is not None:
        return _go_on(found)
    if not folder.exists():
        return _train_new(config, make_run_folder(config.run.name, base_of(config.run)))
    with held(folder), log_file(folder), telling_how_to_go_on(folder), Display(config.run.steps) as display:
        if undone := rewind(folder, BEFORE_ALL):
            display.say(f"no checkpoint is complete: the run begins anew. What it had done is in {undone}")
        shutil.rmtree(folder / "warmup", ignore_errors=True)  # settings may be others now
        _train_in(folder, config, display)
    return folder


def _go_on(found: Continuation) -> Path:
    folder, step = found.folder, found.counters.step
    with held(folder), log_file(folder), telling_how_to_go_on(folder), Display(found.config.run.steps) as display:
        display.say(f"run folder: {folder}")
        for change in found.changed:
            display.say(f"changed: {change.line}")
        if found.is_over:
            display.say(
                f"nothing is left to do: the run has trained {step} steps, as it should (run.steps = "
                f"{found.config.run.steps}, run.tokens = {found.config.run.tokens}, run.seconds = "
                f"{found.config.run.seconds:g}). To train on, set run.steps=N"
            )
            with mirrored(folder, found.config.run, display.say) as mirror:
                mirror()  # what could not be brought when the run ended
            return folder
        display.say(f"going on from {found.checkpoint}")
        _train_in(folder, found.config, display, found.checkpoint)
    return folder


def _train_in(folder: Path, config: RunConfig, display: Display, checkpoint: Path | None = None) -> None:
    if checkpoint is None:
        display.say(f"run folder: {folder}")
    config = write_world(config, folder, anew=checkpoint is None)
    display.status("reading the model's config, the tokenizer and the data")
    prepared = replace(prepare(config, say=display.say, revisions=read_revisions(folder)), folder=folder)
    write_revisions(folder, revisions_of(prepared.copies))
    if checkpoint is None:
        write_config(config, folder)
    display.status("starting Ray")
    with (
        mirrored(folder, config.run, display.say) as mirror,
        report_at_end(folder),
        left_at_end(folder, display.say),
        ray_session(config, folder) as (layout, dashboard, until),
    ):
        prepared = settled_on_cluster(prepared, layout)
        if checkpoint is not None:
            check_inputs(read_state(checkpoint).inputs, inputs_of(prepared))
        display.say(describe(prepared, layout))
        display.say(f"Ray dashboard: http://{dashboard}")
        display.status("starting the processes of the actors")
        with running_actors(prepared, layout, folder.name, until) as actors:
            if checkpoint is not None:
                write_config(config, folder)
                if undone := rewind(folder, step_of(checkpoint)):
                    display.say(f"what the run had done after its checkpoint is in {undone}")
            mirror()
            with collecting_seldom():
                run_blocking(run_to_end(prepared, actors, folder, display, checkpoint))

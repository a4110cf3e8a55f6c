"""What there is to find out before a run goes on: its folder, its checkpoint, what changed, what is left to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.config.addresses import is_address
from cluster.config.changes import Change, changes
from cluster.config.errors import ConfigError
from cluster.config.reading import load_run
from cluster.config.run_config import RunConfig
from cluster.config.run_files import CHECKPOINTS, LOCK
from cluster.preparing.storage import base_of, below
from cluster.reporting.terminal import say
from cluster.running.calendar import Calendar
from cluster.running.checkpoints import check_whole, is_complete, newest_checkpoint, step_of
from cluster.running.mirror import bring_begun
from cluster.running.state import Counters
from cluster.running.state_file import read_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """A run that can go on."""

    folder: Path
    checkpoint: Path  # complete
    config: RunConfig  # with what has changed
    changed: tuple[Change, ...]
    counters: Counters  # how far it is

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        done = self.counters
        return Calendar(config=self.config).is_over(done.step, done.tokens, done.seconds)


def find_continuation(run: Path, overrides: Sequence[str] = ()) -> Continuation:
    """How a run goes on.

    Args:
        run: its folder, or one of its checkpoints.
        overrides: `section.key=value`, settings that change.

    Raises:
        ConfigError: there is no such run or no complete checkpoint, or a setting cannot change.
    """
    folder, checkpoint = _found(run)
    return _continuation(folder, checkpoint, *load_run(folder, overrides))


def find_started(config: RunConfig) -> tuple[Path, Continuation | None]:
    """The folder of the run with exactly this name, which may not be there yet, and how it goes on from its newest
    checkpoint, where one is complete.

    Raises:
        ConfigError: a setting is another one than the run was started with, and cannot change; or the folder is no
            run's.
    """
    if is_address(config.run.folder):
        bring_begun(below(config.run.folder, config.run.name), say)
    folder = (base_of(config.run) / config.run.name).resolve()
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        if folder.exists() and not (folder / LOCK).is_file():
            raise ConfigError(f"{folder} is there, and not the folder of a run: choose another run.name or run.folder")
        return folder, None
    return folder, _continuation(folder, checkpoint, load_run(folder)[0], config)


def _continuation(folder: Path, checkpoint: Path, before: RunConfig, now: RunConfig) -> Continuation:
    changed = changes(before, now)
    if refused := [change for change in changed if not change.allowed]:
        raise ConfigError(
            "\n".join(change.refusal for change in refused)
            + f"\nstart a new run for that; to begin with what this one has learned, set model.path={checkpoint}"
        )
    check_whole(checkpoint)
    return Continuation(
        folder=folder,
        checkpoint=checkpoint,
        config=now,
        changed=tuple(changed),
        counters=read_state(checkpoint).counters,
    )


def _found(run: Path) -> tuple[Path, Path]:
    """(run folder, checkpoint) of either."""
    run = run.resolve()
    if step_of(run) >= 0 and run.parent.name == CHECKPOINTS:
        if not is_complete(run):
            raise ConfigError(
                f"{run} is not a complete checkpoint to go on from: name another one, or the run folder "
                f"{run.parent.parent}, whose newest complete one is taken"
            )
        return run.parent.parent, run
    if not run.is_dir():
        raise ConfigError(f"--resume takes the folder of a run, or one of its checkpoints, and there is no {run}")
    checkpoint = newest_checkpoint(run)
    if checkpoint is None:
        there = (run / CHECKPOINTS).is_dir() and any((run / CHECKPOINTS).iterdir())
        why = "none of its checkpoints is complete, with its folder `state`" if there else "it holds no checkpoint"
        raise ConfigError(f"the run in {run} cannot go on: {why}. Start it anew from its run file")
    return run, checkpoint

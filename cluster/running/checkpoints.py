"""The checkpoints of a run: `checkpoints/step-N` in its folder. Each is written while training goes on, is complete
when its marker, written last, is there, and goes again when newer ones are complete.

What a run needs to go on from one stands in its folder `state`: what the learner's ranks wrote
(`learner/session.py`), and what the run itself remembers (`cluster/running/state_file.py`).
"""

import asyncio
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

from actors.errors import BrokenPart
from cluster.config.errors import ConfigError
from cluster.config.run_files import CHECKPOINTS, EVALUATIONS
from cluster.config.sections import RunSettings
from cluster.reporting.logs import LOGGER
from cluster.running.evaluate import read_evaluations
from cluster.running.state import RunState
from cluster.running.state_file import RUN, write_state
from learner.client import Learner
from learner.types import MARKER, STATE
from learner.writing import mark_complete, not_whole, on_disk

GIB = 2**30


class CheckpointLost(BrokenPart):
    """The last checkpoint of a run could not be written: what was trained after the one before it is not on disk."""


class Checkpoints:
    """Writes the checkpoints of a run, one at a time, and removes those that are no longer kept.

    Order of calls: `save`, then `complete` when all that the run has to say of its step is on disk too, any number of
    times; `finish` at the end. A checkpoint that cannot be written, be it that the disk is full, is said and ends no
    run: the ones before it are kept, and the next is tried when it is due.
    """

    def __init__(
        self,
        learner: Learner,
        run_folder: Path,
        settings: RunSettings,
        say: Callable[[str], None],
        begun_with: int | None = None,
        evaluating: Callable[[], Collection[int]] = tuple,
    ) -> None:
        """
        Args:
            learner: whose ranks write.
            run_folder: in which checkpoints are.
            settings: how many are kept.
            say: tells the person something.
            begun_with: the step of the checkpoint that the run goes on from.
            evaluating: gives the steps whose weights are being evaluated: one of them may turn out the best.
        """
        self._learner, self._run_folder, self._settings, self._say = learner, run_folder, settings, say
        self._evaluating = evaluating
        self._pending: tuple[Path, RunState] | None = None  # copied, and not yet to be completed
        self._completing: asyncio.Task[None] | None = None
        self._problem = ""  # why the last one could not be written
        self._saved = begun_with  # step of the last one that is complete, or about to be

    def holds(self, step: int) -> bool:
        """Whether the checkpoint of this step is there, or on its way."""
        return self._saved == step

    async def save(self, state: RunState) -> None:
        """Begins the checkpoint of a state, whose weights the learner has now; one that is still being written is
        waited for. Returns when all is copied: training may go on."""
        await self.settle()
        folder = checkpoint_of(self._run_folder, state.counters.step)
        try:
            await asyncio.to_thread(_remove, folder)
        except OSError as failure:
            self._fail(folder, str(failure))
            return
        await self._learner.save_checkpoint(folder)
        self._pending, self._saved = (folder, state), state.counters.step

    def complete(self, seconds: float) -> None:
        """Has the checkpoint that was saved last completed when all its parts are on disk, and returns at once.

        Args:
            seconds: of training, by the run's clock.
        """
        if self._pending is not None:
            self._completing = asyncio.create_task(self._complete(*self._pending, seconds))
            self._pending = None

    async def finish(self) -> None:
        """Waits until the last checkpoint is complete.

        Raises:
            CheckpointLost: it could not be written.
        """
        await self.settle()
        if self._problem:
            raise CheckpointLost(f"the last checkpoint of the run is lost: {self._problem}")

    async def settle(self) -> None:
        """Waits until no checkpoint is in the making; what went wrong with one has been said."""
        if self._completing is not None:
            await asyncio.shield(self._completing)  # whoever gives up waiting does not give up the checkpoint
            self._completing = None

    async def _complete(self, folder: Path, state: RunState, seconds: float) -> None:
        written = await self._learner.finish_checkpoint()
        problem = written.problem
        if not problem:
            write = partial(write_state, state.after(seconds))
            problem = await asyncio.to_thread(seal, folder, written.files, write)
        if problem:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            self._fail(folder, problem)
            return
        self._problem = ""
        LOGGER.debug("checkpoint %s is complete", folder)
        try:
            await asyncio.to_thread(prune, self._run_folder, self._settings.keep_checkpoints, self._evaluating())
        except OSError as failure:
            self._say(f"an old checkpoint cannot be removed: {failure}")

    def _fail(self, folder: Path, problem: str) -> None:
        self._problem, self._saved = f"{folder} could not be written: {problem}{_room(self._run_folder)}", None
        self._say(
            f"{self._problem}. Training goes on, the checkpoints before it are kept, and the next one is tried when it "
            "is due (run.checkpoint_every)"
        )


def checkpoint_of(run_folder: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return run_folder / CHECKPOINTS / f"step-{step}"


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint's folder; -1 where it is something else."""
    name, _, number = checkpoint.name.partition("-")
    return int(number) if name == "step" and number.isdecimal() else -1


def complete_checkpoints(run_folder: Path) -> dict[int, Path]:
    """step -> checkpoint that a run can go on from, the oldest first."""
    folders = {step_of(path): path for path in (run_folder / CHECKPOINTS).glob("step-*")}
    return {step: folders[step] for step in sorted(folders) if step >= 0 and is_complete(folders[step])}


def is_complete(checkpoint: Path) -> bool:
    """Whether a run can go on from a checkpoint: it is whole, and holds more than weights."""
    return (checkpoint / MARKER).is_file() and (checkpoint / STATE / RUN).is_file()


def newest_checkpoint(run_folder: Path) -> Path | None:
    """The newest checkpoint that a run can go on from, if there is one."""
    return next(reversed(complete_checkpoints(run_folder).values()), None)


def check_whole(checkpoint: Path) -> None:
    """Whether what a run needs to go on from a complete checkpoint is still as it was written.

    Raises:
        ConfigError: it is not; the message says which file.
    """
    try:
        problem = not_whole(checkpoint)
    except (OSError, ValueError) as failure:
        problem = f"{checkpoint / MARKER} cannot be read: {failure}"
    if problem:
        raise ConfigError(
            f"{problem}. Go on from an earlier checkpoint, by its folder, where there is one; or start a new run"
        )


def prune(run_folder: Path, newest: int, also: Collection[int] = ()) -> None:
    """Removes all checkpoints but the newest ones that are complete, the best by evaluation, and those of the steps
    `also`. None may be in the making.

    Raises:
        OSError: one cannot be removed.
    """
    complete = complete_checkpoints(run_folder)
    kept = {*list(complete)[-newest:], *also}
    if (best := best_step(complete, run_folder / EVALUATIONS)) is not None:
        kept.add(best)
    for path in (run_folder / CHECKPOINTS).glob("step-*"):
        if step_of(path) not in kept and (step_of(path) in complete or not (path / MARKER).exists()):
            _remove(path)


def best_step(steps: Mapping[int, object], evaluations: Path) -> int | None:
    """The one of these steps after which the run was most accurate, the first of equals; None where none was
    evaluated."""
    lines = read_evaluations(evaluations)
    accuracy = {step: float(line["accuracy"]) for step, line in lines.items() if step in steps}
    return max(accuracy, key=lambda step: (accuracy[step], -step), default=None)


def _nothing(folder: Path) -> Iterable[Path]:
    return ()


def seal(folder: Path, files: Mapping[str, int], write: Callable[[Path], Iterable[Path]] = _nothing) -> str:
    """Completes a checkpoint; why it cannot, "" where it can.

    Args:
        folder: the checkpoint.
        files: that learner ranks have written, and their bytes.
        write: writes what the run itself remembers, and names the files.
    """
    try:
        for name, size in files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != size:
                return (
                    f"{name} is not as a learner rank wrote it: all nodes must have the run folder (run.folder) on one "
                    "file system that they share"
                )
        for path in write(folder):
            on_disk(path)
        on_disk(folder / STATE)
        mark_complete(folder, {name: size for name, size in files.items() if Path(name).parts[0] == STATE})
        on_disk(folder.parent)
    except OSError as failure:
        return str(failure)
    return ""


def _remove(checkpoint: Path) -> None:
    """Removes a checkpoint, its marker first: a removal that is cut short leaves none that looks complete."""
    (checkpoint / MARKER).unlink(missing_ok=True)
    if checkpoint.exists():
        shutil.rmtree(checkpoint)


def _room(folder: Path) -> str:
    try:
        return f" ({shutil.disk_usage(folder).free / GIB:.3g} GiB are free there)"
    except OSError:
        return ""

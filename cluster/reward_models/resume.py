"""What there is to find out before the training of a reward model goes on: its folder, its checkpoint, what changed."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.config.changes import Change, changes
from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG, load_settings
from cluster.config.run_files import CHECKPOINTS, REWARD_MODEL
from cluster.reward_models.config import RewardModelConfig
from cluster.running.checkpoints import check_whole, step_of
from cluster.running.state import RunInputs
from learner.types import MARKER


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """A training that can go on."""

    folder: Path
    checkpoint: Path  # complete
    config: RewardModelConfig  # with what has changed
    changed: tuple[Change, ...]
    inputs: RunInputs  # that it began with

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return step_of(self.checkpoint) >= self.config.run.steps


def find_continuation(run: Path, overrides: Sequence[str] = ()) -> Continuation:
    """How the training of a reward model goes on.

    Args:
        run: its folder, whose newest complete checkpoint is taken, or one of its checkpoints.
        overrides: `section.key=value`, settings that change.

    Raises:
        ConfigError: there is no such run or no complete checkpoint, or a setting cannot change.
    """
    folder, checkpoint = _found(run.resolve())
    before = load_settings(RewardModelConfig, folder / CONFIG)
    now = load_settings(RewardModelConfig, folder / CONFIG, overrides)
    changed = changes(before, now)
    if refused := [change.refusal for change in changed if not change.allowed]:
        raise ConfigError(
            "\n".join(refused)
            + f"\nstart a new run for that; to begin with what this one has learned, set model.path={checkpoint}"
        )
    check_whole(checkpoint)
    return Continuation(
        folder=folder, checkpoint=checkpoint, config=now, changed=tuple(changed), inputs=_read_inputs(folder)
    )


def complete_models(folder: Path) -> list[Path]:
    """The complete checkpoints of a run folder, the newest first."""
    found = [path for path in (folder / CHECKPOINTS).glob("step-*") if (path / MARKER).is_file()]
    return sorted(found, key=step_of, reverse=True)


def how_to_go_on(folder: Path) -> str:
    """Which checkpoint of a run folder is the newest complete one, and the command that goes on from it: a sentence
    that begins with a small letter and has no full stop."""
    if not (complete := complete_models(folder)):
        return "no checkpoint is complete, so there is nothing to go on from"
    command = f"winnow reward-model --resume {shlex.quote(str(folder))}"
    return f"the checkpoint {complete[0]} is complete; what goes on from it: {command}"


def write_inputs(folder: Path, inputs: RunInputs) -> None:
    """Notes in the run folder what the training began with."""
    (folder / REWARD_MODEL).write_text(json.dumps(asdict(inputs), indent=1) + "\n", encoding="utf-8")


def _read_inputs(folder: Path) -> RunInputs:
    try:
        return RunInputs(**json.loads((folder / REWARD_MODEL).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as failure:
        raise ConfigError(f"{folder / REWARD_MODEL} is damaged: {failure}. Begin a new run") from failure


def _found(run: Path) -> tuple[Path, Path]:
    """(run folder, checkpoint) of either."""
    named = step_of(run) >= 0 and run.parent.name == CHECKPOINTS
    folder = run.parent.parent if named else run
    if not (folder / CONFIG).is_file() or not (folder / REWARD_MODEL).is_file():
        raise ConfigError(
            f"{folder} is not the folder of a reward model's training: it lacks {CONFIG} or {REWARD_MODEL}. Runs of "
            "another kind go on by winnow train --resume"
        )
    complete = complete_models(folder)
    if named and run not in complete:
        raise ConfigError(
            f"{run} is not a complete checkpoint to go on from: name another one, or the run folder {folder}, whose "
            "newest complete one is taken"
        )
    if not complete:
        raise ConfigError(f"no checkpoint in {folder} is complete, so there is nothing to go on from: begin anew")
    return folder, run if named else complete[0]

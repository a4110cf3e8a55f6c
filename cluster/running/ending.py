"""What a person is told at the end of a run that has not reached its last step."""

from pathlib import Path

from learner.types import MARKER


def how_to_go_on(folder: Path) -> str:
    """Which checkpoint of a run folder is the newest complete one, and the command that goes on from it: a sentence
    that begins with a small letter and has no full stop."""
    steps = {int(path.name.removeprefix("step-")): path for path in folder.glob("checkpoints/step-*")}
    whole = [path for _, path in sorted(steps.items()) if (path / MARKER).is_file()]
    if not whole:
        return "no checkpoint is complete, so there is nothing to go on from"
    return f"the checkpoint {whole[-1]} is complete; what goes on from it: winnow train --resume {folder}"

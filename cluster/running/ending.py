"""What a person is told at the end of a run that has not reached its last step."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.errors import BrokenPart, Starved
from cluster.running.checkpoints import newest_checkpoint
from cluster.running.signals import JOB


def how_to_go_on(folder: Path) -> str:
    """Which checkpoint of a run folder is the newest complete one, and the command that goes on from it: a sentence
    that begins with a small letter and has no full stop."""
    newest = newest_checkpoint(folder)
    if newest is None:
        return "no checkpoint is complete, so there is nothing to go on from"
    command = f"winnow {'submit' if JOB in os.environ else 'train'} --resume {shlex.quote(str(folder))}"
    return f"the checkpoint {newest} is complete; what goes on from it: {command}"


@contextmanager
def telling_how_to_go_on(folder: Path) -> Iterator[None]:
    """Adds to whatever ends a run early, as a note, what there is to go on from."""
    try:
        yield
    except (BrokenPart, Starved, OSError, KeyboardInterrupt) as end:
        end.add_note(how_to_go_on(folder))
        raise

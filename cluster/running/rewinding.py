"""Brings a run folder back to a step, so that the run goes on from there as if it had ended with it."""

import json
from pathlib import Path

from cluster.config.run_files import CHECKPOINTS, EVALUATIONS, METRICS, TRAJECTORIES
from cluster.running.checkpoints import step_of

UNDONE = "undone"


def rewind(run_folder: Path, step: int) -> Path | None:
    """Moves what the folder holds of later steps to `undone/K` in it, under the names that it had: lines of metrics
    and evaluations, trajectories, checkpoints. What was written is kept, and nothing counts twice.

    A rewinding that was cut short is taken up by the next one.

    Args:
        run_folder: of a run that is not going on.
        step: of the checkpoint that it goes on from.

    Returns:
        the folder `undone/K`; None where there was nothing to undo.
    """
    number = 1
    while (run_folder / UNDONE / str(number)).exists():
        number += 1
    undone = run_folder / UNDONE / str(number)
    for name in (METRICS, EVALUATIONS):
        _cut(run_folder / name, step, undone / name)
    for name in (TRAJECTORIES, CHECKPOINTS):
        for path in sorted((run_folder / name).glob("step-*")):
            if step_of(path) > step:
                (undone / name).mkdir(parents=True, exist_ok=True)
                path.rename(undone / name / path.name)
    return undone if undone.exists() else None


def _cut(file: Path, step: int, undone: Path) -> None:
    """Leaves the lines up to a step in a file, and puts the others, with one that was cut short, into another."""
    if not file.is_file():
        return
    lines = file.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _step_in(line) <= step]
    if len(kept) == len(lines):
        return
    undone.parent.mkdir(parents=True, exist_ok=True)
    undone.write_bytes(b"".join(line for line in lines if _step_in(line) > step))
    scratch = file.with_name(f"{file.name}.rewound")
    scratch.write_bytes(b"".join(kept))
    scratch.replace(file)


def _step_in(line: bytes) -> float:
    """The step of a line; behind all others for one that was cut short."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")

"""What a run remembers, on disk: `run.json` and four Arrow files in the folder `state` of a checkpoint. Nothing of it
is pickled, so that another version of Python or winnow reads it, or says that it cannot."""

import importlib.metadata
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from actors.arrow import ADDED, SCHEMA, unpacked
from actors.data.chooser import ChooserState, PromptCounts
from actors.data.source import PromptSourceState
from actors.data.stored import StoredGroupsState, completed
from actors.filtering.filter import FilterState, WaitingGroup
from actors.filtering.ledger import LedgerState
from actors.types import PromptVisit, Summary
from cluster.config.errors import ConfigError
from cluster.running.state import Counters, RunInputs, RunState
from learner.types import STATE, LearnerState

FORMAT = 5  # of all of these files; to be raised by whoever changes what they hold
RUN, GROUPS, SCORES, CHOOSER = "run.json", "groups.arrow", "scores.arrow", "chooser.arrow"
DIFFICULTY = "difficulty.arrow"
_CHOOSER = pa.schema(
    [("prompt", pa.string()), ("correct", pa.float64()), ("wrong", pa.float64()), ("version", "int64")]
)
_DIFFICULTY = pa.schema([("weight", pa.float64())])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """What stands in `run.json`; the rest of a `RunState` is in the Arrow files."""

    counters: Counters
    inputs: RunInputs
    position: int  # of the prompts
    again: tuple[PromptVisit, ...]
    chooser: int | None  # its newest version; None without a chooser
    stored: StoredGroupsState | None
    ledger: LedgerState
    waiting: tuple[Summary, ...]
    interrupted: tuple[PromptVisit, ...]
    graded: tuple[Summary, ...]
    learner: LearnerState
    roles: dict[str, float]


_DOCUMENT = TypeAdapter(_Document)


def write_state(state: RunState, checkpoint: Path) -> list[Path]:
    """Writes what a run remembers into its checkpoint; gives the files.

    Raises:
        OSError: the disk is full, or not there.
    """
    folder, filter, chooser = checkpoint / STATE, state.filter, state.prompts.chooser
    folder.mkdir(parents=True, exist_ok=True)
    seen = chooser.seen if chooser is not None else {}
    document = _Document(
        counters=state.counters,
        inputs=state.inputs,
        position=state.prompts.position,
        again=state.prompts.again,
        chooser=chooser.version if chooser is not None else None,
        stored=state.stored,
        ledger=filter.ledger,
        waiting=tuple(each.summary for each in filter.waiting),
        interrupted=filter.interrupted,
        graded=filter.graded,
        learner=state.learner,
        roles=dict(state.roles),
    )
    head = {"format": FORMAT, "winnow": _version()}
    text = json.dumps(head | _DOCUMENT.dump_python(document, mode="json"), indent=1)
    (folder / RUN).write_text(text + "\n", encoding="utf-8")
    counts = [list(seen), *([getattr(each, name) for each in seen.values()] for name in _CHOOSER.names[1:])]
    columns = [pa.array(values, field.type) for values, field in zip(counts, _CHOOSER, strict=True)]
    _write(folder / CHOOSER, _CHOOSER, [pa.RecordBatch.from_arrays(columns, schema=_CHOOSER)])
    weights = pa.array(chooser.weights if chooser is not None else (), pa.float64())
    _write(folder / DIFFICULTY, _DIFFICULTY, [pa.RecordBatch.from_arrays([weights], schema=_DIFFICULTY)])
    scores = pa.RecordBatch.from_pydict({"score": pa.array(state.scores, pa.float64())})
    _write(folder / SCORES, scores.schema, [scores])
    _write(folder / GROUPS, SCHEMA, (unpacked(each.group) for each in filter.waiting))
    return [folder / name for name in (RUN, CHOOSER, DIFFICULTY, SCORES, GROUPS)]


def read_state(checkpoint: Path) -> RunState:
    """What a run remembered when this checkpoint was saved.

    Raises:
        ConfigError: it was written by a version of winnow whose state this one does not read, or is damaged.
    """
    folder = checkpoint / STATE
    raw = _json(folder / RUN)
    if raw.pop("format", None) != FORMAT:
        raise ConfigError(
            f"{folder / RUN} was written by winnow {raw.get('winnow', 'of an unknown version')} in a format that this "
            f"one, {_version()}, does not read: go on with that version, or start a new run from the weights, with "
            f"model.path={checkpoint}"
        )
    del raw["winnow"]
    try:
        found = _DOCUMENT.validate_python(raw)
        groups = [batch.serialize() for batch in _groups(folder / GROUPS)]
        counts = [row for batch in _batches(folder / CHOOSER, _CHOOSER) for row in batch.to_pylist()]
        weights = [
            weight for batch in _batches(folder / DIFFICULTY, _DIFFICULTY) for weight in batch["weight"].to_pylist()
        ]
        scores = [batch.column(0).to_numpy() for batch in _batches(folder / SCORES)]
    except (ValidationError, OSError, pa.ArrowException) as failure:
        raise ConfigError(f"{folder} is damaged: {failure}. Name an earlier checkpoint") from failure
    seen = {
        row["prompt"]: PromptCounts(correct=row["correct"], wrong=row["wrong"], version=row["version"])
        for row in counts
    }
    chooser = (
        ChooserState(version=found.chooser, seen=seen, weights=tuple(weights)) if found.chooser is not None else None
    )
    waiting = tuple(
        WaitingGroup(summary=summary, group=group) for summary, group in zip(found.waiting, groups, strict=True)
    )
    return RunState(
        counters=found.counters,
        inputs=found.inputs,
        scores=np.concatenate(scores),
        roles=found.roles,
        prompts=PromptSourceState(position=found.position, again=found.again, chooser=chooser),
        stored=found.stored,
        filter=FilterState(ledger=found.ledger, waiting=waiting, interrupted=found.interrupted, graded=found.graded),
        learner=found.learner,
    )


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise ConfigError(f"{file} cannot be read: {failure}. Name an earlier checkpoint") from failure
    return found if isinstance(found, dict) else {}


def _write(file: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with pa.OSFile(str(file), "wb") as opened, pa.ipc.new_file(opened, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _batches(file: Path, schema: pa.Schema | None = None) -> list[pa.RecordBatch]:
    with pa.OSFile(str(file), "rb") as opened, pa.ipc.open_file(opened) as reader:
        if schema is not None and reader.schema != schema:
            raise _other_columns(file)
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def _groups(file: Path) -> Iterator[pa.RecordBatch]:
    """Waiting groups, with the columns that came later than their checkpoint."""
    for batch in _batches(file):
        table = completed(pa.Table.from_batches([batch]), list(ADDED))
        if set(table.column_names) != set(SCHEMA.names) or table.select(SCHEMA.names).schema != SCHEMA:
            raise _other_columns(file)
        yield from table.select(SCHEMA.names).combine_chunks().to_batches()


def _other_columns(file: Path) -> pa.ArrowInvalid:
    return pa.ArrowInvalid(f"{file} has other columns than this version writes")


def _version() -> str:
    try:
        return importlib.metadata.version("winnow-rl")
    except importlib.metadata.PackageNotFoundError:
        return "of a checkout that is not installed"

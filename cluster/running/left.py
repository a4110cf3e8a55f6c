"""The rows of data that the environment of a run has left (`Talk.leave`), as files of JSON lines.

They travel with the groups of their episodes and are on disk with them: whatever makes a group count once, in a run
that goes on too, counts its rows once. The files are made of that anew whenever a run or an evaluation ends.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.types import LeftRow
from cluster.config.run_files import LEFT, TRAJECTORIES
from cluster.running.checkpoints import step_of


def write_left(folder: Path) -> dict[str, int]:
    """Writes `left/NAME.jsonl` in the folder of a run or an evaluation, in the order of steps and groups.

    Returns:
        file -> rows in it; nothing where no row was left.
    """
    rows, unfinished = Counter[str](), folder / f"{LEFT}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    for each in _rows(folder / TRAJECTORIES):
        unfinished.mkdir(exist_ok=True)
        with (unfinished / f"{each.name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"{each.row}\n")
        rows[f"{LEFT}/{each.name}.jsonl"] += 1
    shutil.rmtree(folder / LEFT, ignore_errors=True)
    if unfinished.exists():
        unfinished.rename(folder / LEFT)
    return dict(sorted(rows.items()))


@contextmanager
def left_at_end(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Writes the rows that were left however what is inside ends, and says where they are."""
    try:
        yield
    finally:
        try:
            found = write_left(folder)
        except (OSError, pa.ArrowException) as failure:
            say(f"the rows that the environment has left are in {folder / TRAJECTORIES} alone: {failure}")
        else:
            if found:
                files = ", ".join(f"{file} ({rows:,})" for file, rows in found.items())
                say(f"rows that the environment has left, in {folder}: {files}")


def _rows(trajectories: Path) -> Iterator[LeftRow]:
    for step in sorted(trajectories.glob("step-*"), key=step_of):
        tables = [
            pq.read_table(file, columns=["group", "sample", "left"])
            for file in step.glob("groups*.parquet")
            if "left" in pq.read_schema(file).names  # files of older runs lack it
        ]
        if not tables:
            continue
        table = pa.concat_tables(tables)
        table = table.filter(pc.greater(pc.list_value_length(table["left"]), 0))
        for rows in table.sort_by([("group", "ascending"), ("sample", "ascending")])["left"].to_pylist():
            yield from (LeftRow(**row) for row in rows)

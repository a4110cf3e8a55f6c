"""What can be searched of a run: a row for each group and one for each response, in a DuckDB file of this process.

Texts are copied into it, because searching them in the Parquet files takes four times as long: once compressed, to be
shown, and once in lower case and as they are, to be searched. The arrays of tokens stay in the Parquet files, where a
group is read when it is looked at.
"""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.arrow import ADDED
from actors.data.stored import completed

OF_GROUP = ("group", "step", "prompt_id", "prompt", "question", "reference", "reward")
OF_RESPONSE = ("sample", "rejected", "outcome", "score", "finish", "seat", "siblings", "episode", "response")
NEEDED = (*OF_GROUP, *OF_RESPONSE, "continues", "sampled", "versions")
TABLES = """
CREATE TABLE groups (file INTEGER, "group" BIGINT, step INTEGER, prompt_id VARCHAR, prompt VARCHAR, question VARCHAR,
    reference VARCHAR, reward VARCHAR, searched VARCHAR USING COMPRESSION uncompressed);
CREATE TABLE responses (file INTEGER, "group" BIGINT, step INTEGER, number INTEGER, sample INTEGER, rejected VARCHAR,
    outcome VARCHAR, score DOUBLE, finish VARCHAR, seat VARCHAR, siblings VARCHAR, episode INTEGER, response VARCHAR,
    tokens INTEGER, oldest INTEGER, newest INTEGER, searched VARCHAR USING COMPRESSION uncompressed)
"""
AT_ONCE = 16_384  # rows that one thread searches at once, so that all cores have some; a multiple of 2,048
MEMORY = "1GiB"  # that DuckDB may hold; what does not fit is read from its file again


class UnreadableFile(Exception):
    """A Parquet file that is cut, is none, or has not the columns of a run; the message says which."""


class Index:
    """The tables. One thread writes; any thread reads, with a cursor of its own."""

    def __init__(self, folder: Path) -> None:
        """`folder` is for DuckDB's file; it is the caller's to remove."""
        config: dict[str, Any] = {
            "memory_limit": MEMORY,
            "temp_directory": str(folder),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        }
        self._connection = duckdb.connect(":memory:", config=config)
        self._connection.execute("SET enable_progress_bar = false")
        file = str(folder / "index.duckdb").replace("'", "''")
        # Nobody opens the file again after a crash, so nothing is written twice for that.
        self._connection.execute(f"ATTACH '{file}' AS run (ROW_GROUP_SIZE {AT_ONCE}, RECOVERY_MODE no_wal_writes)")
        self.cursor().execute(TABLES)
        self.files: dict[int, Path] = {}  # number of a file in the tables -> where it lies
        self.changes = 0  # how often the tables have changed

    def cursor(self) -> "duckdb.DuckDBPyConnection":
        """To read with, in one thread."""
        cursor = self._connection.cursor()
        cursor.execute("USE run")
        return cursor

    def add(self, number: int, file: Path) -> None:
        """Takes a Parquet file in, under a number that no other file has.

        Raises:
            UnreadableFile: it cannot be read; nothing of it is taken in.
        """
        groups, responses = _rows_of(number, file)
        cursor = self.cursor()
        cursor.register("new_groups", groups)
        cursor.register("new_responses", responses)
        self.files[number] = file
        cursor.execute("BEGIN")
        try:
            cursor.execute("INSERT INTO groups BY NAME SELECT *, lower(prompt) AS searched FROM new_groups")
            cursor.execute("INSERT INTO responses BY NAME SELECT *, lower(response) AS searched FROM new_responses")
            cursor.execute("COMMIT")
        except duckdb.Error as failure:
            cursor.close()  # and nothing of it is left
            raise UnreadableFile(f"{file} is not in the index, whose folder may be full: {failure}") from failure
        self.changes += 1

    def remove(self, number: int) -> None:
        """Forgets a file that is gone."""
        cursor = self.cursor()
        cursor.execute("BEGIN")
        cursor.execute("DELETE FROM groups WHERE file = ?", [number])
        cursor.execute("DELETE FROM responses WHERE file = ?", [number])
        cursor.execute("COMMIT")
        self.files.pop(number, None)
        self.changes += 1

    def settle(self) -> None:
        """Compresses what was taken in, so that no question has to wait for it."""
        self.cursor().execute("CHECKPOINT")

    def close(self) -> None:
        """Closes DuckDB's file."""
        self._connection.close()


def rows_of_group(file: Path, group: int) -> pa.Table:
    """All columns of a group's trajectories, in their order.

    Raises:
        UnreadableFile: the file is gone, or cannot be read.
    """
    table = _table(file, None, group)
    missing = [name for name in (*NEEDED, "tokens", "logprobs") if name not in table.column_names]
    if missing:
        raise UnreadableFile(f"{file} has no column {', '.join(missing)}")
    return table


def _rows_of(number: int, file: Path) -> tuple[pa.Table, pa.Table]:
    """(a row for each group, a row for each response) of a file."""
    table = _table(file, NEEDED)
    if missing := [name for name in NEEDED if name not in table.column_names]:
        raise UnreadableFile(f"{file} is not of a run: it has no column {', '.join(missing)}")
    table = table.combine_chunks()
    ids = table["group"].to_numpy()
    first = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1)) if ids.size else np.empty(0, np.int64)
    begins = ~table["continues"].to_numpy(zero_copy_only=False)
    begins[first] = True
    starts = np.flatnonzero(begins)
    groups = table.select(OF_GROUP).take(first).append_column("file", pa.array(np.full(first.size, number, np.int32)))
    ends = np.append(starts[1:], ids.size) - 1
    responses = table.select(["group", "step", *OF_RESPONSE]).take(starts)
    responses = responses.set_column(
        responses.column_names.index("finish"), "finish", table["finish"].take(pa.array(ends))
    )
    if starts.size < ids.size:  # responses that go on in further rows
        texts = table["response"].to_pylist()
        joined = ["".join(texts[start : end + 1]) for start, end in zip(starts, ends, strict=True)]
        responses = responses.set_column(responses.column_names.index("response"), "response", pa.array(joined))
    within = np.arange(starts.size) - np.searchsorted(starts, first)[np.searchsorted(first, starts, "right") - 1]
    columns = {"file": np.full(starts.size, number), "number": within, **_sizes(table, starts)}
    for name, values in columns.items():
        responses = responses.append_column(name, pa.array(values.astype(np.int32)))
    return groups, responses


def _sizes(table: pa.Table, starts: np.ndarray) -> dict[str, np.ndarray]:
    """Of each response: its sampled tokens, and the oldest and newest version of these; -1 where there is none."""
    sampled, versions = (table[name].combine_chunks() for name in ("sampled", "versions"))
    offsets = sampled.offsets.to_numpy() - sampled.offsets[0].as_py()
    flags = np.append(sampled.flatten().to_numpy(zero_copy_only=False), False)
    numbers = np.append(versions.flatten().to_numpy(), -1)
    if flags.size != numbers.size:
        raise UnreadableFile("the columns sampled and versions are of different lengths")
    if not starts.size:
        return dict.fromkeys(("tokens", "oldest", "newest"), np.empty(0, np.int32))
    begins = offsets[starts]
    empty = begins == np.append(begins[1:], offsets[-1])
    oldest = np.minimum.reduceat(np.where(flags & (numbers >= 0), numbers, np.iinfo(np.int32).max), begins)
    newest = np.maximum.reduceat(np.where(flags, numbers, -1), begins)
    tokens = np.add.reduceat(flags, begins, dtype=np.int32)
    without = empty | (newest < 0)
    return {
        "tokens": np.where(empty, 0, tokens),
        "oldest": np.where(without, -1, oldest),
        "newest": np.where(without, -1, newest),
    }


def _table(file: Path, columns: tuple[str, ...] | None, group: int | None = None) -> pa.Table:
    filters = None if group is None else [("group", "=", group)]
    try:
        with pq.ParquetFile(file) as opened:
            there = opened.schema_arrow.names
            wanted = there if columns is None else [name for name in columns if name in there]
        table = pq.read_table(file, columns=wanted, filters=filters, partitioning=None)
        return completed(table, [name for name in ADDED if columns is None or name in columns])
    except (pa.ArrowException, OSError, ValueError, TypeError) as failure:
        why = str(failure).splitlines()[0] if str(failure) else type(failure).__name__
        raise UnreadableFile(f"{file} is not a whole Parquet file: {why}") from failure

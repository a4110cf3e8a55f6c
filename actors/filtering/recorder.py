"""Writes every graded group to Parquet, with its step and why the filter refused it, if it did.

`trajectories/step-N/groups.parquet` has the groups of step N; where they are many, `groups-2.parquet` and so on go on.
Every file is written under another name, which readers of Parquet skip, and renamed when it is complete: whoever
reads the folder while a run writes to it sees whole files only, and a run that is killed leaves all of them.
`columns.parquet` has the columns and no row, so that the folder can be read from the start.

One thread puts groups together for files, and several write them, so the filter never waits for the disk and a step of
many long responses is on disk soon after its end. Arrays are let go as soon as they are written.

A recorder that takes over from one whose process was killed reads which groups that one has written of the step, and
writes none of them again: whoever brings the groups once more need not know how far it had come.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from actors.arrow import SCHEMA, unpacked

FIELDS = SCHEMA.append(pa.field("rejected", pa.string(), False)).append(  # the reason, "" for a trained response
    pa.field("step", pa.int32(), False)  # that trained on the group, or during which the filter refused it
)
FULL = 1024  # responses of a file
WRITERS = min(16, max(1, len(os.sched_getaffinity(0)) // 4))  # threads; Arrow encodes and compresses outside Python
# Columns whose values hardly come twice: a dictionary of them takes up to half of the time and saves nothing.
DIVERSE = ("response", "tokens", "logprobs")
WAIT_SECONDS = 60.0  # that a response waits in memory; a file is written with the first group that comes after it


def _with_dictionary() -> list[str]:
    """Parquet's names of the values that have one."""
    file = pa.BufferOutputStream()
    pq.write_table(FIELDS.empty_table(), file)
    columns = pq.ParquetFile(pa.BufferReader(file.getvalue())).schema
    paths = [columns.column(index).path for index in range(len(columns))]
    return [path for path in paths if path.split(".")[0] not in DIVERSE]


WITH_DICTIONARY = _with_dictionary()


def _none(batch: pa.RecordBatch) -> list[str]:
    """Every response of a trained group is trained on."""
    return [""] * batch.num_rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _File:
    """One that is being written."""

    path: Path
    step: int
    batches: list[pa.RecordBatch]  # with the columns of SCHEMA
    reasons: list[str]  # of their rows

    @property
    def table(self) -> pa.Table:
        """Its rows."""
        columns = pa.Table.from_batches(self.batches, schema=SCHEMA).columns
        reasons, steps = pa.array(self.reasons, pa.string()), pa.array([self.step] * len(self.reasons), pa.int32())
        return pa.Table.from_arrays([*columns, reasons, steps], schema=FIELDS)


class Recorder:
    """The groups of the step that is going on, on disk or about to be."""

    def __init__(
        self,
        folder: Path,
        step: int = 1,
        takes_over: bool = False,
        refused: Callable[[pa.RecordBatch], list[str]] = _none,
    ) -> None:
        """
        Args:
            folder: for the files.
            step: the one that is going on.
            takes_over: whether another recorder may have written of it.
            refused: why the response of each row of a trained group is not trained on; "" where it is.
        """
        self._folder, self._step, self._refused = folder, step, refused
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recorder")
        self._writers = ThreadPoolExecutor(max_workers=WRITERS, thread_name_prefix="writer")
        self._queued: list[Future[None]] = []
        self._batches: list[pa.RecordBatch] = []  # of the file that is not full yet
        self._reasons: list[str] = []  # of their rows
        self._files: dict[Future[None], _File] = {}  # handed to the writers, and not known to be on disk
        self._full, self._written = FULL, time.monotonic()
        self._there = set(_groups_since(folder, step)) if takes_over else set()  # on disk, by another recorder
        self._news: deque[int] = deque()  # ids of groups that have come to disk since `on_disk` was last asked
        self._put(folder / "columns.parquet", FIELDS.empty_table())

    def write(self, groups: Sequence[pa.Buffer], rejected: str) -> None:
        """Queues packed groups of one fate and returns at once; what goes wrong is raised by `close_step`."""
        self._queued.append(self._thread.submit(self._append, groups, rejected))

    def close_step(self, step: int) -> None:
        """Waits until everything that was queued is on disk, in the folder of `step`; what comes next is of the step
        after it.

        Raises:
            OSError: it cannot be written. It stays in memory, and the next call tries again.
        """
        queued, self._queued = self._queued, []
        self._thread.submit(self._flush, step).result()
        self._step = step + 1
        for done in queued:
            done.result()

    def close(self, step: int) -> None:
        """As `close_step`, at the end of a run; what is written after it goes to disk at once."""
        self._full = 1
        self.close_step(step)

    def on_disk(self) -> tuple[int, ...]:
        """Ids of the groups that are on disk since this was last asked."""
        return tuple(self._news.popleft() for _ in range(len(self._news)))

    def abandon(self) -> None:
        """Writes nothing more: what is still in memory is forgotten."""
        for threads in (self._thread, self._writers):
            threads.shutdown(wait=True, cancel_futures=True)

    def _append(self, groups: Sequence[pa.Buffer], rejected: str) -> None:
        for batch in map(unpacked, groups):
            if (group := _group(batch)) in self._there:
                self._news.append(group)
                continue
            self._batches.append(batch)
            self._reasons += [rejected] * batch.num_rows if rejected else self._refused(batch)
            if len(self._reasons) >= self._full or time.monotonic() - self._written > WAIT_SECONDS:
                self._hand_over(self._step)

    def _hand_over(self, step: int) -> None:
        """Has the groups that are here written."""
        if self._batches:
            file = _File(path=self._free_name(step), step=step, batches=self._batches, reasons=self._reasons)
            self._batches, self._reasons, self._written = [], [], time.monotonic()
            self._files = {writing: file for writing, file in self._files.items() if not _is_there(writing)}
            self._submit(file)

    def _submit(self, file: _File) -> None:
        self._files[self._writers.submit(self._write, file)] = file

    def _write(self, file: _File) -> None:
        self._put(file.path, file.table)
        self._news.extend(map(_group, file.batches))

    def _flush(self, step: int) -> None:
        """Returns when nothing is in memory any more; raises what keeps it there."""
        for writing, file in list(self._files.items()):
            if writing.done() and not _is_there(writing):  # it failed before
                del self._files[writing]
                self._submit(file)
        self._hand_over(step)
        wait(self._files)
        self._files = {writing: file for writing, file in self._files.items() if not _is_there(writing)}
        for writing in self._files:
            writing.result()

    def _free_name(self, step: int) -> Path:
        """A file of the step that is not there yet: nothing is ever written over."""
        folder, coming = self._folder / f"step-{step}", {file.path for file in self._files.values()}
        names = (folder / f"groups{'' if number == 1 else f'-{number}'}.parquet" for number in count(1))
        return next(name for name in names if name not in coming and not name.exists())

    def _put(self, target: Path, table: pa.Table) -> None:
        """A complete file, or none."""
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"_{target.name}.unfinished")
        try:
            pq.write_table(table, unfinished, compression="zstd", row_group_size=FULL, use_dictionary=WITH_DICTIONARY)
            unfinished.replace(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def _is_there(writing: Future[None]) -> bool:
    """Whether a file is on disk."""
    return writing.done() and writing.exception() is None


def _group(batch: pa.RecordBatch) -> int:
    """The id of the group whose responses these are."""
    return int(batch.column(0)[0].as_py())


def _groups_since(folder: Path, step: int) -> Iterator[int]:
    """Ids of the groups in the files of this step and later ones. Files that were never finished are removed."""
    for each in folder.glob("step-*"):
        if int(each.name.removeprefix("step-")) < step:
            continue
        for unfinished in each.glob("_*.unfinished"):
            unfinished.unlink()
        for file in each.glob("groups*.parquet"):
            yield from pq.read_table(file, columns=["group"])["group"].to_pylist()

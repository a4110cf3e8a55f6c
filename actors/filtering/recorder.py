"""Writes every graded group to `trajectories/step=N/groups.parquet`, with why the filter refused it, if it did.

One thread writes, so the filter never waits for the disk; arrays are let go as soon as they are written.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from actors.arrow import SCHEMA, unpacked

_FIELDS = SCHEMA.append(pa.field("rejected", pa.string(), False))  # the reason, "" for a trained group
_ROW_GROUP = 1024  # responses


class Recorder:
    """An open Parquet file for the step that is going on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recorder")
        self._queued: list[Future[None]] = []
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, groups: Sequence[pa.Buffer], rejected: str) -> None:
        """Queues packed groups of one fate and returns at once; what goes wrong is raised by `close_step`."""
        self._queued.append(self._thread.submit(self._append, groups, rejected))

    def close_step(self, step: int) -> None:
        """Waits until everything queued is on disk and puts it in the folder of `step`."""
        queued, self._queued = self._queued, []
        for done in queued:
            done.result()
        self._thread.submit(self._close, step).result()

    def _append(self, groups: Sequence[pa.Buffer], rejected: str) -> None:
        for batch in map(unpacked, groups):
            reasons = pa.array([rejected] * batch.num_rows, pa.string())
            self._batches.append(pa.RecordBatch.from_arrays([*batch.columns, reasons], schema=_FIELDS))
            self._rows += batch.num_rows
            if self._rows >= _ROW_GROUP:
                self._flush()

    def _flush(self) -> None:
        if not self._batches:
            return
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._open_file, _FIELDS, compression="zstd")
        self._writer.write_table(pa.Table.from_batches(self._batches, schema=_FIELDS))
        self._batches, self._rows = [], 0

    def _close(self, step: int) -> None:
        self._flush()
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        target = self._folder / f"step={step}"
        target.mkdir(parents=True, exist_ok=True)
        self._open_file.replace(target / "groups.parquet")

    @property
    def _open_file(self) -> Path:
        return self._folder / "open.parquet"

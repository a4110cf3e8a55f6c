"""Reading files of rows, JSON lines or Parquet; whatever is wrong is named by file and line."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.errors import DataError
from actors.settings import DataSettings


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a .jsonl or .parquet file, cut to the wanted columns as text.

    Raises:
        DataError: the file is missing, empty or of another kind, or a row lacks a column (file and line are named).
    """
    return [row for _, row in read_lines(path, columns)]


def data_lines(data: DataSettings, lacking: Callable[[str], None] | None = None) -> list[tuple[int, dict[str, str]]]:
    """The rows of the data, cut to prompt, answer and reward, each with its line; see `read_lines`. Where the answer is
    made of several columns, all but one may be empty."""
    answers = [data.answer_column] if isinstance(data.answer_column, str) else [*data.answer_column]
    columns = [data.prompt_column, *answers, *([data.reward_column] if data.reward_column else [])]
    return read_lines(Path(data.path), columns, answers[1:], lacking)


def read_lines(
    path: Path, columns: Sequence[str], blank: Sequence[str] = (), lacking: Callable[[str], None] | None = None
) -> list[tuple[int, dict[str, str]]]:
    """`read_rows` with the number of each line.

    Args:
        path: the file.
        columns: what each row must have.
        blank: which of them may be empty.
        lacking: is told of rows that lack a column, which are then left out; without it the first one raises.
    """

    def lacks(row: Mapping[str, Any], column: str) -> bool:
        kind = isinstance(row.get(column), str | int | float | list | dict)
        return not kind or (row[column] == "" and column not in blank)

    rows = []
    for line, row in read_objects(path):
        missing = [column for column in columns if lacks(row, column)]
        if not missing:
            rows.append((line, {column: _text(row[column]) for column in columns}))
            continue
        found = ", ".join(row) or "none"
        problem = f"{path}:{line} has no text in column {missing[0]!r} (columns there: {found})"
        if lacking is None:
            raise DataError(problem)
        lacking(problem)
    if not rows and lacking is None:
        raise DataError(f"{path} holds no rows")
    return rows


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a .jsonl or .parquet file as they are, each with its line.

    Raises:
        DataError: the file is missing or of another kind, or a line is no JSON object (it is named).
    """
    if not path.is_file():
        raise DataError(f"there is no data file {path}")
    if path.suffix not in (".jsonl", ".parquet"):
        raise DataError(f"{path} must be a .jsonl or .parquet file")
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield from enumerate(pq.read_table(path).to_pylist(), start=1)
        return
    with path.open(encoding="utf-8") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as failure:
                raise DataError(f"{path}:{line} is not JSON: {failure.msg} at column {failure.colno}") from failure
            if not isinstance(row, dict):
                raise DataError(f"{path}:{line} is {type(row).__name__}, expected an object with named columns")
            yield line, row


def _text(cell: Any) -> str:
    return json.dumps(cell) if isinstance(cell, list | dict) else str(cell)

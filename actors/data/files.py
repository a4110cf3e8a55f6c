"""Files of rows: which there are, and what each row holds. Whatever cannot be read is named by file and row."""

import codecs
import csv
import glob
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import DataError

ROW_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")  # all but the last may end in .gz besides
# What Hugging Face's datasets say of the data files beside them.
ABOUT = frozenset(("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"))
DEEP = ("*", "*/*")  # folders below a folder without data files in which some are looked for, to say where they are
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
UNICODE = {  # the byte order marks at the beginning of a file; that of UTF-32 begins with one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
KINDS = {  # how files begin that are written otherwise than their names say, and what to do with them
    b"\x1f\x8b": "is compressed with gzip: give it a name that ends in .gz",
    b"PAR1": "is Parquet: give it a name that ends in .parquet",
    b"PK\x03\x04": "is a zip archive or a spreadsheet: unpack it, or save it as CSV",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: unpack it",
    b"BZh": "is compressed with bzip2: unpack it",
    b"\xfd7zXZ": "is compressed with xz: unpack it",
    b"<!DOCTYPE": "is a page of HTML, such as one that asks to log in: download the file itself",
    b"<html": "is a page of HTML, such as one that asks to log in: download the file itself",
}
ARRAY = re.compile(r"\s*\[\s*(?:\{|$)")  # how an array of rows begins in a file that should have one in each line
ADDRESS = re.compile(r"[a-z][a-z0-9+]*:/+", re.IGNORECASE)  # a slash is lost where it has been read as a path
QUOTES = (  # what to do about a quote in a table that does not stand for itself
    'Put such a cell in quotes as a whole and write each quote of its text twice ("", not \\"), or save the file '
    "as JSON lines"
)
BATCH = 1024  # rows of a Parquet file that are read at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """One row of a file as it is."""

    place: str  # file and line, or file and row for Parquet and JSON arrays
    cells: dict[str, Any]  # column -> value


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that cannot be used."""

    place: str  # file and line
    problem: str  # what is wrong, its value, what to do

    def __str__(self) -> str:
        return f"{self.place} {self.problem}"


Refuse = Callable[[BadRow], None]


def first_ends(bad: BadRow) -> None:
    """The `Refuse` that lets the first bad row end the reading."""
    raise DataError(str(bad))


def files_of(path: str) -> list[Path]:
    """The data files that a path means: the file itself, those in a folder, or those that a pattern with * matches.
    Of a folder or a pattern, hidden files and what `datasets` writes about data are none.

    Raises:
        DataError: there are none.
    """
    given = Path(path)
    if given.is_file():
        return [given]
    if given.is_dir():
        if found := _in_folder(given):
            return found
        raise DataError(f"the folder {path} {_why_nothing(given)}")
    if glob.has_magic(path):
        matches = sorted(Path(file) for file in glob.glob(path, recursive=True) if Path(file).is_file())
        if not (found := [file for file in matches if file.name not in ABOUT]):
            raise DataError(f"no file matches {path}")
        return found
    if ADDRESS.match(path):
        raise DataError(f"{path} is an address and no file: download it, and give the file")
    raise DataError(f"there is no data file {path}")


def read_files(path: str, refuse: Refuse = first_ends) -> Iterator[FileRow]:
    """The rows of a data file, of the data files in a folder, or of those that a pattern matches, in order.

    Args:
        path: JSON lines, a JSON array, CSV or TSV with a line of names, each also with .gz behind; or Parquet.
        refuse: is told of rows that cannot be read, which are then left out; without it the first one raises.

    Raises:
        DataError: a file is missing, cut, of another kind, or not what its name says.
    """
    for file in files_of(path):
        yield from _read_file(file, refuse)


def _in_folder(folder: Path) -> list[Path]:
    """The data files of a folder itself, without hidden ones, such as those that macOS lays beside each file."""
    files = (file for file in folder.iterdir() if _is_shown(file, folder) and file.name not in ABOUT)
    return sorted(file for file in files if _kind(file) and file.is_file())


def _why_nothing(folder: Path) -> str:
    """What to say of a folder without data files."""
    below = [each for deep in DEEP for each in sorted(folder.glob(deep)) if each.is_dir() and _is_shown(each, folder)]
    splits = [each.name for each in below if each.parent == folder] if (folder / "dataset_dict.json").is_file() else []
    if splits or ((folder / "state.json").is_file() and any(folder.glob("*.arrow"))):
        what = f"the splits {', '.join(splits)} as" if splits else "what"
        one = "train" if "train" in splits else (splits or ["data"])[0]
        split = f"[{one!r}]" if splits else ""
        return (
            f"holds {what} save_to_disk of Hugging Face's datasets wrote: write it as Parquet, by "
            f"datasets.load_from_disk({str(folder)!r}){split}.to_parquet({f'{one}.parquet'!r})"
        )
    if there := [str(each) for each in below if _in_folder(each)]:
        more = f" and {len(there) - 3} more" if len(there) > 3 else ""
        return (
            f"holds no data file itself, and there are some in {', '.join(there[:3])}{more}: give that folder, or a "
            f"pattern such as {there[0]}/train-* where training and test files lie side by side"
        )
    return f"holds no data file ({', '.join(ROW_FILES)})"


def _is_shown(file: Path, folder: Path) -> bool:
    """Whether neither a file nor what it is in, up to a folder, is hidden."""
    return not any(name.startswith(".") for name in file.relative_to(folder).parts)


def _kind(file: Path) -> str:
    """The suffix that says how the file is written; "" where it is no data file."""
    name = file.name.lower().removesuffix(".gz")
    return next((suffix for suffix in ROW_FILES if name.endswith(suffix)), "")


def _read_file(file: Path, refuse: Refuse) -> Iterator[FileRow]:
    kind = _kind(file)
    if not kind:
        raise DataError(f"{file} must be one of {', '.join(ROW_FILES)}")
    try:
        with file.open("rb") as opened:
            start = opened.read(len(LFS_POINTER))
        if not file.name.lower().endswith((".gz", ".parquet")):
            _refuse_another_kind(file, start)
        if start == LFS_POINTER:
            raise DataError(f"{file} is a pointer of Git LFS and not the data: run `git lfs pull` where it came from")
        if kind == ".parquet":
            yield from _parquet_rows(file)
            return
        with gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb") as stream:
            yield from _text_rows(file, kind, stream, refuse)
    except (OSError, EOFError, zlib.error) as failure:  # what gzip raises for a cut or damaged file
        raise DataError(f"{file} cannot be read: {failure}") from failure


def _refuse_another_kind(file: Path, start: bytes) -> None:
    for beginning, what in KINDS.items():
        if start.startswith(beginning):
            raise DataError(f"{file} {what}")
    if start and not start.startswith(tuple(UNICODE)) and b"\0" in (start[:1], start[1:2]):
        raise DataError(f"{file} is UTF-16 or UTF-32 without its byte order mark, or no text: save it as UTF-8")


def _text_rows(file: Path, kind: str, stream: BinaryIO | gzip.GzipFile, refuse: Refuse) -> Iterator[FileRow]:
    lines = _lines(file, stream)
    if kind in (".csv", ".tsv"):
        yield from _table_rows(file, lines, "," if kind == ".csv" else "\t", refuse)
        return
    if kind == ".json":
        texts = list(lines)
        if next((text.lstrip()[:1] for _, text in texts if text.strip()), "") == "[":
            yield from _array_rows(file, "".join(text for _, text in texts), refuse)
            return
        if len(texts) > 1 and _is_one_object("".join(text for _, text in texts)):
            raise DataError(f"{file} holds one object; give an array of rows, or one row in each line")
        lines = iter(texts)
    before = list[tuple[int, str]]()
    for line, text in lines:
        if not before and text.strip():
            before.append((line, text))
            if ARRAY.match(text):
                yield from _array_rows(file, "\n" * (line - 1) + text + "".join(more for _, more in lines), refuse)
                return
        if text.strip():
            yield from _object(f"{file}:{line}", text, refuse)


def _lines(file: Path, stream: BinaryIO | gzip.GzipFile) -> Iterator[tuple[int, str]]:
    """The lines as text, each with its number; a byte order mark says which UTF it is."""
    start = stream.peek(4) if isinstance(stream, gzip.GzipFile | io.BufferedReader) else b""
    codec = next((name for beginning, name in UNICODE.items() if start.startswith(beginning)), "utf-8")
    if codec in ("utf-16", "utf-32"):
        try:
            text = stream.read().decode(codec)
        except UnicodeError as failure:
            raise DataError(f"{file} begins as {codec.upper()} and is not: {failure}. Save it as UTF-8") from failure
        yield from enumerate(io.StringIO(text, newline="\n"), start=1)
        return
    for line, raw in enumerate(stream, start=1):
        try:
            yield line, raw.decode("utf-8-sig" if line == 1 else "utf-8")
        except UnicodeDecodeError as failure:
            raise DataError(
                f"{file}:{line} is not UTF-8 (byte {raw[failure.start]:#04x} at column {failure.start + 1}). Save the "
                "file as UTF-8, such as by `iconv -f latin1 -t utf-8`"
            ) from failure


def _is_one_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _object(place: str, text: str, refuse: Refuse) -> Iterator[FileRow]:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as failure:
        refuse(BadRow(place=place, problem=f"is not JSON: {failure.msg} at column {failure.colno}"))
    except RecursionError:
        refuse(BadRow(place=place, problem="is nested too deeply to be read"))
    except ValueError as failure:  # a number with more digits than Python converts
        refuse(BadRow(place=place, problem=f"cannot be read: {failure}. Write such a number as text"))
    else:
        yield from _row(place, row, refuse)


def _array_rows(file: Path, text: str, refuse: Refuse) -> Iterator[FileRow]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as failure:
        raise DataError(f"{file}:{failure.lineno} is not JSON: {failure.msg} at column {failure.colno}") from failure
    except (RecursionError, ValueError) as failure:
        raise DataError(f"{file} cannot be read: {failure}") from failure
    for number, row in enumerate(rows, start=1):
        yield from _row(f"{file}:{number}", row, refuse)


def _row(place: str, row: Any, refuse: Refuse) -> Iterator[FileRow]:
    if isinstance(row, dict):
        yield FileRow(place=place, cells=row)
    else:
        refuse(BadRow(place=place, problem=f"is {type(row).__name__}, expected an object with named columns"))


def _table_rows(file: Path, lines: Iterator[tuple[int, str]], comma: str, refuse: Refuse) -> Iterator[FileRow]:
    csv.field_size_limit(2**31 - 1)
    read = list[str]()  # lines of the row that is read
    table = csv.reader(_noted(lines, read), delimiter=comma, strict=True)
    first = 1  # line of that row
    try:
        names = next(table, [])
        _refuse_repeated(f"{file}:1", names)
        while True:
            read.clear()
            first = table.line_num + 1
            if (cells := next(table, None)) is None:
                return
            place = f"{file}:{first}"
            if comma == "\t" and _are_rows(read, len(names)):
                raise DataError(
                    f"{place} begins a cell in quotes that ends on line {table.line_num}, and every one of these lines "
                    f"looks like a row of its own. {QUOTES}"
                )
            if len(cells) == len(names):
                yield FileRow(place=place, cells=dict(zip(names, cells, strict=True)))
            elif cells:
                refuse(BadRow(place=place, problem=f"has {len(cells)} cells under {len(names)} names"))
    except csv.Error as failure:
        raise DataError(f"{file}:{first} {_table_problem(str(failure), table.line_num)}") from failure


def _noted(lines: Iterator[tuple[int, str]], read: list[str]) -> Iterator[str]:
    """The lines, each noted when it is read."""
    for _, text in lines:
        read.append(text)
        yield text


def _are_rows(lines: Sequence[str], columns: int) -> bool:
    """Whether several lines that were read as one row with tabs are more likely a row each. Of commas, which sentences
    have too, that cannot be told."""
    return len(lines) > 1 < columns and all(line.count("\t") == columns - 1 for line in lines)


def _table_problem(failure: str, line: int) -> str:
    """What to say where the csv module cannot read a row that begins on one line and is given up on another."""
    if "unexpected end of data" in failure:
        return f"begins a cell in quotes that has no end. {QUOTES}"
    if "expected after" in failure:
        return f"has a cell in quotes, and on line {line} text behind the quote that ends it. {QUOTES}"
    return f"cannot be read: {failure}"


def _refuse_repeated(place: str, names: list[str]) -> None:
    again = sorted({name for name in names if names.count(name) > 1})
    if again:
        raise DataError(f"{place} names the column {again[0]!r} more than once")


def _parquet_rows(file: Path) -> Iterator[FileRow]:
    number = 0
    try:
        with pq.ParquetFile(file) as parquet:
            _refuse_repeated(str(file), parquet.schema_arrow.names)
            for batch in parquet.iter_batches(BATCH):
                for row in _microseconds(batch).to_pylist(maps_as_pydicts="lossy"):
                    number += 1
                    yield FileRow(place=f"{file}:{number}", cells=row)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as failure:
        where = f" behind row {number}" if number else ""
        why = str(failure).splitlines()[0].rstrip(".")
        raise DataError(f"{file} cannot be read as Parquet{where}: {why}. It may be cut: copy it again") from failure


def _microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with times of whole microseconds, the finest that Python's have; what is below is cut off."""
    kinds = [_coarse(field.type) for field in batch.schema]
    columns = [
        column if kind == column.type else column.cast(kind, safe=False)
        for column, kind in zip(batch.columns, kinds, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _coarse(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_coarse(field.type)) for field in kind])
    if pa.types.is_large_list(kind):
        return pa.large_list(_coarse(kind.value_type))
    return pa.list_(_coarse(kind.value_type)) if pa.types.is_list(kind) else kind

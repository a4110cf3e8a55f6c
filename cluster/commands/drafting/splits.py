"""What is trained on and what is held out: a test file beside the data, or rows at its end."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from actors.data.files import FileRow, files_of, read_files
from actors.data.reading import data_row
from actors.errors import DataError
from actors.settings import DataSettings

HELD_OUT = re.compile(r"(?:^|[^a-z])(?:test|valid|validation|val|dev|eval|heldout|held[-_]out)(?:[^a-z]|$)", re.I)
LOOKED = 20  # rows of a file that is to be the held-out one
ENOUGH, MOST = 100, 500  # rows of a file without a test file from which some are held out; and how many at most
SHARE = 0.1  # of the rows that are held out then, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Where prompts to train on and prompts to evaluate with come from."""

    rows: str = ""  # of data.rows
    eval_path: str = ""
    eval_rows: str = ""
    why: str = ""


def training_path(path: str) -> tuple[str, str]:
    """(the path to train on, why it is not the whole folder). Of a folder with training and test files, only the
    former; where one pattern does not name them all, the folder as it is."""
    folder = Path(path)
    if not folder.is_dir():
        return path, ""
    files = files_of(path)
    held = [file for file in files if HELD_OUT.search(_stem(file))]
    ours = [file for file in files if file not in held]
    if not held or not ours:
        return path, ""
    if len(ours) == 1:
        return str(ours[0]), f"{', '.join(file.name for file in held)} beside it is held out"
    start = _shared([file.name for file in ours])
    pattern = f"{folder}/{start}*"
    if start and [file for file in files_of(pattern) if file not in held] == files_of(pattern):
        return pattern, f"{', '.join(file.name for file in held)} beside them is held out"
    return path, ""


def split(path: str, count: int, data: DataSettings) -> Split:
    """A test file beside the data that has its columns; else the last rows of the data, where there are enough.

    Args:
        path: that is trained on.
        count: of its rows.
        data: its columns.
    """
    for file in _beside(path):
        if _has_columns(file, data):
            return Split(eval_path=str(file), why=f"{file.name} lies beside the data and has its columns")
    if count < ENOUGH:
        return Split(why=f"no test file lies beside the data, and {count} are too few to hold some out")
    held = min(MOST, int(SHARE * count))
    return Split(
        rows=f":-{held}",
        eval_rows=f"-{held}:",
        why=f"no test file lies beside the data: its last {held} rows are held out, which is right where the order "
        "means nothing",
    )


def is_held_out(path: str) -> bool:
    """Whether a file bears the name of one that is evaluated on."""
    return Path(path).is_file() and bool(HELD_OUT.search(_stem(Path(path))))


def _beside(path: str) -> Sequence[Path]:
    """Files beside the data with the name of a held-out one, those written as the data are first."""
    if is_held_out(path):
        return ()
    try:
        ours = files_of(path)
        there = files_of(str(ours[0].parent))
    except DataError:
        return ()
    found = [file for file in there if file not in ours and HELD_OUT.search(_stem(file))]
    return sorted(found, key=lambda file: (file.suffix != ours[0].suffix, "test" not in file.name.lower()))


def _has_columns(file: Path, data: DataSettings) -> bool:
    try:
        rows: list[FileRow] = list(islice(read_files(str(file), lambda bad: None), LOOKED))
        for row in rows:
            data_row(row, data, "number")
    except (DataError, ValueError):
        return False
    return bool(rows)


def _stem(file: Path) -> str:
    return file.name.partition(".")[0]


def _shared(names: Sequence[str]) -> str:
    """How all names begin."""
    least, most = min(names), max(names)
    return least[: next((at for at, letter in enumerate(least) if most[at : at + 1] != letter), len(least))]

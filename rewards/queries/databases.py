"""Databases on disk, found by name in a folder, and what may be said of a query on one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SQLITE_SUFFIXES = (".sqlite", ".sqlite3", ".db")
TABLE_SUFFIXES = (".parquet", ".csv")

Engine = Literal["sqlite", "duckdb", "tables"]


class QueryError(Exception):
    """The query was refused or does not run; the message is a sentence for the person who reads the trajectory."""


class QueryTimeout(Exception):
    """The query ran longer than its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database on disk, as it stood when it was found."""

    path: Path
    engine: Engine  # "tables" is a folder of Parquet and CSV files, which DuckDB loads
    stamp: tuple[int, ...]  # times of change and sizes of its files


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one query may take."""

    seconds: float
    rows: int  # the most rows that are read of its result
    memory_mib: int  # of the process


def find_database(folder: str, name: str, kind: str = "") -> Database:
    """The database of that name in a folder.

    These are looked for, in this order: NAME.sqlite, .sqlite3 or .db; NAME/NAME.sqlite, .sqlite3 or .db (the layout of
    Spider and BIRD); NAME.duckdb; NAME/NAME.duckdb; a folder NAME of .parquet and .csv files, each one a table that is
    named by its stem. With the `kind` "sqlite" or "duckdb" only databases of that engine are looked for.

    Raises:
        ValueError: there is none, or the name could lead out of the folder.
    """
    if not folder:
        raise ValueError("databases must be the folder of the databases, got ''")
    if not name or name.startswith(".") or re.search(r"[/\\:\0]|\.\.", name):
        raise ValueError(f"the database name {name[:80]!r} must be a plain name, without '/' or '..'")
    if kind not in ("", "sqlite", "duckdb"):
        raise ValueError(f"db_type must be 'sqlite' or 'duckdb', got {kind[:80]!r}")
    home = Path(folder)
    if kind != "duckdb":
        for path in (place / f"{name}{suffix}" for place in (home, home / name) for suffix in SQLITE_SUFFIXES):
            if path.is_file():
                return Database(path=path, engine="sqlite", stamp=_stamp([path]))
    if kind != "sqlite":
        for path in (home / f"{name}.duckdb", home / name / f"{name}.duckdb"):
            if path.is_file():
                return Database(path=path, engine="duckdb", stamp=_stamp([path]))
        if tables := table_files(home / name):
            return Database(path=home / name, engine="tables", stamp=_stamp(tables))
    there = sorted(path.name for path in home.iterdir() if not path.name.startswith(".")) if home.is_dir() else []
    listed = ", ".join(there[:10]) + (", ..." if len(there) > 10 else "") or "nothing"
    raise ValueError(f"there is no {kind or 'SQLite or DuckDB'} database {name!r} in {folder}: it holds {listed}")


def table_files(folder: Path) -> list[Path]:
    """The Parquet and CSV files of a folder, by name; none where there is no such folder."""
    return sorted(path for path in folder.glob("*") if path.suffix in TABLE_SUFFIXES and path.is_file())


def _stamp(paths: Sequence[Path]) -> tuple[int, ...]:
    stats = [path.stat() for path in paths]
    return tuple(number for stat in stats for number in (stat.st_mtime_ns, stat.st_size))

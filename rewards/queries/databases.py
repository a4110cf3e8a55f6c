"""Runs one query, written by nobody knows whom, on a database that it can only read: SQLite, or DuckDB.

Nothing that a query says may change a file, reach another file, or take more time, rows or memory than its limits.
"""

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from rewards.queries.results import Result, Row, plain

if TYPE_CHECKING:
    import duckdb

SQLITE_SUFFIXES = (".sqlite", ".sqlite3", ".db")
TABLE_SUFFIXES = (".parquet", ".csv")
LONGEST_QUERY = 100_000  # characters
LONGEST_CELL = 16 * 2**20  # bytes of a text or blob of SQLite, at any moment of a query
STEPS_BETWEEN_LOOKS = 10_000  # operations of SQLite's machine between two looks at the clock, about a millisecond
ROWS_AT_ONCE = 32

Engine = Literal["sqlite", "duckdb", "tables"]

_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
_FORBIDDEN_FUNCTIONS = ("load_extension", "fts3_tokenizer", "readfile", "writefile", "edit")  # load code, reach files
_QUERY_WORDS = ("SELECT", "WITH", "VALUES", "FROM")
_FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*|/\*.*?\*/|\()*([^\W\d]\w*)?", re.DOTALL)
_SQLITE_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: LONGEST_CELL,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 * LONGEST_QUERY,  # bytes
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 500,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 1_000_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


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


def run_query(database: Database, query: str, limits: Limits) -> Result:
    """The result of one query. At most `limits.rows` rows are read; `more` tells whether there were others.

    A SQLite file is taken as it is: what another process has written to its -wal file and not yet to it is not seen.

    Raises:
        QueryError: it is no query (but a write, say), it is several, it does not run, or it takes too much memory.
        QueryTimeout: it did not finish in `limits.seconds`.
        ValueError: the tables of a folder cannot be loaded.
    """
    if len(query) > LONGEST_QUERY:
        raise QueryError(f"the query has {len(query)} characters, at most {LONGEST_QUERY} are run")
    match = _FIRST_WORD.match(query)
    word = (match and match.group(1)) or ""
    if word.upper() not in _QUERY_WORDS:
        raise QueryError(f"refused: {word[:20].upper() or 'this'} is not a SELECT query, and nothing else is run")
    runner = _run_sqlite if database.engine == "sqlite" else _run_duckdb
    try:
        return runner(database, query, limits)
    except MemoryError as failure:
        raise QueryError("the query takes more memory than there is") from failure


def _run_sqlite(database: Database, query: str, limits: Limits) -> Result:
    uri = f"file:{quote(str(database.path.absolute()))}?mode=ro&immutable=1"
    end = time.monotonic() + limits.seconds
    refused = list[str]()
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        try:
            _confine(connection, refused)
            connection.set_progress_handler(lambda: time.monotonic() > end, STEPS_BETWEEN_LOOKS)
            cursor = connection.execute(query)
            return _read(cursor.fetchmany, [column[0] for column in cursor.description], limits)
        except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError) as failure:
            if time.monotonic() > end:
                raise QueryTimeout(f"the query ran longer than {limits.seconds:g} s") from failure
            if refused:
                raise QueryError(f"refused: {refused[0]}, only reading is allowed ({failure})") from failure
            raise QueryError(f"SQLite: {failure}") from failure


def _confine(connection: sqlite3.Connection, refused: list[str]) -> None:
    """Leaves a connection nothing but reading; what it denies a query is put into `refused`."""
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")  # real databases hold other codes
    for pragma in ("trusted_schema = OFF", "query_only = ON", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    for function in ("json_each", "json_tree"):  # their tables are declared on first use, which is a write of a kind
        with suppress(sqlite3.OperationalError):  # SQLite without JSON
            connection.execute(f"SELECT 1 FROM {function}('[]')").fetchall()
    for limit, value in _SQLITE_LIMITS.items():
        connection.setlimit(limit, value)

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action in _ALLOWED and (action != sqlite3.SQLITE_FUNCTION or second not in _FORBIDDEN_FUNCTIONS):
            return sqlite3.SQLITE_OK
        named = second if action == sqlite3.SQLITE_FUNCTION else first
        refused.append(f"the query does more than read, at {str(named)[:80]!r}")
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)


def _run_duckdb(database: Database, query: str, limits: Limits) -> Result:
    import duckdb

    with _duckdb_of(database, limits.memory_mib) as connection:
        try:
            statements = connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise QueryError("refused: exactly one SELECT query is run, and nothing else")
            with _interrupted_after(limits.seconds, connection.interrupt):
                connection.execute(statements[0])
                return _read(connection.fetchmany, [column[0] for column in connection.description or ()], limits)
        except duckdb.InterruptException as failure:
            raise QueryTimeout(f"the query ran longer than {limits.seconds:g} s") from failure
        except (duckdb.InternalException, duckdb.FatalException):  # it broke DuckDB itself, which will not serve again
            _loaded.cache_clear()
            raise
        except (duckdb.Error, UnicodeEncodeError) as failure:
            text = str(failure).partition("\n")[0]
            raise QueryError(f"refused: {text}" if "Permission Error" in text else f"DuckDB: {text}") from failure


@contextmanager
def _interrupted_after(seconds: float, interrupt: Callable[[], None]) -> Iterator[None]:
    """Calls `interrupt`, from then on again and again, when the block takes longer; leaves no thread behind."""
    done = threading.Event()

    def watch() -> None:
        pause = seconds
        while not done.wait(pause):
            interrupt()  # one that comes between two steps of the query is lost
            pause = 0.02

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


@contextmanager
def _duckdb_of(database: Database, memory_mib: int) -> "Iterator[duckdb.DuckDBPyConnection]":
    if database.engine == "tables":
        with closing(_loaded(database, memory_mib).cursor()) as cursor:
            yield cursor
        return
    with closing(_opened(memory_mib)) as connection:
        source = _quoted(database.path.absolute(), "'")
        _execute(connection, f"ATTACH {source} AS winnow (TYPE duckdb, READ_ONLY)", database.path)
        connection.execute("USE winnow")
        _lock(connection)
        yield connection


@lru_cache(maxsize=2)
def _loaded(database: Database, memory_mib: int) -> "duckdb.DuckDBPyConnection":
    """A DuckDB in memory with the tables of a folder; kept, because loading takes long."""
    connection = _opened(memory_mib)
    names = set[str]()
    for path in table_files(database.path):
        if path.stem.casefold() in names:
            raise ValueError(f"{database.path} holds two tables {path.stem!r}: keep one of the files")
        names.add(path.stem.casefold())
        reader = "read_parquet" if path.suffix == ".parquet" else "read_csv"
        source = _quoted(re.sub(r"([*?\[])", r"[\1]", str(path.absolute())), "'")  # a path, and no pattern of paths
        table = _quoted(path.stem, '"')
        _execute(connection, f"CREATE TABLE {table} AS SELECT * FROM {reader}({source})", path)
    _lock(connection)
    return connection


def _opened(memory_mib: int) -> "duckdb.DuckDBPyConnection":
    """One thread, a quarter of the memory, no file to spill to, no extensions, no tables out of Python variables, no
    progress bar."""
    import duckdb

    config: dict[str, Any] = {
        "threads": 1,
        "async_threads": 0,
        "memory_limit": f"{memory_mib // 4}MiB",
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
    }
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET enable_progress_bar = false")
    return connection


def _lock(connection: "duckdb.DuckDBPyConnection") -> None:
    """Cuts a connection off from all files but its databases, for good."""
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _execute(connection: "duckdb.DuckDBPyConnection", statement: str, path: Path) -> None:
    import duckdb

    try:
        connection.execute(statement)
    except duckdb.Error as failure:
        connection.close()
        raise ValueError(f"DuckDB cannot read {path} within a quarter of reward.memory_mib: {failure}") from failure


def _quoted(text: object, quote_mark: str) -> str:
    return quote_mark + str(text).replace(quote_mark, 2 * quote_mark) + quote_mark


def _read(fetch: Callable[[int], Sequence[Sequence[object]]], columns: Sequence[str], limits: Limits) -> Result:
    """The rows of a result up to its limit, as long as their texts are not too long."""
    rows = list[Row]()
    room = limits.memory_mib * 2**20 // 32
    while len(rows) <= limits.rows and (part := fetch(min(ROWS_AT_ONCE, limits.rows + 1 - len(rows)))):
        for row in part:
            room -= sum(len(cell) for cell in row if isinstance(cell, str | bytes | list | dict))
            rows.append(tuple(plain(cell) for cell in row))
        if room < 0:
            raise QueryError(f"the query gives more than {limits.memory_mib // 32} MiB of text")
    return Result(columns=tuple(columns), rows=tuple(rows[: limits.rows]), more=len(rows) > limits.rows)


def _stamp(paths: Sequence[Path]) -> tuple[int, ...]:
    stats = [path.stat() for path in paths]
    return tuple(number for stat in stats for number in (stat.st_mtime_ns, stat.st_size))

"""Reads a SQLite file by a query, in a copy of the process that is thrown away afterwards."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from urllib.parse import quote

from rewards.queries.apart import close_files
from rewards.queries.databases import Database, Limits, QueryError
from rewards.queries.results import Result, Row, plain

LONGEST_QUERY = 100_000  # characters
LONGEST_CELL = 16 * 2**20  # bytes of a text or blob of SQLite, at any moment of a query
ROWS_AT_ONCE = 32

_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
_FORBIDDEN_FUNCTIONS = ("load_extension", "fts3_tokenizer", "readfile", "writefile", "edit")  # load code, reach files
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: LONGEST_CELL,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 * LONGEST_QUERY,  # bytes
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 500,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 1_000_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


def read_sqlite(database: Database, query: str, limits: Limits) -> Result:
    """The result of a query.

    Raises:
        QueryError: it does more than read, or does not run.
    """
    uri = f"file:{quote(str(database.path.absolute()))}?mode=ro&immutable=1"
    refused = list[str]()
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        try:
            _confine(connection, refused)
            cursor = connection.execute(query)
            return read_rows(cursor.fetchmany, [column[0] for column in cursor.description], limits)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as failure:  # ValueError: texts that are no UTF-8
            if refused:
                raise QueryError(f"refused: {refused[0]}, only reading is allowed ({failure})") from failure
            raise QueryError(f"SQLite: {failure}") from failure


def read_rows(fetch: Callable[[int], Sequence[Sequence[object]]], columns: Sequence[str], limits: Limits) -> Result:
    """The rows of a result up to its limit, as long as their texts are not too long.

    Raises:
        QueryError: they are.
    """
    rows = list[Row]()
    room = limits.memory_mib * 2**20 // 32
    while len(rows) <= limits.rows and (part := fetch(min(ROWS_AT_ONCE, limits.rows + 1 - len(rows)))):
        for row in part:
            room -= sum(len(cell) for cell in row if isinstance(cell, str | bytes | list | dict))
            rows.append(tuple(plain(cell) for cell in row))
        if room < 0:
            raise QueryError(f"the query gives more than {limits.memory_mib // 32} MiB of text")
    return Result(columns=tuple(columns), rows=tuple(rows[: limits.rows]), more=len(rows) > limits.rows)


def _confine(connection: sqlite3.Connection, refused: list[str]) -> None:
    """Leaves a connection nothing but reading; what it denies a query is put into `refused`."""
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")  # real databases hold other codes
    for pragma in ("trusted_schema = OFF", "query_only = ON", "temp_store = MEMORY", "schema_version"):
        connection.execute(f"PRAGMA {pragma}").fetchall()  # the last one opens the file
    for function in ("json_each", "json_tree"):  # their tables are declared on first use, which is a write of a kind
        with suppress(sqlite3.OperationalError):  # SQLite without JSON
            connection.execute(f"SELECT 1 FROM {function}('[]')").fetchall()
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action in _ALLOWED and (action != sqlite3.SQLITE_FUNCTION or second not in _FORBIDDEN_FUNCTIONS):
            return sqlite3.SQLITE_OK
        named = second if action == sqlite3.SQLITE_FUNCTION else first
        refused.append(f"the query does more than read, at {str(named)[:80]!r}")
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    close_files()

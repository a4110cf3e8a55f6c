"""Queries that the policy writes on a database that they can only read, run as the reward `sql` runs them."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.tools.formats import Schema
from actors.tools.schemas import schema
from actors.tools.tool import Limits, ToolFailure
from rewards.queries.databases import SQLITE_SUFFIXES, Database, QueryError, QueryTimeout, find_database
from rewards.queries.databases import Limits as QueryLimits
from rewards.queries.results import Result
from rewards.queries.running import run_query

MOST_TABLES = 50  # that the policy is told of by name


@dataclass(frozen=True, slots=True)
class Sql:
    """A tool that runs a query of the policy's on a database: a SQLite or DuckDB file, or a folder of Parquet and CSV
    files, each one a table. Nothing that a query says changes it."""

    database: str  # path, from the folder of the environment's file
    rows: int = 20  # most rows of a result that the policy reads
    name: str = "sql"

    @property
    def bounded(self) -> bool:
        """It has the limit of memory."""
        return True

    def placed(self, folder: Path) -> "Sql":
        """The database there, where its path is relative."""
        return replace(self, database=str(folder / self.database))

    def start(self) -> "RunningSql":
        """Reads which tables there are."""
        return RunningSql(self)


class RunningSql:
    """The database."""

    def __init__(self, kind: Sql) -> None:
        """
        Raises:
            ValueError: there is no such database, or it cannot be read.
        """
        self._kind, self._database = kind, _found(kind.database)
        tables = _tables(self._database)
        listed = "; ".join(tables[:MOST_TABLES]) + ("; and others" if len(tables) > MOST_TABLES else "")
        dialect = "SQLite" if self._database.engine == "sqlite" else "DuckDB"
        about = (
            f"Runs one SELECT query in the dialect of {dialect} and gives the first {kind.rows} rows of its result. "
            f"The tables: {listed}"
        )
        self.schemas: Sequence[Schema] = (schema(kind.name, about, query="the query"),)

    def call(self, name: str, arguments: Mapping[str, Any], limits: Limits) -> str:
        """The rows of a result, a line each.

        Raises:
            ToolFailure: the query does more than read, does not run or takes too long.
        """
        bounds = QueryLimits(seconds=limits.seconds, rows=self._kind.rows, memory_mib=limits.memory_mib)
        try:
            return _shown(run_query(self._database, str(arguments["query"]), bounds))
        except (QueryError, QueryTimeout) as problem:
            raise ToolFailure(str(problem)) from None


def _found(path: str) -> Database:
    place = Path(path)
    if not place.exists():
        raise ValueError(f"there is no database {path!r}")
    kind = "sqlite" if place.suffix in SQLITE_SUFFIXES else "duckdb"
    return find_database(str(place.absolute().parent), place.stem if place.is_file() else place.name, kind)


def _tables(database: Database) -> list[str]:
    """Each table with its columns, such as "t (a INTEGER, b TEXT)"."""
    if database.engine == "sqlite":
        try:
            with closing(sqlite3.connect(f"{database.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                found = connection.execute(
                    "SELECT t.name, c.name, c.type FROM sqlite_master t, pragma_table_info(t.name) c "
                    "WHERE t.type IN ('table', 'view') AND t.name NOT LIKE 'sqlite_%' ORDER BY t.name, c.cid"
                ).fetchall()
        except sqlite3.Error as failure:
            raise ValueError(f"SQLite cannot read {database.path}: {failure}") from None
    else:
        from rewards.queries.duck import opened

        found = (
            opened(database, 1024)
            .connection.execute(
                "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal "
                "ORDER BY table_name, column_index"
            )
            .fetchall()
        )
    columns: dict[str, list[str]] = {}
    for table, column, kind in found:
        columns.setdefault(str(table), []).append(f"{column} {kind}".strip())
    return [f"{table} ({', '.join(names)})" for table, names in columns.items()]


def _shown(result: Result) -> str:
    lines = [_line(result.columns), *map(_line, result.rows)]
    if not result.rows:
        return f"{lines[0]}\n(no rows)"
    return "\n".join([*lines, *(["(there are more rows)"] if result.more else [])])


def _line(cells: Iterable[Any]) -> str:
    return " | ".join("NULL" if cell is None else str(cell) for cell in cells)

"""Reads tables by a query in DuckDB's dialect, in a copy of the process that is thrown away afterwards.

DuckDB calls a statement SELECT when its outermost part is one, though a WITH in it may hold COPY, INSERT, UPDATE or
DELETE. So the tree of the query is looked at, in which everything must be on the lists below or in the database.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewards.queries.apart import close_files
from rewards.queries.databases import Database, Limits, QueryError, table_files
from rewards.queries.lite import read_rows
from rewards.queries.results import Result

if TYPE_CHECKING:
    import duckdb

_NODES = {  # of a tree, expressions aside: parts of a query, of a FROM, and how rows are ordered
    *("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"),
    *("BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT"),
    *("ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER"),
    *("ORDER_DEFAULT", "ASCENDING", "DESCENDING"),
}
_EXPRESSIONS = {
    *("BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION"),
    *("LAMBDA", "LAMBDA_REF", "OPERATOR", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "TYPE", "WINDOW"),
}
_TABLE_FUNCTIONS = frozenset(
    {"range", "generate_series", "unnest", "json_each", "json_tree", "repeat", "repeat_row", "histogram"}
)
_CHANCE = {"random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "error"}  # DuckDB counts them as side effects
_SESSION = {"current_setting", "getvariable"}

ZONED = "TIMESTAMP WITH TIME ZONE"
_TABLES = """SELECT table_name FROM duckdb_tables() UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal"""
_EFFECTS = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE has_side_effects"
_MACROS = "SELECT function_name FROM duckdb_functions() WHERE function_type = 'table_macro' AND NOT internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A database that is open, and what a query may name in it, in small letters."""

    connection: "duckdb.DuckDBPyConnection"
    tables: frozenset[str]
    table_functions: frozenset[str]
    refused_functions: frozenset[str]


@lru_cache(maxsize=2)
def opened(database: Database, memory_mib: int) -> Opened:
    """The file, opened for reading, or a DuckDB in memory with the tables of a folder; kept, because it takes long.

    Raises:
        ValueError: it cannot be read.
    """
    connection = _connected(memory_mib)
    if database.engine == "duckdb":
        source = _quoted(database.path.absolute(), "'")
        _execute(connection, f"ATTACH {source} AS winnow (TYPE duckdb, READ_ONLY)", database.path)
        connection.execute("USE winnow")
    else:
        _load_tables(connection, database.path)
    found = Opened(
        connection=connection,
        tables=_names(connection, _TABLES),
        table_functions=_TABLE_FUNCTIONS | _names(connection, _MACROS),
        refused_functions=(_names(connection, _EFFECTS) - _CHANCE) | _SESSION,
    )
    # Cuts the connection off from all files but those that are open, for good.
    connection.execute("SET enable_external_access = false")
    connection.execute("SET disabled_filesystems = 'LocalFileSystem'")
    connection.execute("SET lock_configuration = true")
    return found


def read_duckdb(database: Opened, query: str, limits: Limits) -> Result:
    """The result of a query.

    Raises:
        QueryError: it does more than read, or does not run.
    """
    import duckdb

    close_files()
    connection = database.connection
    try:
        _check(connection, query, database)
        connection.execute("BEGIN TRANSACTION READ ONLY")
        connection.execute(query)
        found = connection.description or []
        names, kinds = [column[0] for column in found], [str(column[1]) for column in found]
        if ZONED in kinds:
            connection.execute(_without_zones(query, kinds))
        return read_rows(connection.fetchmany, names, limits)
    except (duckdb.Error, UnicodeError) as failure:
        text = str(failure).partition("\n")[0]
        raise QueryError(f"refused: {text}" if "Permission Error" in text else f"DuckDB: {text}") from failure


def _check(connection: "duckdb.DuckDBPyConnection", query: str, database: Opened) -> None:
    """Makes sure that a text is one query that only reads tables of the database.

    Raises:
        QueryError: it is not.
        duckdb.Error: it is no SQL.
    """
    (text,) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone() or ("",)
    try:
        tree = json.loads(text)
    except RecursionError as failure:
        raise QueryError("refused: the query is nested too deeply") from failure
    if tree["error"] and tree["error_type"] != "not implemented":
        raise QueryError(f"DuckDB: {tree['error_type']} error: {tree['error_message']}")
    if tree["error"] or len(tree["statements"]) != 1:
        raise QueryError("refused: exactly one SELECT query is run, and nothing else")
    nodes = list[dict[str, Any]]()
    left: list[Any] = [tree["statements"]]
    while left:
        part = left.pop()
        nodes += [part] if isinstance(part, dict) else []
        left += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    named = {entry["key"].casefold() for node in nodes if "cte_map" in node for entry in node["cte_map"]["map"]}
    for node in nodes:
        if complaint := _complaint(node, database, named):
            raise QueryError(f"refused: only reading is allowed, and the query holds {complaint}")


def _complaint(node: Mapping[str, Any], database: Opened, named: set[str]) -> str:
    """What a node of the tree does more than read the database; "" where it does not."""
    kind = node.get("type")
    if not isinstance(kind, str):
        return ""
    if "class" in node:
        name = str(node.get("function_name", "")).casefold()
        if node["class"] not in _EXPRESSIONS:
            return f"a part of the kind {node['class']}"
        return f"the function {name[:80]}" if name in database.refused_functions else ""
    if kind not in _NODES:
        return f"a part of the kind {kind.removesuffix('_QUERY_NODE').removesuffix('_REF')}"
    if kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).casefold()
        return "" if name in database.table_functions else f"the table function {name[:80]}"
    if kind == "BASE_TABLE":
        name = node["table_name"].casefold()
        return "" if name in database.tables or name in named else f"{name[:80]!r}, which is no table of the database"
    return ""


def _without_zones(query: str, kinds: Sequence[str]) -> str:
    """The query with points in time as those of UTC, without a zone: to read zones DuckDB wants a library for them."""
    columns = (f"#{number}{'::TIMESTAMP' * (kind == ZONED)}" for number, kind in enumerate(kinds, start=1))
    return f"SELECT {', '.join(columns)} FROM (\n{query}\n) AS winnow_result"


def _load_tables(connection: "duckdb.DuckDBPyConnection", folder: Path) -> None:
    names = set[str]()
    for path in table_files(folder):
        if path.stem.casefold() in names:
            raise ValueError(f"{folder} holds two tables {path.stem!r}: keep one of the files")
        names.add(path.stem.casefold())
        reader = "read_parquet" if path.suffix == ".parquet" else "read_csv"
        source = _quoted(re.sub(r"([*?\[])", r"[\1]", str(path.absolute())), "'")  # a path, and no pattern of paths
        table = _quoted(path.stem, '"')
        _execute(connection, f"CREATE TABLE {table} AS SELECT * FROM {reader}({source})", path)


def _connected(memory_mib: int) -> "duckdb.DuckDBPyConnection":
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
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _names(connection: "duckdb.DuckDBPyConnection", query: str) -> frozenset[str]:
    return frozenset(str(name).casefold() for (name,) in connection.execute(query).fetchall())


def _execute(connection: "duckdb.DuckDBPyConnection", statement: str, path: Path) -> None:
    import duckdb

    try:
        connection.execute(statement)
    except duckdb.Error as failure:
        connection.close()
        raise ValueError(f"DuckDB cannot read {path} within a quarter of reward.memory_mib: {failure}") from failure


def _quoted(text: object, quote: str) -> str:
    return quote + str(text).replace(quote, 2 * quote) + quote

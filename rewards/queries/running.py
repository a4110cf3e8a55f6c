"""Runs one query, written by nobody knows whom, on a database that it can only read: SQLite, or DuckDB.

Nothing that a query says may change a file, reach another file, change what a later query sees, or take more time, rows
or memory than its limits. Three things hold this, each without the others:

1. A query is refused unless all of it only reads: SQLite asks our authorizer about every step of it, and of DuckDB's
   tree of it every node, table and function must be known to read (`rewards.queries.duck`).
2. It runs in a copy of the process that is thrown away (`rewards.queries.apart`).
3. Files are opened for reading, and then the copy can open no other file.
"""

import re
from functools import partial

from rewards.queries.apart import apart
from rewards.queries.databases import Database, Limits, QueryError
from rewards.queries.lite import LONGEST_QUERY, read_sqlite
from rewards.queries.results import Result

_QUERY_WORDS = ("SELECT", "WITH", "VALUES", "FROM")
_FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*+|/\*.*?\*/|\()*+([^\W\d]\w*)?", re.DOTALL)


def run_query(database: Database, query: str, limits: Limits) -> Result:
    """The result of one query. At most `limits.rows` rows are read; `more` tells whether there were others.

    A SQLite file is taken as it is: what another process has written to its -wal file and not yet to it is not seen.

    Raises:
        QueryError: it is no query (but a write, say), it is several, it does not run, it breaks the library that runs
            it, or it takes too much memory.
        QueryTimeout: it did not finish in `limits.seconds`.
        ValueError: the database cannot be read.
    """
    if len(query) > LONGEST_QUERY:
        raise QueryError(f"the query has {len(query)} characters, at most {LONGEST_QUERY} are run")
    match = _FIRST_WORD.match(query)
    word = (match and match.group(1)) or ""
    if word.upper() not in _QUERY_WORDS:
        raise QueryError(f"refused: {word[:20].upper() or 'this'} is not a SELECT query, and nothing else is run")
    if database.engine == "sqlite":
        read = partial(read_sqlite, database, query, limits)
    else:
        from rewards.queries.duck import opened, read_duckdb

        read = partial(read_duckdb, opened(database, limits.memory_mib), query, limits)
    return apart(read, limits.seconds, limits.memory_mib)

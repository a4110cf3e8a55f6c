"""Queries that do more than read, or that break what runs them, and the databases that they are tried on.

In the queries DATABASE is the path of the DuckDB file and OTHER one that is not there.
"""

import hashlib
import sqlite3
from pathlib import Path

import duckdb

ROWS = [("Ada", 36, 1.5), ("Alan", 41, 2.5), ("Grace", 85, 2.5), ("Kurt", 71, None)]


def write_databases(home: Path) -> None:
    """The same table `people` as p.sqlite, in/in.sqlite, d.duckdb, and as Parquet and CSV in the folder files."""
    (home / "in").mkdir()
    (home / "files").mkdir()
    for path in (home / "p.sqlite", home / "in/in.sqlite"):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE people (name TEXT, age INTEGER, score REAL)")
            connection.executemany("INSERT INTO people VALUES (?, ?, ?)", ROWS)
        connection.close()
    with duckdb.connect(str(home / "d.duckdb")) as connection:
        connection.execute("CREATE TABLE people (name VARCHAR, age INTEGER, score DOUBLE)")
        connection.executemany("INSERT INTO people VALUES (?, ?, ?)", ROWS)
        connection.execute("COPY people TO (? || '/people.parquet')", [str(home / "files")])
        connection.execute("COPY people TO (? || '/people-csv.csv')", [str(home / "files")])
        connection.execute("CREATE SEQUENCE s")


def digest(folder: Path) -> dict[str, str]:
    """A digest of every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


REFUSED = [
    "INSERT INTO people VALUES ('Eve', 1, 1)",
    "UPDATE people SET age = 1",
    "DELETE FROM people",
    "DROP TABLE people",
    "CREATE TABLE more (a INTEGER)",
    "CREATE TEMP TABLE more AS SELECT 1",
    "ALTER TABLE people ADD COLUMN more INTEGER",
    "ATTACH 'OTHER' AS other",
    "VACUUM",
    "ANALYZE",
    "BEGIN",
    "EXPLAIN SELECT 1",
    "WITH t AS (SELECT 'Eve', 1, 1.5) INSERT INTO people SELECT * FROM t",
    "WITH t AS (SELECT 1) DELETE FROM people",
]
REFUSED_BY_SQLITE = [
    "ATTACH ':memory:' AS other",
    "PRAGMA writable_schema = 1",
    "PRAGMA query_only = OFF",
    "VACUUM INTO 'OTHER'",
    "REINDEX",
    "SELECT load_extension('OTHER')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT * FROM pragma_database_list",
]
REFUSED_BY_DUCKDB = [
    "COPY people TO 'OTHER'",
    "COPY (SELECT 1) TO 'OTHER' (FORMAT parquet)",
    "EXPORT DATABASE 'OTHER'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "CHECKPOINT",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd.csv'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM duckdb_extensions()",
]
IN_A_WITH = [
    "COPY (SELECT 1) TO 'DATABASE' (FORMAT csv, USE_TMP_FILE false)",
    "COPY (SELECT 1) TO 'DATABASE.wal' (FORMAT csv)",
    "COPY people TO 'OTHER' (FORMAT parquet)",
    "COPY people TO '/dev/stdout'",
    "UPDATE people SET age = 7 RETURNING *",
    "DELETE FROM people RETURNING *",
    "INSERT INTO people VALUES ('Eve', 1, 1) RETURNING *",
]
AROUND = [
    "WITH d AS ({}) SELECT 4",
    "WITH d AS MATERIALIZED ({}) SELECT 4",
    "WITH a AS (SELECT 4 AS n), d AS ({}) SELECT n FROM a",
    "SELECT 4 UNION ALL (WITH d AS ({}) SELECT 4 FROM d WHERE 1 = 0)",
    "SELECT * FROM (WITH d AS ({}) SELECT 4)",
    "SELECT (WITH d AS ({}) SELECT 4)",
    "SELECT 4 WHERE EXISTS (WITH d AS ({}) SELECT 4)",
    "WITH a AS (WITH d AS ({}) SELECT 4) FROM a",
]
MORE_THAN_TABLES = [
    *("query('SELECT 4')", "query_table('people')", "\"query\"('SELECT 4')", "system.main.query('SELECT 4')"),
    *("duckdb_databases()", "duckdb_databases", "duckdb_secrets()", "duckdb_settings()", "duckdb_logs()"),
    *("pragma_version()", "pragma_database_list", "information_schema.tables", "sqlite_master", "duckdb_tables"),
    *("read_text('DATABASE')", "read_blob('DATABASE')", "read_csv('DATABASE')", "read_duckdb('DATABASE')"),
    *("sniff_csv('DATABASE')", "glob('*')", "'DATABASE'", "'x.csv'", "'*.parquet'", "parquet_metadata('DATABASE')"),
    *("json_execute_serialized_sql(json_serialize_sql('SELECT 4'))", "enable_logging()", "force_checkpoint()"),
    *(
        "checkpoint()",
        "pandas_scan(1)",
        "arrow_scan(1, 2, 3)",
        "(SHOW TABLES)",
        "(DESCRIBE people)",
        "(SUMMARIZE people)",
    ),
]
FUNCTIONS = ("nextval('s')", "currval('s')", "setseed(0.5)", "sleep_ms(100000)", "write_log('x')", "main.NEXTVAL('s')",
             "'s'.nextval()", "current_setting('memory_limit')", "getvariable('x')", "?", "$1")  # fmt: skip
# With the gold query SELECT count(*) FROM people, which gives 4, each of these would be right did it run.
WRITING = [around.format(inner) for around in AROUND for inner in IN_A_WITH]
REACHING = [f"SELECT 4 FROM {table}" for table in MORE_THAN_TABLES]
CALLING = [f"SELECT 4, {function}" for function in FUNCTIONS]


def deep(opening: str, closing: str, times: int) -> str:
    return f"SELECT {opening * times}1{closing * times}"


BROKEN_ANYWHERE = [
    *(
        "SELECT \0 4",
        "SELECT '\ud800'",
        "SELECT 4 AS '\udcff'",
        "SELECT ?",
        "SELECT",
        "SELECT 'x",
        "/*" * 40_000 + "SELECT 4",
    ),
    *(deep("(", ")", 5_000), "(" * 5_000 + "SELECT 1", deep("- ", "", 5_000), deep("NOT ", "", 5_000)),
    *(deep("abs(", ")", 2_000), deep("CASE WHEN 1 THEN ", " END", 1_000), deep("1+", "", 5_000)),
    *("SELECT * FROM " + "(SELECT * FROM " * 1_000 + "people" + ")" * 1_000, "SELECT 1" + " FROM people" * 1_000),
]
BROKEN_IN_SQLITE = [
    "SELECT json_extract('{}', CAST(x'2422ff' AS TEXT))",  # an error text that is no UTF-8
    "SELECT json(CAST(x'ff' AS TEXT))",
    "SELECT CAST(x'edb080ff' AS TEXT)",
    "SELECT char(55296)",
    *("SELECT zeroblob(1e9)", "SELECT hex(randomblob(1e9))", "SELECT printf('%.1000000000f', 1.0)"),
    *("SELECT abs(-9223372036854775808)", "SELECT 'x' LIKE '" + "%_" * 40_000 + "'", "SELECT 'a' REGEXP 'b'"),
    *("SELECT writefile('x', 'y')", "SELECT readfile('x')", "SELECT edit('x')", "SELECT raise(ABORT, 'x')"),
    "SELECT 1" + " UNION ALL SELECT 1" * 1_000,
    "WITH RECURSIVE t(n) AS (SELECT n FROM t) SELECT n FROM t",
    "WITH RECURSIVE t(n) AS (SELECT 'a' UNION ALL SELECT n || n FROM t) SELECT length(n) FROM t",
]
BROKEN_IN_DUCKDB = [
    *("SELECT error('[/verdict]')", "SELECT error('\udcff')", "SELECT decode('\\xff'::BLOB)", "SELECT chr(55296)"),
    *(
        "SELECT repeat('a', 2000000000)",
        "SELECT list(i) FROM range(1000000000) AS t(i)",
        "SELECT unnest(range(1000000000))",
    ),
    *("SELECT 1::" + "int[]" + "[]" * 5_000, deep("[", "]", 5_000), deep("{'a': ", "}", 3_000)),
    *(
        "SELECT getenv('HOME')",
        "SELECT DATE '-290000-01-01'",
        "SELECT INTERVAL 999999999 YEARS",
        "SELECT 10::HUGEINT ** 40",
    ),
]

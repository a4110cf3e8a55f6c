"""The ready tools, for real: sandboxed programs, databases, a corpus, a server of the Model Context Protocol."""

import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from actors.tools import Mcp, Python, Search, Sql
from actors.tools.bench import Bench
from actors.tools.tool import Kind, Limits, Result
from actors.tools.worker import Work
from rewards.programs.sandbox import sandbox_problem

pytestmark = pytest.mark.slow  # each kind starts processes
LIMITS = Limits(seconds=5.0, memory_mib=2048, max_characters=200)
sandboxed = pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem() or "it works")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def use(bench: Bench, kind: Kind, name: str, limits: Limits = LIMITS, **arguments: object) -> Result:
    return bench.use(Work(kind=kind, name=name, arguments=arguments, limits=limits))


def about(bench: Bench, kind: Kind) -> str:
    (schema,) = bench.ready(kind, LIMITS.memory_mib).schemas
    return str(schema["function"]["description"])


@sandboxed
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print(1 + 1)", "2"),
        ("import math\nx = math.factorial(20)\nx", "2432902008176640000"),
        ("x = 1", "(it printed nothing)"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("print('before')\n1 / 0", 'before\nTraceback (most recent call last):\n  File "<program>", line 2'),
        ("import sys; print('to errors', file=sys.stderr); sys.exit(3)", "to errors"),
        ("x = bytearray(1 << 40)", "MemoryError"),
        ("open('/etc/passwd')", "FileNotFoundError"),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "Error"),
        ("import os; os.fork()", "PermissionError"),
    ],
)
def test_a_program_gives_what_it_prints_and_what_went_wrong(code: str, said: str, bench: Bench) -> None:
    found = use(bench, Python(), "python", Limits(seconds=5.0, memory_mib=2048, max_characters=2000), code=code)
    assert said in found.text
    assert not found.failed


@sandboxed
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('so far', flush=True)\nwhile True: pass", "Error: the program took longer than 3 s. It printed: so"),
        ("while True: print('x' * 1000)", "Error: the program was ended for more output than it may print"),
        ("import os; os._exit(5)", "Error: the program ended with the status 5. It printed: nothing"),
    ],
)
def test_a_program_that_does_not_end_by_itself_fails(code: str, said: str, bench: Bench) -> None:
    found = use(bench, Python(), "python", Limits(seconds=3.0, memory_mib=2048, max_characters=200), code=code)
    assert found.text.startswith(said)
    assert found.failed


@sandboxed
def test_nothing_is_kept_from_one_program_to_the_next(bench: Bench) -> None:
    use(bench, Python(), "python", code="open('kept', 'w').write('x')")
    assert use(bench, Python(), "python", code="import os; print(os.listdir('.'))").text == "[]"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shop.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE goods (name TEXT, price REAL)")
        connection.executemany("INSERT INTO goods VALUES (?, ?)", [("pen", 1.5), ("cup", 4.0), ("mat", None)])
        connection.commit()
    return path


def test_a_query_gives_rows_of_a_database_that_the_policy_was_told_of(bench: Bench, database: Path) -> None:
    shop = Sql(str(database), rows=2)
    assert "SQLite" in about(bench, shop)
    assert "goods (name TEXT, price REAL)" in about(bench, shop)
    found = use(bench, shop, "sql", query="SELECT name, price FROM goods")
    assert found.text == "name | price\npen | 1.5\ncup | 4\n(there are more rows)"
    assert use(bench, shop, "sql", query="SELECT price FROM goods WHERE price IS NULL").text == "price\nNULL"
    assert use(bench, shop, "sql", query="SELECT 1 AS x WHERE 0").text == "x\n(no rows)"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("DELETE FROM goods", "refused: DELETE is not a SELECT query"),
        ("SELECT nope FROM goods", "SQLite: no such column: nope"),
        ("SELECT 1; DROP TABLE goods", "SQLite: "),
        ("ATTACH 'x.db' AS x", "refused: ATTACH"),
        ("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT max(x) FROM c", "the query ran longer"),
    ],
)
def test_a_query_that_does_not_read_fails_and_changes_nothing(
    query: str, said: str, bench: Bench, database: Path
) -> None:
    before = database.read_bytes()
    short = Limits(seconds=1.0, memory_mib=2048, max_characters=200)
    found = use(bench, Sql(str(database)), "sql", short, query=query)
    assert found.text.startswith(f"Error: {said}")
    assert found.failed
    assert database.read_bytes() == before


def test_a_folder_of_tables_is_a_database(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("day,sum\n1,10\n2,32\n")
    folder = Sql(str(tmp_path), name="books")
    assert "DuckDB" in about(bench, folder)
    assert "sales (day BIGINT, sum BIGINT)" in about(bench, folder)
    assert use(bench, folder, "books", query="SELECT sum(sum) AS total FROM sales").text == "total\n42"


def test_a_search_gives_the_documents_that_fit_best(bench: Bench, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"title": "Bern", "text": "The capital of Switzerland is Bern."}, "Rome is the capital of Italy."]
    rows += [{"text": "Cows eat grass."}, {"text": "x" * 500 + " grass"}]
    corpus.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    search = Search(str(corpus), results=2)
    assert "4 documents" in about(bench, search)
    found = use(bench, search, "search", query="capital of Switzerland?")
    assert found.text.startswith("[1] Bern: The capital of Switzerland is Bern.\n[2] Rome")
    assert use(bench, search, "search", query="zebra").text == "(nothing found)"
    assert use(bench, search, "search", query="").text == "(nothing found)"
    assert len(use(bench, search, "search", query="grass").text) < 200


def test_each_line_of_a_text_file_is_a_document(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("red apples\n\ngreen pears\n")
    assert use(bench, Search(str(tmp_path / "lines.txt")), "search", query="pears").text == "[1] green pears"


SERVER = '''
import os, sys, time
from mcp.server.mcpserver import MCPServer

server = MCPServer("made")

@server.tool()
def double(n: int) -> str:
    """Doubles a number."""
    return str(2 * n)

@server.tool()
def hang() -> str:
    """Hangs."""
    time.sleep(3600)
    return ""

@server.tool()
def die() -> str:
    """Dies."""
    os._exit(3)

@server.tool()
def flood() -> str:
    """Says much."""
    return "x" * 1_000_000

server.run("stdio")
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Mcp:
    path = tmp_path_factory.mktemp("server") / "server.py"
    path.write_text(SERVER)
    return Mcp([sys.executable, str(path)])


def test_the_tools_of_a_server_are_offered_and_called(bench: Bench, server: Mcp) -> None:
    schemas = bench.ready(server, LIMITS.memory_mib).schemas
    assert [schema["function"]["name"] for schema in schemas] == ["double", "hang", "die", "flood"]
    assert schemas[0]["function"]["description"] == "Doubles a number."
    assert schemas[0]["function"]["parameters"]["properties"]["n"]["type"] == "integer"
    assert use(bench, server, "double", n=21) == Result(text="42")
    assert use(bench, server, "flood").text == "x" * 200 + "\n[the first 200 of 1000000 characters]"
    assert use(bench, server, "double", n="many").failed


def test_a_server_that_hangs_or_dies_fails_one_call(bench: Bench, server: Mcp) -> None:
    short = Limits(seconds=1.0, memory_mib=2048, max_characters=200)
    for name, said in (("hang", "Error: hang took longer than 1 s"), ("die", "Error: die failed: ")):
        assert use(bench, server, name, short).text.startswith(said)
        assert use(bench, server, "double", n=4).text == "8"


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (Sql("/nowhere/x.db"), "there is no database '/nowhere/x.db'"),
        (Mcp(["true"]), "the MCP server true does not start"),
    ],
)
def test_what_cannot_be_used_says_why_before_anybody_calls_it(kind: Kind, problem: str, bench: Bench) -> None:
    found = bench.ready(kind, LIMITS.memory_mib)
    assert problem in found.problem
    assert found.schemas == ()


@pytest.mark.parametrize(
    ("corpus", "problem"),
    [
        ("", "odd.jsonl holds no documents"),
        ("\n", "odd.jsonl holds no documents"),
        ('"a"\n{"title": "b"}', "odd.jsonl, line 2 must be a text, or an object with a text 'text', got "),
        ('"a"\n\n{', "odd.jsonl, line 3 is no JSON: "),
        ("[1]", "odd.jsonl, line 1 must be a text"),
        ('"?!"', "odd.jsonl holds no words"),
        ("\udcff", "odd.jsonl cannot be read: "),
    ],
)
def test_a_corpus_without_texts_is_refused(corpus: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text(corpus, errors="surrogateescape")
    with pytest.raises(ValueError, match=re.escape(problem)):
        Search(str(tmp_path / "odd.jsonl")).start()

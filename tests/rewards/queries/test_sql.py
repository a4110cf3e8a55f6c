import json
import re
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import duckdb
import pytest

import rewards
from rewards.queries.databases import Limits, QueryError, find_database
from rewards.queries.running import run_query
from rewards.queries.sql import SqlSettings, check_sql, sql, variants
from rewards.settings import Budget
from rewards.verdict import Case, Outcome, RewardResult
from tests.hostile_queries import write_databases
from tests.tables import each

DATA = Path(__file__).parents[4] / "shared/data/sql"
ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t)"
CORRECT, WRONG, TIMEOUT = Outcome.CORRECT, Outcome.WRONG, Outcome.TIMEOUT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("a folder #%[x]*")
    write_databases(home)
    (home / "broken.sqlite").write_text("this is no database, but it is long enough to be looked at" * 100)
    return home


def settings(folder: Path, **values: object) -> tuple[SqlSettings, Budget]:
    budget = Budget(seconds=float(str(values.pop("seconds", 100.0))))
    return SqlSettings.model_validate({"databases": str(folder)} | values), budget


def judged(gold: str, query: str, setting: tuple[SqlSettings, Budget], name: str = "p") -> RewardResult:
    reference = json.dumps({"query": gold, "db_name": name})
    return sql(Case(response=f"```sql\n{query}\n```", reference=reference), *setting)


@pytest.mark.parametrize(
    ("gold", "queries"),
    [
        ("SELECT a FROM t;SELECT b FROM t;", ["SELECT a FROM t", "SELECT b FROM t"]),
        ("SELECT {a, b} FROM t", ["SELECT a FROM t", "SELECT b FROM t", "SELECT a, b FROM t"]),
        (
            "SELECT {a AS x,f(b, 1)}, count(*) FROM t GROUP BY {}",
            [
                "SELECT a AS x, count(*) FROM t GROUP BY a",
                "SELECT f(b, 1), count(*) FROM t GROUP BY f(b, 1)",
                "SELECT a AS x, f(b, 1), count(*) FROM t GROUP BY a, f(b, 1)",
            ],
        ),
        ("SELECT {a}, {b} FROM t GROUP BY {}", ["SELECT a, b FROM t GROUP BY a, b"]),
        (
            "SELECT {a,b} FROM t GROUP BY {a,b}",
            ["SELECT a FROM t GROUP BY a", "SELECT b FROM t GROUP BY b", "SELECT a, b FROM t GROUP BY a, b"],
        ),
        ("SELECT '{a, b}' FROM t", ["SELECT '{a, b}' FROM t"]),
        ("SELECT {'a': 1, 'b': 2}", ["SELECT {'a': 1, 'b': 2}"]),
        ("SELECT {a, b} FROM t; SELECT a FROM t", ["SELECT a FROM t", "SELECT b FROM t", "SELECT a, b FROM t"]),
    ],
)
def test_a_gold_query_stands_for_every_choice_of_its_columns(gold: str, queries: list[str]) -> None:
    assert variants(gold) == queries


@pytest.mark.parametrize("columns", [8, 200])
def test_a_gold_query_of_too_many_choices_is_refused(columns: int) -> None:
    with pytest.raises(ValueError, match="more than 128 queries"):
        variants(f"SELECT {{{', '.join(f'c{number}' for number in range(columns))}}} FROM t")


@each(
    ("gold", "query", "outcome", "why"),
    [
        ("SELECT name FROM people", "SELECT name FROM people ORDER BY age DESC", CORRECT, "the gold result, 4 rows"),
        ("SELECT name, age FROM people", "SELECT age, name FROM people", CORRECT, "the gold result"),
        ("SELECT name, age FROM people", "SELECT name AS who, age + 0 FROM people", CORRECT, "the gold result"),
        ("SELECT name, age FROM people", "SELECT age AS a, name AS b FROM people", WRONG, "gave 4 rows of 2 columns"),
        ("SELECT {name, age} FROM people", "SELECT age, name FROM people", CORRECT, "the gold result"),
        ("SELECT {name, age} FROM people", "SELECT score FROM people", WRONG, "expected 4 rows of"),
        ("SELECT name FROM people; SELECT 7", "SELECT 3 + 4", CORRECT, "the gold result"),
        ("SELECT name FROM people", "SELECT name, age FROM people", WRONG, "gave 4 rows of 2 columns"),
        ("SELECT name FROM people", "SELECT name FROM people LIMIT 3", WRONG, "gave 3 rows of 1 columns, first ('Ada'"),
        ("SELECT name FROM people", "SELECT nam FROM people", WRONG, "SQLite: no such column: nam"),
        ("SELECT name FROM people", "SELECT name FROM people; SELECT 1", WRONG, "holds 2 statements"),
        ("SELECT age FROM people WHERE 0; SELECT 1", "SELECT 5 WHERE 0", WRONG, "gave 0 rows"),
        ("SELECT name FROM people", "SELECT '\udc80' FROM people", WRONG, "SQLite: 'utf-8' codec can't encode"),
        ("SELECT value FROM json_each('[1, 2]')", "SELECT 1 UNION SELECT 2", CORRECT, "the gold result"),
    ],
    every=4,
)
def test_a_query_is_right_when_its_result_is_a_gold_result(
    folder: Path, gold: str, query: str, outcome: Outcome, why: str
) -> None:
    said = judged(gold, query, settings(folder))
    assert said.outcome is outcome
    assert why in said.why


@each(
    ("name", "gold", "query", "outcome"),
    [
        ("p", "SELECT NULL, 1", "SELECT NULL AS a, 1.0 AS b", CORRECT),
        ("p", "SELECT NULL, 1", "SELECT '', 1", WRONG),
        ("p", "SELECT NULL, 1", "SELECT 0, 1", WRONG),
        ("p", "SELECT 1", "SELECT '1'", WRONG),
        ("p", "SELECT 2.5", "SELECT 5 / 2", WRONG),
        ("p", "SELECT 0.3", "SELECT 0.1 + 0.2", CORRECT),
        ("p", "SELECT avg(age) FROM people", "SELECT sum(age) * 1.0 / count(*) FROM people", CORRECT),
        ("p", "SELECT 58.25", "SELECT round(avg(age)) FROM people", WRONG),
        ("p", "SELECT name, name FROM people", "SELECT name AS a, name AS a FROM people", CORRECT),
        ("p", "SELECT name, name FROM people", "SELECT name FROM people", WRONG),
        ("p", "SELECT 1 UNION ALL SELECT 1", "SELECT 1", WRONG),
        ("p", "SELECT DISTINCT score FROM people WHERE score > 2", "SELECT score FROM people WHERE score > 2", WRONG),
        ("p", "SELECT score FROM people", "SELECT score FROM people WHERE score IS NOT NULL", WRONG),
        ("p", "SELECT 'a', x'61'", "SELECT 'a', 'a'", WRONG),
        (
            "p",
            "SELECT name FROM people ORDER BY score IS NULL, score",
            "VALUES ('Ada'), ('Grace'), ('Alan'), ('Kurt')",
            CORRECT,
        ),
        (
            "p",
            "SELECT name FROM people ORDER BY score IS NULL, score",
            "VALUES ('Kurt'), ('Ada'), ('Grace'), ('Alan')",
            WRONG,
        ),
        ("d", "SELECT DATE '2020-01-02'", "SELECT TIMESTAMP '2020-01-02 00:00:00'", CORRECT),
        ("d", "SELECT DATE '2020-01-02'", "SELECT '2020-01-02'", CORRECT),
        ("d", "SELECT DATE '2020-01-02'", "SELECT DATE '2020-01-03'", WRONG),
        ("d", "SELECT DATE '2020-01-02'", "SELECT TIMESTAMP '2020-01-02 00:00:01'", WRONG),
        (
            "d",
            "SELECT 1 AS a, TIMESTAMPTZ '2020-01-02 03:04:05+01:00' AS t -- as Parquet files have them",
            "SELECT TIMESTAMP '2020-01-02 02:04:05' AS t, 1 AS a",
            CORRECT,
        ),
        (
            "d",
            "SELECT age, now() AS t FROM people ORDER BY age DESC",
            "SELECT age, now() AS t FROM people ORDER BY age",
            WRONG,
        ),
        ("d", "SELECT 1.50::DECIMAL(10, 2)", "SELECT 1.5::DOUBLE", CORRECT),
        ("d", "SELECT true", "SELECT 1", CORRECT),
        ("d", "SELECT sum(age) FROM people", "SELECT 233.0::DOUBLE", CORRECT),
        ("d", "SELECT [1, 2]", "SELECT [2, 1]", WRONG),
        ("d", "SELECT 'nan'::DOUBLE", "SELECT 'nan'::FLOAT", CORRECT),
    ],
    every=4,
)
def test_cells_are_equal_by_value_and_every_row_and_column_counts(
    folder: Path, name: str, gold: str, query: str, outcome: Outcome
) -> None:
    assert judged(gold, query, settings(folder), name).outcome is outcome


@each(
    "response",
    [
        "",
        " ",
        ";",
        "```sql\n```",
        "```sql\n;\n```",
        "```sql\n-- nothing\n```",
        "<answer></answer>",
        "SELECT",
        "`SELECT`",
    ],
)
def test_an_empty_answer_is_right_against_no_reference(folder: Path, response: str) -> None:
    for gold in (
        "SELECT name FROM people",
        "SELECT NULL",
        "SELECT ''",
        "SELECT 0",
        "SELECT count(*) FROM people WHERE 0",
    ):
        said = sql(Case(response=response, reference=json.dumps({"query": gold, "db_name": "p"})), *settings(folder))
        assert said.outcome in (WRONG, Outcome.UNPARSABLE), said
        assert said.reward == 0


BY_SCORE = "SELECT name FROM people WHERE score > 0 ORDER BY score DESC"


@each(
    ("gold", "query", "outcome"),
    [
        (BY_SCORE, "VALUES ('Grace'), ('Alan'), ('Ada')", CORRECT),  # Alan and Grace tie, on a key that is not shown
        (BY_SCORE, "VALUES ('Alan'), ('Grace'), ('Ada')", CORRECT),
        (BY_SCORE, "VALUES ('Ada'), ('Alan'), ('Grace')", WRONG),
        (BY_SCORE + ", name", "VALUES ('Grace'), ('Alan'), ('Ada')", WRONG),
        ("SELECT name, score FROM people p ORDER BY p.score DESC", "SELECT name, score FROM people ORDER BY 2", WRONG),
        ("SELECT name, age a FROM people ORDER BY 2", "SELECT name, age FROM people ORDER BY -age", WRONG),
        ("SELECT name, age a FROM people ORDER BY a", "SELECT name, age FROM people ORDER BY age", CORRECT),
        ("SELECT name, age a FROM people ORDER BY a * 2", "SELECT name, age FROM people ORDER BY age", CORRECT),
        ("SELECT name, age a FROM people ORDER BY a * 2", "SELECT name, age FROM people ORDER BY -age", WRONG),
        ("SELECT DISTINCT name FROM people ORDER BY age", "SELECT name FROM people ORDER BY age DESC", WRONG),
        ("SELECT name FROM (SELECT * FROM people ORDER BY age)", "SELECT name FROM people ORDER BY -age", CORRECT),
        ("SELECT name, sum(age) OVER (ORDER BY age) FROM people", "SELECT name, 0 FROM people", WRONG),
        ("SELECT name, rank() OVER (ORDER BY age) r FROM people", "VALUES "
         "('Grace', 4), ('Kurt', 3), ('Alan', 2), ('Ada', 1)", CORRECT),
        ("SELECT name FROM people WHERE name <> ' ORDER BY age'", "SELECT name FROM people ORDER BY -age", CORRECT),
        ("SELECT name FROM people -- ORDER BY age", "SELECT name FROM people ORDER BY -age", CORRECT),
        ("SELECT 1 AS n UNION SELECT 2 ORDER BY n", "VALUES (2), (1)", WRONG),
        ("WITH t AS (SELECT * FROM people) SELECT name FROM t ORDER BY score IS NULL, age LIMIT 9",
         "VALUES ('Ada'), ('Alan'), ('Grace'), ('Kurt')", CORRECT),
        ("WITH t AS (SELECT * FROM people) SELECT name FROM t ORDER BY score IS NULL, age LIMIT 9",
         "VALUES ('Ada'), ('Grace'), ('Alan'), ('Kurt')", WRONG),
    ],
    every=4,
)  # fmt: skip
def test_rows_count_in_order_where_the_whole_gold_query_orders(
    folder: Path, gold: str, query: str, outcome: Outcome
) -> None:
    assert judged(gold, query, settings(folder)).outcome is outcome


def test_a_wrong_result_is_worth_its_share_of_the_dense_reward_of_think2sql(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "p.db") as connection:
        connection.execute("CREATE TABLE t AS SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'))")
    connection.close()
    gold, query = "SELECT * FROM t; SELECT 0", "SELECT * FROM t LIMIT 2"
    said = judged(gold, query, settings(tmp_path, partial=0.3))
    assert said.parts == {"execution": 0, "cell_precision": 1, "cell_recall": 0.5, "cardinality": 0.5}
    assert said.reward == pytest.approx(0.3 * 0.6667, abs=1e-4)
    assert judged(gold, query, settings(tmp_path)).reward == 0
    right = judged(gold, "SELECT * FROM t", settings(tmp_path, partial=0.3))
    assert (right.reward, set(right.parts.values())) == (1, {1})
    assert judged(gold, "SELECT nothing", settings(tmp_path, partial=0.3)).reward == 0


@pytest.mark.parametrize("name", ["p", "in", "d", "files"])
def test_every_kind_of_database_is_found_and_asked(folder: Path, name: str) -> None:
    gold = "SELECT name, score FROM people WHERE age > 40"
    assert judged(gold, gold + " AND 1 = 1", settings(folder), name).outcome is CORRECT
    assert judged(gold, gold + " AND age < 80", settings(folder), name).outcome is WRONG


def test_a_csv_file_is_a_table_named_by_its_stem(folder: Path) -> None:
    query = 'SELECT a.name FROM "people-csv" AS a JOIN people AS b ON a.name = b.name WHERE a.age = 41'
    assert judged("SELECT 'Alan'", query, settings(folder), "files").outcome is CORRECT


@each(
    ("reference", "message"),
    [
        ("SELECT 1", "is not JSON"),
        ("[1]", 'must be an object with the gold "query"'),
        ('{"db_name": "p"}', 'must be an object with the gold "query"'),
        ('{"query": " ; ", "db_name": "p"}', 'must be an object with the gold "query"'),
        ('{"query": "SELECT 1"}', 'must name its database, as "db_name", "db_id" or "database"'),
        ('{"question": "How many?", "db_id": "p"}', 'the gold "query", or "SQL" as BIRD has it'),
        ("[" * 100_000, "is not JSON"),
        ('{"query": "SELECT 1", "db_name": "q"}', "there is no SQLite or DuckDB database 'q'.*broken.sqlite, d.duckdb"),
        ('{"query": "SELECT 1", "db_name": "p", "db_type": "duckdb"}', "there is no duckdb database 'p'"),
        ('{"query": "SELECT 1", "db_name": "p", "db_type": "postgres"}', "db_type must be 'sqlite' or 'duckdb'"),
        ('{"query": "SELECT 1", "db_name": "../p"}', "must be a plain name"),
        ('{"query": "SELECT 1", "db_name": "in/in"}', "must be a plain name"),
        ('{"query": "SELECT 1", "db_name": ".."}', "must be a plain name"),
        ('{"query": "SELECT x FROM people", "db_name": "p"}', "does not run: SQLite: no such column: x"),
        ('{"query": "SELECT x FROM people", "db_name": "d"}', "does not run: DuckDB: Binder Error"),
        ('{"query": "SELECT 1; DELETE FROM people", "db_name": "p"}', "does not run: refused: DELETE is not a SELECT"),
        ('{"query": "SELECT 1 WHERE 0", "db_name": "p"}', "gives no rows"),
        ('{"query": "SELECT 1", "db_name": "broken"}', "does not run: SQLite: file is not a database"),
        (
            '{"query": "SELECT 1 FROM people, people, people", "db_name": "p"}',
            "more than 50 rows; raise the reward's setting rows",
        ),
        (json.dumps({"query": ENDLESS + " SELECT sum(n) FROM t", "db_name": "p"}), "took over .* raise reward.seconds"),
    ],
)
def test_a_reference_that_nothing_can_be_judged_against_is_named(folder: Path, reference: str, message: str) -> None:
    seconds = 0.5 if message.startswith("took over") else 100.0
    with pytest.raises(ValueError, match=message):
        check_sql(reference, *settings(folder, rows=50, seconds=seconds))


def test_a_reference_may_name_its_database_either_way(folder: Path) -> None:
    check_sql('{"query": "SELECT 1", "database": "p", "db_type": "sqlite"}', *settings(folder))
    check_sql('{"SQL": "SELECT 1", "db_id": "p", "evidence": "", "question": "How many?"}', *settings(folder))
    check_sql('{"query": "SELECT 1", "db_id": "in", "sql": {"select": []}}', *settings(folder))
    with pytest.raises(ValueError, match="has 'query' and 'SQL' with different texts"):
        check_sql('{"query": "How many?", "SQL": "SELECT 1", "db_id": "p"}', *settings(folder))
    with pytest.raises(ValueError, match="databases must be the folder of the databases"):
        check_sql('{"query": "SELECT 1", "db_name": "p"}', SqlSettings(), Budget())


def test_a_variable_of_python_is_no_table(folder: Path) -> None:
    people_of_python = duckdb.sql("SELECT 1")
    database = find_database(str(folder), "files")
    with pytest.raises(QueryError, match="people_of_python"):
        run_query(database, "SELECT * FROM people_of_python", Limits(seconds=60, rows=10, memory_mib=2048))
    assert people_of_python.fetchall() == [(1,)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["p", "d", "files"])
@pytest.mark.parametrize(
    ("query", "outcome", "why"),
    [
        (ENDLESS + " SELECT count(*) FROM t", TIMEOUT, "ran longer than 1.6 s"),
        (ENDLESS + " SELECT n FROM t WHERE n < 0", TIMEOUT, "ran longer than 1.6 s"),
        (ENDLESS + " SELECT n FROM t", WRONG, "gave more than 100 rows, expected 4 rows"),
        (ENDLESS + " SELECT n FROM t LIMIT 100", WRONG, "gave 100 rows of 1 columns"),
    ],
)
def test_an_endless_query_ends_at_its_deadline_or_its_row_limit(
    folder: Path, name: str, query: str, outcome: Outcome, why: str
) -> None:
    seconds = 4.0 if outcome is TIMEOUT else 100.0  # of which the query has two fifths
    before = threading.active_count()
    said = judged("SELECT name FROM people", query, settings(folder, seconds=seconds, rows=100), name)
    assert (said.outcome, why in said.why) == (outcome, True)
    assert threading.active_count() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("p", "SELECT zeroblob(1000000000)"),
        ("p", "SELECT length(randomblob(1000000000))"),
        ("p", "SELECT replace(hex(zeroblob(8000000)), '0', 'aaaaaaaaaaaaaaaa')"),
        ("p", "SELECT group_concat(hex(zeroblob(4000000))) FROM people"),
        ("p", f"{ENDLESS} SELECT hex(zeroblob(400000)) FROM t"),
        ("d", "SELECT list(i) FROM range(1000000000) AS t(i)"),
        ("d", "SELECT string_agg(repeat('ab', 1000000), '') FROM range(100000)"),
        ("files", "SELECT repeat('a', 100000) FROM range(2000)"),
    ],
)
def test_a_query_that_swells_is_stopped_before_it_takes_the_memory(folder: Path, name: str, query: str) -> None:
    said = judged("SELECT name FROM people", query, settings(folder), name)
    assert said.outcome is WRONG
    assert re.search("too big|Out of Memory|MiB of text", said.why)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["p", "d", "files"])
def test_a_process_of_limited_memory_judges_and_survives_a_swelling_query(folder: Path, name: str) -> None:
    code = """
import json, resource, sys
from rewards.settings import Budget
from rewards.queries.running import run_query
from rewards.queries.sql import SqlSettings, sql
from rewards.verdict import Case
folder, name = sys.argv[1:]
budget = Budget(seconds=10)
resource.setrlimit(resource.RLIMIT_AS, (budget.memory_mib * 2**20, budget.memory_mib * 2**20))
reference = json.dumps({"query": "SELECT name FROM people", "db_name": name})
swelling = "SELECT group_concat(a.name) OVER (ORDER BY a.name) FROM people a, " + ", ".join(["people"] * 10)
long = "SELECT length(repeat('a', 2000000000))"
for query in ("SELECT name FROM people", swelling, long, "SELECT name FROM people"):
    print(sql(Case(response=query, reference=reference), SqlSettings(databases=folder), budget).outcome)
"""
    root = Path(rewards.__file__).parents[1]
    command = [sys.executable, "-c", code, str(folder), name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=600)
    outcomes = done.stdout.split()
    assert (outcomes[0], outcomes[2:]) == ("correct", ["wrong", "correct"]), done.stderr
    assert outcomes[1] in ("wrong", "timeout")


def test_a_changed_database_is_asked_anew(tmp_path: Path) -> None:
    gold, setting = "SELECT count(*) FROM t", settings(tmp_path)
    for rows in (1, 2):
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files/t.csv").write_text("a\n" + "1\n" * rows)
        assert judged(gold, f"SELECT {rows}", setting, "files").outcome is CORRECT


def test_a_duckdb_file_that_is_replaced_is_asked_anew(tmp_path: Path) -> None:
    for value in (1, 2, 3):
        with duckdb.connect(str(tmp_path / "new")) as connection:
            connection.execute(f"CREATE TABLE t AS SELECT {value} AS a")
        (tmp_path / "new").replace(tmp_path / "x.duckdb")
        assert judged("SELECT a FROM t", f"SELECT {value}", settings(tmp_path), "x").outcome is CORRECT


def questions() -> list[dict[str, str]]:
    if not (DATA / "questions.jsonl").is_file():
        pytest.skip(f"needs the SQL questions of defog, which are not at {DATA}")
    return [json.loads(line) for line in (DATA / "questions.jsonl").read_text().splitlines()]


def rows_of(row: dict[str, str], query: str) -> list[tuple]:
    connection = sqlite3.connect(f"file:{DATA / row['db_name']}.sqlite?mode=ro&immutable=1", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def answered(row: dict[str, str], query: str) -> Outcome:
    return sql(Case(response=query, reference=json.dumps(row)), *settings(DATA)).outcome


@pytest.mark.slow
def test_every_gold_query_of_defog_is_right_against_itself() -> None:
    rows = questions()
    assert len(rows) == 80
    for row in rows:
        check_sql(json.dumps(row), *settings(DATA))
        for query in variants(row["query"]):
            assert answered(row, query) is CORRECT, query


def mutations(query: str) -> list[str]:
    found = [f"SELECT * FROM ({query}) LIMIT 1", f"SELECT *, 1 FROM ({query})", f"SELECT * FROM ({query}) WHERE 0"]
    found.append(f"SELECT * FROM ({query}) UNION ALL SELECT * FROM ({query})")
    found.append(re.sub(r" WHERE .*?(?= GROUP BY| ORDER BY| LIMIT|$)", "", query, count=1))
    found += [re.sub(r"^SELECT (DISTINCT )?\w+\.\w+", rf"SELECT \g<1>{other}", query) for other in ("'x'", "1", "NULL")]
    return [mutation for mutation in found if mutation != query]


@pytest.mark.slow
def test_a_mutated_gold_query_of_defog_is_wrong_unless_its_rows_are_the_same() -> None:
    wrong = 0
    for row in questions():
        golds = [Counter(rows_of(row, query)) for query in variants(row["query"])]
        for query in mutations(variants(row["query"])[0]):
            try:
                right = Counter(rows_of(row, query)) in golds
            except sqlite3.OperationalError:  # the mutation does not run
                right = False
            found = answered(row, query)
            assert found is CORRECT or not right or " ORDER BY " in query
            assert found is WRONG or right, query
            wrong += not right
    assert wrong > 300


@pytest.mark.slow
def test_a_gold_query_of_defog_in_reverse_order_is_wrong() -> None:
    wrong = 0
    for row in questions():
        golds = variants(row["query"])
        query = golds[0]
        if " DESC" not in query or " LIMIT " in query or not all(" ORDER BY " in gold for gold in golds):
            continue
        turned = query.replace(" DESC NULLS FIRST", " ASC NULLS LAST").replace(" DESC", " ASC")
        keys = {one[-1] for one in rows_of(row, query)}  # these queries order by their last column
        assert answered(row, turned) is (WRONG if len(keys) > 1 else CORRECT), turned
        wrong += len(keys) > 1
    assert wrong >= 20

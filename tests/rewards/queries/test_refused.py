import json
from pathlib import Path

import pytest

from rewards.queries.sql import SqlSettings, sql
from rewards.settings import Budget
from rewards.verdict import Case, Outcome, RewardResult
from tests.hostile_queries import (
    BROKEN_ANYWHERE,
    BROKEN_IN_DUCKDB,
    BROKEN_IN_SQLITE,
    CALLING,
    IN_A_WITH,
    REACHING,
    REFUSED,
    REFUSED_BY_DUCKDB,
    REFUSED_BY_SQLITE,
    WRITING,
    digest,
    write_databases,
)
from tests.tables import each

CORRECT, WRONG = Outcome.CORRECT, Outcome.WRONG


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("a folder #%[x]*")
    write_databases(home)
    return home


def settings(folder: Path, **values: object) -> tuple[SqlSettings, Budget]:
    budget = Budget(seconds=float(str(values.pop("seconds", 100.0))))
    return SqlSettings.model_validate({"databases": str(folder)} | values), budget


def judged(gold: str, query: str, setting: tuple[SqlSettings, Budget], name: str = "p") -> RewardResult:
    reference = json.dumps({"query": gold, "db_name": name})
    return sql(Case(response=f"```sql\n{query}\n```", reference=reference), *setting)


@each(
    ("name", "statement"),
    [(name, statement) for name in ("p", "d", "files") for statement in REFUSED]
    + [("p", statement) for statement in REFUSED_BY_SQLITE]
    + [(name, statement) for name in ("d", "files") for statement in REFUSED_BY_DUCKDB],
    every=9,
)
def test_what_does_more_than_read_the_database_is_refused_and_changes_no_file(
    folder: Path, name: str, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = digest(folder)
    said = judged(
        "SELECT name FROM people", statement.replace("OTHER", str(tmp_path / "other")), settings(folder), name
    )
    assert said.outcome is WRONG
    assert said.why.startswith("refused: ")
    assert digest(folder) == before
    assert list(tmp_path.iterdir()) == []


@each(
    ("name", "query"),
    [("files", query) for query in WRITING]
    + [("d", query) for query in (*WRITING[: len(IN_A_WITH)], *REACHING, *CALLING)],
    every=9,
)
def test_a_query_of_duckdb_that_does_more_than_read_tables_is_refused_though_its_result_be_right(
    folder: Path, name: str, query: str, tmp_path: Path
) -> None:
    before = digest(folder)
    query = query.replace("DATABASE", str(folder / "d.duckdb")).replace("OTHER", str(tmp_path / "other"))
    said = judged("SELECT count(*) FROM people; SELECT 4, 4", query, settings(folder), name)
    assert (said.outcome, said.why.startswith("refused: ")) == (WRONG, True), said
    assert (digest(folder), list(tmp_path.iterdir())) == (before, [])


@each(
    "query",
    [
        "SELECT count(*) FROM main.people AS p",
        "WITH a AS (SELECT 4 AS x) SELECT x FROM A",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 4) SELECT max(n) FROM t",
        "SELECT count(*) FROM generate_series(1, 4)",
        "SELECT sum(x) FROM unnest([1, 3]) AS u(x)",
        "SELECT max(x) FROM (SELECT 4 AS x, random() AS r)",
        "FROM (VALUES (4))",
        "SELECT list_sum(list_transform([1, 1], lambda x: 2 * x))",
        "SELECT n FROM (PIVOT people ON age IN (36, 41) USING count(*)) CROSS JOIN (SELECT 4 AS n) LIMIT 1",
        "SELECT count(*) AS n FROM people GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 100%",
        "SELECT -- one\n count(*) /* two */ FROM people",
        "(SELECT 4)",
    ],
    every=4,
)
def test_what_only_reads_is_run_by_duckdb(folder: Path, query: str) -> None:
    said = judged("SELECT count(*) FROM people", query, settings(folder), "d")
    assert said.outcome is CORRECT, said


@each(
    ("name", "query"),
    [(name, query) for name in ("p", "d") for query in BROKEN_ANYWHERE]
    + [("p", query) for query in BROKEN_IN_SQLITE]
    + [("d", query) for query in BROKEN_IN_DUCKDB],
    every=5,
)
def test_what_a_query_alone_causes_is_wrong_and_no_error(folder: Path, name: str, query: str) -> None:
    said = judged("SELECT count(*) FROM people", query, settings(folder), name)
    assert said.outcome is WRONG, said
    assert said.why.encode()


@pytest.mark.parametrize("name", ["p", "d", "files"])
def test_behind_all_that_was_refused_a_right_query_is_right(folder: Path, name: str) -> None:
    """The last test of the folder."""
    gold = "SELECT sum(age) FROM people"
    for query in (gold, "SELECT 36 + 41 + 85 + 71"):
        assert judged(gold, query, settings(folder), name).outcome is CORRECT

"""The reward "sql": the response's query gives the same result as the reference's query on the same database.

The reference is a JSON object {"query": ..., "db_name": ..., "db_type": "sqlite" or "duckdb" (optional)}; it may say
"SQL" and "db_id" instead, as Spider and BIRD do, and other keys play no part. Its query is in the notation of defog's
sql-eval: alternatives are separated by ";", and {a, b} stands for any non-empty choice of the columns a and b, in their
order; a later {} (as in GROUP BY {}) for the same choice. A response is right when its result equals that of one
alternative, with no column more or less. An alternative without rows is equal to nothing, because every query that
finds nothing would equal it. Where the gold query has LIMIT without a full ORDER BY, the rows that SQL leaves open are
those that the database gave for the gold query.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, product
from math import prod
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rewards.queries.databases import Database, Limits, QueryError, QueryTimeout, find_database
from rewards.queries.ordering import ordering_of
from rewards.queries.results import NO_OVERLAP, WHOLE, Overlap, Result, Row, overlap, same
from rewards.queries.running import run_query
from rewards.queries.text import Token, query_of, statements, tokens
from rewards.settings import Budget, KindSettings, Partial, PathText
from rewards.verdict import Case, Outcome, RewardResult

SHARE = 0.4  # of reward.seconds, for the gold queries together and for the response's query each
MOST_VARIANTS = 128  # of one reference
LONGEST_WHY = 300  # characters
GOLD_KEYS = ("query", "SQL", "sql")  # of a reference: sql-eval and Spider, BIRD
DATABASE_KEYS = ("db_name", "db_id", "database")  # sql-eval, Spider and BIRD


class SqlSettings(KindSettings):
    """[reward.sql]."""

    databases: PathText = ""  # the folder in which the databases lie that references name
    rows: Annotated[int, Field(ge=1)] = 10_000  # most rows that are read of a result
    partial: Partial = 0.0  # the reward of a wrong result is this times its overlap with the gold result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The result of one gold query."""

    result: Result
    keys: tuple[Row, ...] | None  # what each row was ordered by; None where the query does not order


def sql(case: Case, settings: SqlSettings, budget: Budget) -> RewardResult:
    """Correct when the response's query gives the gold result; see `rewards.queries.results.same` for what is equal.

    Rows are compared as a list where the gold query orders its result, otherwise as a bag. A wrong result has the
    reward settings.partial * (CP + CR + TC) / 3 (Think2SQL, arXiv 2504.15077; `overlap` in results.py), against the
    gold result that it comes closest to. A query that is refused, fails, or gives more than settings.rows rows is
    wrong with the reward 0; one that takes longer than its share of budget.seconds has no verdict.

    Raises:
        ValueError: as `check_sql`.
    """
    database, wanted = _reference(case.reference, settings, budget)
    query = query_of(case.response)
    if query is None:
        return _graded(Outcome.UNPARSABLE, "the response holds no SQL query")
    if (count := len(statements(query))) > 1:
        return _graded(Outcome.WRONG, f"the response holds {count} statements, expected one SELECT query")
    try:
        given = run_query(database, query, _limits(settings, budget))
        if given.more:
            return _graded(Outcome.WRONG, f"gave more than {settings.rows} rows, expected {_shape(wanted[0].result)}")
        return _compared(wanted, given, settings.partial)
    except QueryError as failure:
        return _graded(Outcome.WRONG, str(failure))
    except (RecursionError, MemoryError):
        return _graded(Outcome.WRONG, "the result is nested too deeply or too large to be compared")
    except QueryTimeout as failure:
        return RewardResult(outcome=Outcome.TIMEOUT, why=str(failure))


def check_sql(reference: str, settings: SqlSettings, budget: Budget) -> None:
    """Makes sure that a response could be correct against the reference.

    Raises:
        ValueError: the reference is not a JSON object with a query and a database that is there, a gold query does not
            run within its limits, or none of the gold queries gives a row.
    """
    _reference(reference, settings, budget)


def check_sql_settings(settings: SqlSettings) -> None:
    """Makes sure that there is a folder of databases.

    Raises:
        ValueError: there is none.
    """
    if not Path(settings.databases).is_dir() or not settings.databases:
        raise ValueError(f"databases must be the folder of the databases, got {settings.databases!r}")


def variants(query: str) -> list[str]:
    """The queries that a gold query in the notation of sql-eval stands for, each once.

    Example: ``variants("SELECT {a, b} FROM t")`` is ``["SELECT a FROM t", "SELECT b FROM t", "SELECT a, b FROM t"]``

    Raises:
        ValueError: there are more than 128.
    """
    found = dict[str, None]()
    for statement in statements(query):
        groups = _groups(statement)
        choices = {each.inside: _choices(each.inside) for each in groups if each.inside}
        if len(found) + prod(map(len, choices.values())) > MOST_VARIANTS:
            raise ValueError(f"the gold query stands for more than {MOST_VARIANTS} queries: use fewer columns in {{}}")
        for chosen in product(*choices.values()):
            found[_filled(statement, groups, dict(zip(choices, chosen, strict=True)))] = None
    return list(found)


def _reference(text: str, settings: SqlSettings, budget: Budget) -> tuple[Database, tuple[_Wanted, ...]]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise ValueError(f"the reference {text[:80]!r} is not JSON: {failure}") from failure
    query, name = _field(fields, GOLD_KEYS), _field(fields, DATABASE_KEYS)
    if not query.strip(" \t\n;"):
        raise ValueError(
            f'the reference {text[:80]!r} must be an object with the gold "query", or "SQL" as BIRD has it'
        )
    kind = fields.get("db_type") or ""
    if not name or not isinstance(kind, str):
        raise ValueError(f'the reference {text[:80]!r} must name its database, as "db_name", "db_id" or "database"')
    database = find_database(settings.databases, name, kind)
    return database, _gold(database, query, _limits(settings, budget))


def _field(fields: object, keys: Sequence[str]) -> str:
    """The text under one of several keys of an object; "" where there is none.

    Raises:
        ValueError: two of the keys have different texts.
    """
    found = {key: fields[key] for key in keys if isinstance(fields, dict) and isinstance(fields.get(key), str)}
    if len(set(found.values())) > 1:
        raise ValueError(f"the reference has {' and '.join(map(repr, found))} with different texts: keep one of them")
    return next(iter(found.values()), "")


def _limits(settings: SqlSettings, budget: Budget) -> Limits:
    return Limits(seconds=SHARE * budget.seconds, rows=settings.rows, memory_mib=budget.memory_mib)


@lru_cache(maxsize=32)
def _gold(database: Database, query: str, limits: Limits) -> tuple[_Wanted, ...]:
    """The results of all gold queries that gave rows; kept, because the siblings of a group share them."""
    end = time.monotonic() + limits.seconds
    found = list[_Wanted]()
    for variant in variants(query):
        try:
            found.append(_wanted(database, variant, replace(limits, seconds=max(end - time.monotonic(), 0.0))))
        except QueryError as failure:
            raise ValueError(f"the gold query {variant[:200]!r} does not run: {failure}") from failure
        except QueryTimeout as failure:
            raise ValueError(f"the gold query took over {limits.seconds:g} s; raise reward.seconds") from failure
    found = [wanted for wanted in found if wanted.result.rows]
    if not found:
        raise ValueError(f"the gold query {query[:200]!r} gives no rows: every query that finds nothing would be right")
    return tuple(found)


def _wanted(database: Database, query: str, limits: Limits) -> _Wanted:
    end = time.monotonic() + limits.seconds
    result = run_query(database, query, limits)
    if result.more:
        raise QueryError(f"it gives more than {limits.rows} rows; raise the reward's setting rows")
    ordering = ordering_of(query, "sqlite" if database.engine == "sqlite" else "duckdb", result.columns)
    if ordering is None or len(result.rows) < 2:
        return _Wanted(result=result, keys=None)
    strict = _Wanted(result=result, keys=tuple((number,) for number in range(len(result.rows))))
    if ordering.keyed is None:
        return strict
    try:
        left = replace(limits, seconds=max(end - time.monotonic(), 0.0))
        rows = result.rows if ordering.keyed == query else run_query(database, ordering.keyed, left).rows
    except QueryError:  # a key that is no column, such as an expression of aliases: the order counts in full
        return strict
    width = len(result.columns)
    if sorted(map(repr, result.rows)) != sorted(repr(row[:width]) for row in rows):
        return strict
    keys = tuple((*(row[place] for place in ordering.places), *row[width:]) for row in rows)
    return _Wanted(result=replace(result, rows=tuple(row[:width] for row in rows)), keys=keys)


def _compared(wanted: Sequence[_Wanted], given: Result, partial: float) -> RewardResult:
    for one in wanted:
        if same(one.result, given, one.keys):
            why = f"the gold result, {_shape(given)}"
            return RewardResult(outcome=Outcome.CORRECT, why=why[:LONGEST_WHY], parts=_parts(1.0, WHOLE))
    measured = [overlap(one.result, given) for one in wanted]
    best = max(range(len(wanted)), key=lambda number: measured[number].mean)
    expected = wanted[best].result
    if any(same(one.result, given, None) for one in wanted):
        why = "gave the rows of the gold result in another order"
    else:
        why = f"gave {_shape(given)}, expected {_shape(expected)}"
    return _graded(Outcome.WRONG, why, measured[best], partial)


def _graded(outcome: Outcome, why: str, measured: Overlap = NO_OVERLAP, partial: float = 0.0) -> RewardResult:
    parts = _parts(0.0, measured)
    return RewardResult(outcome=outcome, why=why[:LONGEST_WHY], reward=partial * measured.mean, parts=parts)


def _parts(execution: float, measured: Overlap) -> dict[str, float]:
    return {
        "execution": execution,
        "cell_precision": measured.precision,
        "cell_recall": measured.recall,
        "cardinality": measured.cardinality,
    }


def _shape(result: Result) -> str:
    first = f", first {str(result.rows[0])[:80]}" if result.rows else ""
    return f"{len(result.rows)} rows of {len(result.columns)} columns{first}"


def _split(tokens: Sequence[Token], depth: int) -> list[list[Token]]:
    """The parts between the commas of a depth."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.text == "," and token.depth == depth:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Braces:
    """A choice of columns in braces."""

    start: int  # characters of the statement before it
    end: int  # characters of the statement up to its end
    inside: str


def _groups(statement: str) -> list[_Braces]:
    """The choices in braces of a statement; a colon inside makes them a value of DuckDB, no choice."""
    found, opened = list[_Braces](), list[Token]()
    for token in tokens(statement):
        if token.text == "{":
            opened.append(token)
        elif token.text == "}" and opened:
            start = opened.pop()
            inside = statement[start.end : token.start].strip()
            if not opened and not any(part.text == ":" for part in tokens(inside)):
                found.append(_Braces(start=start.start, end=token.end, inside=inside))
    return found


def _choices(inside: str) -> list[tuple[str, ...]]:
    items = [inside[part[0].start : part[-1].end] for part in _split(list(tokens(inside)), 0)]
    if len(items) > MOST_VARIANTS.bit_length():
        raise ValueError(f"the gold query stands for more than {MOST_VARIANTS} queries: use fewer columns in {{}}")
    return [chosen for size in range(1, len(items) + 1) for chosen in combinations(items, size)]


def _filled(statement: str, groups: Sequence[_Braces], chosen: dict[str, tuple[str, ...]]) -> str:
    text, at = "", 0
    for each in groups:
        items = chosen[each.inside] if each.inside else [_unnamed(item) for items in chosen.values() for item in items]
        text, at = text + statement[at : each.start] + ", ".join(items), each.end
    return text + statement[at:]


def _unnamed(item: str) -> str:
    """A column of a SELECT without its AS name."""
    parts = list(tokens(item))
    named = len(parts) > 2 and parts[-2].word == "AS" and parts[-2].depth == 0
    return item[: parts[-2].start].strip() if named else item

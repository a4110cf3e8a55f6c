"""What a gold query orders its rows by, so that rows with equal keys may come in any order.

The query is parsed by sqlglot, which is imported on first use, in the process that grades: it takes about 0.2 s.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sqlglot import exp

Dialect = Literal["sqlite", "duckdb"]

_ORDERS = re.compile(r"\bORDER\s+BY\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """The ORDER BY of a whole query.

    Example: of ``SELECT name, age FROM t ORDER BY age, score`` it is
    ``Ordering(places=(1,), keyed="SELECT name, age, score FROM t ORDER BY age, score")``
    """

    places: tuple[int, ...]  # the columns of the result that are keys
    keyed: str | None  # the query with its other keys as further columns; None where they would change its rows


def ordering_of(query: str, dialect: Dialect, columns: Sequence[str]) -> Ordering | None:
    """How a query orders its result; None where it does not, though a part of it may.

    Where sqlglot cannot read the query, any ORDER BY in it is taken for the whole query's, with unknown keys.

    Args:
        query: one SELECT query that runs.
        dialect: of SQL.
        columns: the names of its result.
    """
    if not _ORDERS.search(query):
        return None
    import sqlglot

    try:
        tree = sqlglot.parse_one(query, dialect=dialect)
    except (sqlglot.ParseError, sqlglot.errors.TokenError, RecursionError):
        return Ordering(places=(), keyed=None)
    order = tree.args.get("order")
    if order is None:
        return None
    places, hidden = _keys(tree, [term.this for term in order.expressions], [name.casefold() for name in columns])
    return Ordering(places=tuple(places), keyed=_with_columns(tree, hidden, dialect) if hidden else query)


def _keys(tree: "exp.Expr", terms: "Sequence[exp.Expr]", names: Sequence[str]) -> "tuple[list[int], list[exp.Expr]]":
    """The columns of the result that are keys, and the keys that are no columns of it."""
    from sqlglot import exp

    selected = [column.unalias() for column in tree.selects] if isinstance(tree, exp.Query) else []
    places: list[int] = []
    hidden: list[exp.Expr] = []
    for term in terms:
        name = term.name.casefold() if isinstance(term, exp.Column) and not term.table else ""
        if isinstance(term, exp.Literal) and term.is_int and 1 <= int(term.this) <= len(names):
            places.append(int(term.this) - 1)
        elif name in names:
            places.append(names.index(name))
        elif len(selected) == len(names) and term in selected:
            places.append(selected.index(term))
        else:
            hidden.append(term)
    return places, hidden


def _with_columns(tree: "exp.Expr", columns: "Sequence[exp.Expr]", dialect: Dialect) -> str | None:
    """The query with more columns, or None where they would change which rows it gives."""
    from sqlglot import exp

    if not isinstance(tree, exp.Select) or tree.args.get("distinct"):
        return None
    return tree.select(*(column.copy() for column in columns)).sql(dialect=dialect)

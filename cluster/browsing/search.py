"""Answers what the page asks of the index: which groups have responses that fit, a page of them at a time."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.browsing.filters import Filters
from cluster.browsing.index import Index

if TYPE_CHECKING:
    import duckdb

PAGE = 50  # groups
MOST_SHOWN = 64  # responses of a group in a list
MOST_WORDS = 200  # different reasons, seats or outcomes that are offered to choose from
EXCERPT = 220  # characters of a text in a list
BEFORE = 60  # of these, in front of what was searched for
KEPT = 16  # searches whose groups are remembered, so that further pages cost nothing
SORTED = {
    "newest-first": 'step DESC, "group" DESC',
    "oldest-first": 'step, "group"',
    "longest-first": 'max(tokens) DESC, "group"',
    "shortest-first": 'min(tokens), "group"',
    "mixed-first": 'coalesce(var_pop(score), 0) DESC, step DESC, "group" DESC',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What fits."""

    groups: np.ndarray  # int64[G], numbers of groups, sorted as asked
    responses: int  # that fit, in these


class Search:
    """Reads the index, from any thread."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._found: OrderedDict[tuple[int, Filters], Found] = OrderedDict()
        self._lock = threading.Lock()

    def overview(self) -> dict[str, Any]:
        """What there is to choose from: counts, ranges, and the words that the columns hold."""
        cursor = self._index.cursor()
        groups, prompts = _one(cursor, "SELECT count(*), count(DISTINCT prompt_id) FROM groups")
        names = ("responses", "first_step", "last_step", "low", "high", "shortest", "most_tokens", "oldest", "newest")
        values = _one(
            cursor,
            "SELECT count(*), min(step), max(step), min(score), max(score), min(tokens), max(tokens), "
            "min(oldest) FILTER (oldest >= 0), max(newest) FILTER (newest >= 0) FROM responses",
        )
        words = {name: _counted(cursor, name) for name in ("outcome", "rejected", "seat", "finish")}
        return {"groups": groups, "prompts": prompts, **dict(zip(names, values, strict=True)), "words": words}

    def groups(self, filters: Filters, start: int) -> dict[str, Any]:
        """A page of the groups that have a response which fits, from place `start` on, with all of their responses."""
        found = self._groups(filters)
        following = start + PAGE
        return {
            "groups": found.groups.size,
            "responses": found.responses,
            "start": start,
            "next": following if following < found.groups.size else None,
            "page": self._described(found.groups[start:following].tolist(), filters),
        }

    def place(self, filters: Filters, group: int) -> int | None:
        """Where a group stands among those that fit; None where it is not among them."""
        places = np.flatnonzero(self._groups(filters).groups == group)
        return int(places[0]) if places.size else None

    def visits(self, prompt: str) -> list[dict[str, Any]]:
        """All groups of a prompt by its text, which may stand in several rows of the data, by step."""
        query = 'SELECT "group" FROM groups WHERE prompt = ? ORDER BY step, "group"'
        numbers = [number for (number,) in self._index.cursor().execute(query, [prompt]).fetchall()]
        return self._described(numbers, Filters())

    def file_of(self, group: int) -> int | None:
        """The number of the file that holds a group; None where no file does."""
        found = self._index.cursor().execute('SELECT file FROM groups WHERE "group" = ?', [group]).fetchone()
        return None if found is None else int(found[0])

    def _groups(self, filters: Filters) -> "Found":
        """The groups that have a response which fits."""
        key = (self._index.changes, filters)
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        condition, values = filters.conditions()
        query = (
            f'SELECT "group", count(*) AS hits FROM responses WHERE {condition} GROUP BY "group", step '
            f"ORDER BY {SORTED[filters.sort]}"
        )
        columns = self._index.cursor().execute(query, values).fetchnumpy()
        found = Found(groups=columns["group"], responses=int(columns["hits"].sum()))
        with self._lock:
            self._found[key] = found
            while len(self._found) > KEPT:
                self._found.popitem(last=False)
        return found

    def _described(self, numbers: Sequence[int], filters: Filters) -> list[dict[str, Any]]:
        """The groups of these numbers, in this sequence, as a list shows them."""
        if not numbers:
            return []
        cursor, condition, values = self._index.cursor(), *filters.conditions()
        asked = ", ".join("?" * len(numbers))
        said = cursor.execute(
            f"""SELECT "group", step, prompt_id, CASE question WHEN '' THEN prompt ELSE question END AS asked
            FROM groups WHERE "group" IN ({asked})""",
            numbers,
        ).fetchall()
        described: dict[int, dict[str, Any]] = {
            group: {
                "group": group,
                "step": step,
                "prompt_id": prompt_id,
                "prompt": _around(prompt, filters.text if filters.where != "response" else ""),
                "responses": [],
                "more": 0,
                "excerpt": "",
            }
            for group, step, prompt_id, prompt in said
        }
        rows = cursor.execute(
            f"""SELECT "group", number, outcome, score, rejected, seat, siblings, tokens, {condition} AS fits, response
            FROM responses WHERE "group" IN ({asked}) ORDER BY "group", number""",
            [*values, *numbers],
        ).fetchall()
        for group, number, outcome, score, rejected, seat, siblings, tokens, fits, response in rows:
            if (one := described.get(group)) is None:
                continue
            if len(one["responses"]) >= MOST_SHOWN:
                one["more"] += 1
                continue
            one["responses"].append(
                {
                    "number": number,
                    "outcome": outcome,
                    "score": score,
                    "rejected": rejected,
                    "seat": seat,
                    "siblings": siblings,
                    "tokens": tokens,
                    "fits": fits is not False,
                }
            )
            if fits and filters.text and not one["excerpt"] and filters.where != "prompt":
                one["excerpt"] = _around(response, filters.text, only_there=True)
        return [described[number] for number in numbers if number in described]


def _one(cursor: "duckdb.DuckDBPyConnection", query: str) -> tuple[Any, ...]:
    found = cursor.execute(query).fetchone()
    assert found is not None  # an aggregate has one row
    return found


def _counted(cursor: "duckdb.DuckDBPyConnection", column: str) -> Mapping[str, int]:
    query = f"SELECT {column}, count(*) AS times FROM responses GROUP BY ALL ORDER BY times DESC, {column} LIMIT ?"
    return {str(word): times for word, times in cursor.execute(query, [MOST_WORDS]).fetchall()}


def _around(text: str, wanted: str, *, only_there: bool = False) -> str:
    """A short piece of a text, where it holds what was searched for, else its beginning or, with `only_there`, none."""
    place = text.lower().find(wanted.lower()) if wanted else -1
    if place < 0:
        return "" if only_there else text[:EXCERPT]
    start = max(0, place - BEFORE)
    return ("…" if start else "") + text[start : start + EXCERPT]

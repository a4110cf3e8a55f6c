"""Answers what the page asks of the index: which groups have responses that fit, a page of them at a time."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.browsing.filters import Filters
from cluster.browsing.index import Index

if TYPE_CHECKING:
    import duckdb

PAGE = 50  # groups
MOST_VISITS = 100  # groups of a prompt that come with one of them
MOST_SHOWN = 64  # responses of a group in a list
ALL = 2**MOST_SHOWN - 1  # every one of them fits
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
    fits: np.ndarray  # uint64[G], a bit for each of their responses that fits, up to MOST_SHOWN
    responses: int  # that fit, in these

    def page(self, start: int, end: int) -> dict[int, int]:
        """Some of the groups, with what fits of them."""
        return dict(zip(self.groups[start:end].tolist(), self.fits[start:end].tolist(), strict=True))


class Search:
    """Reads the index, from any thread."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._found: OrderedDict[tuple[int, Filters], Found] = OrderedDict()
        self._lock = threading.Lock()
        self._overview: tuple[int, dict[str, Any]] = (-1, {})  # and the number of the index's changes that it is of

    def overview(self) -> dict[str, Any]:
        """What there is to choose from: counts, ranges, and the words that the columns hold."""
        changes, known = self._index.changes, self._overview
        if known[0] != changes:
            known = self._overview = (changes, self._counts())
        return known[1]

    def _counts(self) -> dict[str, Any]:
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
            "page": self._described(found.page(start, following), filters),
        }

    def place(self, filters: Filters, group: int) -> int | None:
        """Where a group stands among those that fit; None where it is not among them."""
        places = np.flatnonzero(self._groups(filters).groups == group)
        return int(places[0]) if places.size else None

    def visits(self, prompt: str, group: int) -> dict[str, Any]:
        """The groups of a prompt by its text, which may stand in several rows of the data, by step: MOST_VISITS of them
        around a group, and how many there are."""
        query = 'SELECT "group" FROM groups WHERE prompt = ? ORDER BY step, "group"'
        numbers = [number for (number,) in self._index.cursor().execute(query, [prompt]).fetchall()]
        start = max(0, numbers.index(group) - MOST_VISITS // 2) if group in numbers else 0
        return {
            "visits": self._described(dict.fromkeys(numbers[start : start + MOST_VISITS], ALL), Filters()),
            "all_visits": len(numbers),
        }

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
        bit = f"CASE WHEN number < {MOST_SHOWN} THEN 1::UBIGINT << number ELSE 0 END"
        query = (
            f'SELECT "group", count(*) AS hits, bit_or({bit})::UBIGINT AS fits FROM responses WHERE {condition} '
            f'GROUP BY "group", step ORDER BY {SORTED[filters.sort]}'
        )
        columns = self._index.cursor().execute(query, values).fetchnumpy()
        found = Found(groups=columns["group"], fits=columns["fits"], responses=int(columns["hits"].sum()))
        with self._lock:
            self._found[key] = found
            while len(self._found) > KEPT:
                self._found.popitem(last=False)
        return found

    def _described(self, fits: Mapping[int, int], wanted: Filters) -> list[dict[str, Any]]:
        """Groups as a list shows them: number -> which of its responses fit, a bit for each."""
        if not fits:
            return []
        cursor, asked = self._index.cursor(), ", ".join("?" * len(fits))
        said = cursor.execute(
            f"""SELECT "group", step, prompt_id, CASE question WHEN '' THEN prompt ELSE question END AS asked
            FROM groups WHERE "group" IN ({asked})""",
            [*fits],
        ).fetchall()
        excerpts = self._excerpts(fits, wanted.text) if wanted.text and wanted.where != "prompt" else {}
        described: dict[int, dict[str, Any]] = {
            group: {
                "group": group,
                "step": step,
                "prompt_id": prompt_id,
                "prompt": _around(prompt, wanted.text if wanted.where != "response" else ""),
                "responses": [],
                "more": 0,
                "excerpt": excerpts.get(group, ""),
            }
            for group, step, prompt_id, prompt in said
        }
        names = ("number", "outcome", "score", "rejected", "seat", "siblings", "tokens")
        query = f'SELECT "group", {", ".join(names)} FROM responses WHERE "group" IN ({asked}) ORDER BY "group", number'
        for group, number, *values in cursor.execute(query, [*fits]).fetchall():
            if (one := described.get(group)) is None:
                continue  # its file came between the two questions
            if number < MOST_SHOWN:
                response = dict(zip(names, (number, *values), strict=True))
                one["responses"].append({**response, "fits": bool(fits[group] >> number & 1)})
            else:
                one["more"] += 1
        return [described[group] for group in fits if group in described]

    def _excerpts(self, fits: Mapping[int, int], text: str) -> dict[int, str]:
        """Of each group, where a text stands in the first response that fits and has it."""
        query = (
            f'SELECT "group", number, response FROM responses WHERE "group" IN ({", ".join("?" * len(fits))}) AND '
            f'number < {MOST_SHOWN} ORDER BY "group", number'
        )
        found: dict[int, str] = {}
        for group, number, response in self._index.cursor().execute(query, [*fits]).fetchall():
            if group not in found and fits[group] >> number & 1 and text.lower() in response.lower():
                found[group] = _around(response, text)
        return found


def _one(cursor: "duckdb.DuckDBPyConnection", query: str) -> tuple[Any, ...]:
    found = cursor.execute(query).fetchone()
    assert found is not None  # an aggregate has one row
    return found


def _counted(cursor: "duckdb.DuckDBPyConnection", column: str) -> Mapping[str, int]:
    query = f"SELECT {column}, count(*) AS times FROM responses GROUP BY ALL ORDER BY times DESC, {column} LIMIT ?"
    return {str(word): times for word, times in cursor.execute(query, [MOST_WORDS]).fetchall()}


def _around(text: str, wanted: str) -> str:
    """A short piece of a text: where it holds what was searched for, else its beginning."""
    place = text.lower().find(wanted.lower()) if wanted else -1
    start = max(0, place - BEFORE)
    return ("…" if start else "") + text[start : start + EXCERPT]

"""What a person looks for, from the query of a URL to conditions of SQL. Values are always bound, never written in."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args

Where = Literal["both", "prompt", "response"]
Sorting = Literal["newest-first", "oldest-first", "longest-first", "shortest-first", "mixed-first"]
TRAINED = "trained"  # how the page names what was not rejected
NUMBERS = {  # name in the URL -> condition on responses for its lower and its upper bound
    "step": ("step >= ?", "step <= ?"),
    "score": ("score >= ?", "score <= ?"),
    "version": ("newest >= ?", "oldest <= ?"),
    "length": ("tokens >= ?", "tokens <= ?"),
}
CHOICES = {"outcome": "outcome", "rejected": "rejected", "seat": "seat", "finish": "finish"}  # to columns
MOST_TEXT = 1000  # characters that are searched for


class BadQuery(ValueError):
    """A query that cannot be understood; the message says which part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A range of numbers, both ends in it; None is open."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which responses are looked for, and how their groups are sorted."""

    text: str = ""  # in any case
    where: Where = "both"  # in which text
    prompt: str = ""  # id of a prompt
    step: Bounds = Bounds()
    score: Bounds = Bounds()
    version: Bounds = Bounds()
    length: Bounds = Bounds()
    outcome: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()  # reasons; "" is that of responses that were trained on
    seat: tuple[str, ...] = ()
    finish: tuple[str, ...] = ()
    sort: Sorting = "newest-first"

    def conditions(self) -> tuple[str, list[Any]]:
        """(an SQL condition on the table `responses`, the values for its question marks)."""
        parts: list[str] = ["true"]
        values: list[Any] = []
        for name, (low, high) in NUMBERS.items():
            bounds: Bounds = getattr(self, name)
            for bound, condition in ((bounds.low, low), (bounds.high, high)):
                if bound is not None:
                    parts.append(condition)
                    values.append(bound)
        for name, column in CHOICES.items():
            if chosen := getattr(self, name):
                parts.append(f"{column} IN ({', '.join('?' * len(chosen))})")
                values += chosen
        if self.prompt:
            parts.append('"group" IN (SELECT "group" FROM groups WHERE prompt_id = ?)')
            values.append(self.prompt)
        if self.text:
            places = {
                "response": "contains(searched, lower(?))",
                "prompt": '"group" IN (SELECT "group" FROM groups WHERE contains(searched, lower(?)))',
            }
            asked = [condition for place, condition in places.items() if self.where in ("both", place)]
            parts.append(f"({' OR '.join(asked)})")
            values += [self.text] * len(asked)
        return " AND ".join(parts), values


def filters_of(query: Mapping[str, Sequence[str]]) -> Filters:
    """The filters that a URL asks for; other names in it are left alone.

    Raises:
        BadQuery: a value is none that its filter knows.
    """
    found: dict[str, Any] = {}
    for field in fields(Filters):
        words = [word for word in query.get("q" if field.name == "text" else field.name, ()) if word]
        if not words:
            continue
        said = words[0]
        if field.name in NUMBERS:
            found[field.name] = _bounds(field.name, said)
        elif field.name in CHOICES:
            found[field.name] = tuple("" if word == TRAINED else word for word in words)
        elif field.name in ("where", "sort"):
            known = get_args(Where if field.name == "where" else Sorting)
            if said not in known:
                raise BadQuery(f"{field.name} must be one of {', '.join(known)}, got {said!r:.100}")
            found[field.name] = cast("Where | Sorting", said)
        else:
            found[field.name] = said[:MOST_TEXT]
    return Filters(**found)


def _bounds(name: str, said: str) -> Bounds:
    """From "3", "3..9", "3.." or "..9"."""
    low, dots, high = said.partition("..")
    try:
        ends = [float(end) if end.strip() else None for end in (low, high if dots else low)]
    except ValueError:
        ends = [math.nan]
    if any(end is not None and math.isnan(end) for end in ends):
        raise BadQuery(f"{name} must be a number or a range such as 3..9, got {said!r:.100}")
    return Bounds(low=ends[0], high=ends[1])

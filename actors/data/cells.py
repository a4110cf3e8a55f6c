"""Cells of rows: finding one by the name of its column, and writing it as text."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

INDEX = re.compile(r"-?[0-9]{1,9}")


def cell_at(cells: Mapping[str, Any], column: str) -> Any:
    """The value of a column, None where there is none. A column with that very name comes before a path with dots, in
    which a number is a place in a list, from its end with a minus. Dots reach into JSON text, too."""
    if column in cells:
        return cells[column]
    found: Any = cells
    for name in column.split("."):
        found = opened(found)
        if isinstance(found, Mapping):
            found = found.get(name)
        elif isinstance(found, Sequence) and not isinstance(found, str) and INDEX.fullmatch(name):
            found = found[int(name)] if -len(found) <= int(name) < len(found) else None
        else:
            return None
    return found


def has_column(cells: Mapping[str, Any], column: str) -> bool:
    """Whether there is a column, though it may be null."""
    above, _, name = column.rpartition(".")
    held = opened(cell_at(cells, above)) if above else None
    return column in cells or cell_at(cells, column) is not None or (isinstance(held, Mapping) and name in held)


def names_in(cells: Mapping[str, Any]) -> list[str]:
    """The columns of a row, and behind a dot what their objects hold."""
    return [
        f"{name}.{part}" if part else name
        for name, cell in cells.items()
        for part in (cell if isinstance(cell, Mapping) and cell else ("",))
    ]


def opened(cell: Any) -> Any:
    """The object or list that a text holds as JSON; any other cell is itself."""
    if not isinstance(cell, str) or cell.lstrip()[:1] not in ("[", "{"):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def text_of(cell: Any) -> str:
    """A cell as text.

    Raises:
        ValueError: it stands for no value, or cannot be encoded.
    """
    plain = _plain(cell)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _plain(cell: Any) -> Any:
    """A cell in what JSON knows: texts as they are, numbers and dates outside of lists and objects as texts."""
    if isinstance(cell, Mapping):
        return {str(name): _inner(value) for name, value in cell.items()}
    if isinstance(cell, list | tuple):
        return [_inner(value) for value in cell]
    return _scalar(cell)


def _inner(cell: Any) -> Any:
    if cell is None or isinstance(cell, bool | int):
        return cell
    if isinstance(cell, float):
        _scalar(cell)
        return cell
    return _plain(cell)


def _scalar(cell: Any) -> str:
    if isinstance(cell, str):
        half = next((letter for letter in cell if "\ud800" <= letter <= "\udfff"), None)
        if half is not None:
            raise ValueError(
                f"half of a character ({half!r}, a lone surrogate): cut or decoded wrongly where it was made"
            )
        return cell
    if isinstance(cell, float) and not math.isfinite(cell):
        raise ValueError(f"{cell}, which is no value")
    if isinstance(cell, bytes):
        try:
            return cell.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"bytes that are not UTF-8 ({cell[:20]!r})") from None
    if isinstance(cell, Decimal):
        return format(cell, "f")
    if isinstance(cell, date | time):
        return cell.isoformat()
    if cell is None:
        raise ValueError("no value")
    return str(cell)

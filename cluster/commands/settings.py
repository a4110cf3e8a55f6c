"""`winnow settings`: what may stand in a run file, for a terminal."""

import difflib
import textwrap
from collections.abc import Sequence
from itertools import groupby

from cluster.config.described import Described, about_section, described
from cluster.config.errors import ConfigError

WIDTH, INDENT = 78, "    "


def settings_page(names: Sequence[str]) -> str:
    """Settings with their kind, default and sentence; without names, all of them.

    Args:
        names: sections, or settings as on a command line; a section brings those below it.

    Raises:
        ConfigError: there is no such section or setting; the message names the nearest.
    """
    chosen = [row for name in names for row in _named(name)] if names else list(described())
    single = bool(names) and all("." in name and len(_named(name)) == 1 for name in names)
    parts = []
    for (section, _), rows in groupby(chosen, key=lambda row: (row.section, row.owner)):
        found = list(rows)
        head = "" if single else f"[{section}]  {about_section(found[0].owner)}"
        parts.append("\n".join([*_wrapped(head, ""), *(line for row in found for line in _lines(row))]))
    return "\n\n".join(parts)


def _named(name: str) -> list[Described]:
    rows = described()
    found = [row for row in rows if row.name == name or f"{row.section}.".startswith(f"{name}.")]
    if not found:
        known = list(dict.fromkeys([*(row.section for row in rows), *(row.name for row in rows)]))
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        by_key = [row.name for row in rows if row.key == name.rpartition(".")[2]]
        meant = (by_key or near)[:1]
        sections = ", ".join(dict.fromkeys(row.section.partition(".")[0] for row in rows))
        raise ConfigError(
            f"there is no section or setting {name}"
            + (f", did you mean {meant[0]}?" if meant else "")
            + f" The sections are {sections}"
        )
    return found


def _lines(row: Described) -> list[str]:
    default = "required" if row.required else (f"= {row.default}" if row.default else "unset")
    head = f"{row.name} {default}"
    kind = f"({row.kind})"
    one_line = len(head) + len(kind) + 2 <= WIDTH
    first = [f"{head}  {kind}"] if one_line else [*_wrapped(head, ""), *_wrapped(kind, INDENT)]
    return [*first, *_wrapped(row.about, INDENT)]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent or INDENT, break_on_hyphens=False)

"""A run file as text: every setting below the reason for it."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w

WIDTH = 100  # letters of a line of a reason
SECTIONS = ("run", "model", "data", "reward", "rollout", "generator", "learner", "cluster", "eval")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A setting with its reason, or a reason why something is not set."""

    section: str
    key: str = ""  # "" is a reason alone
    value: Any = None
    why: str


def written(about: Sequence[str], lines: Sequence[Line]) -> str:
    """The run file.

    Args:
        about: what stands at its beginning, as comments.
        lines: its settings, those of one section in their order.
    """
    parts = ["\n".join(f"# {line}".rstrip() for line in about)]
    names = dict.fromkeys(line.section for line in lines)
    for section in sorted(names, key=lambda name: SECTIONS.index(name) if name in SECTIONS else len(SECTIONS)):
        found = [line for line in lines if line.section == section]
        parts.append("\n".join([f"[{section}]", *(text for line in found for text in _texts(line))]))
    return "\n\n".join(parts) + "\n"


def inline(value: Any) -> str:
    """A value as TOML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {inline(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(inline(part) for part in value) + "]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")


def _key(key: str) -> str:
    return tomli_w.dumps({key: 0}).removesuffix(" = 0\n")


def _texts(line: Line) -> list[str]:
    why = textwrap.wrap(line.why, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    return [*why, f"{_key(line.key)} = {inline(line.value)}"] if line.key else why

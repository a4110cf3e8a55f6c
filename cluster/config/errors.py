"""The error of a person's mistake, and how it shows a value."""

from typing import Any

LONGEST_SHOWN = 200  # letters of a value


class ConfigError(ValueError):
    """A person's mistake, said in full: what is wrong, its value, what to do."""


def shown(value: Any) -> str:
    """A value as Python writes it, so that a line break is \\n; cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."

"""Settings on a command line, `section.key=value`.

A value is read as TOML, or as text where it is not TOML or the setting holds texts alone. A shell takes quotes away, so
that what was meant as TOML may arrive as none: where the text is hardly what was meant, it is refused with how to write
it.
"""

import re
import shlex
import tomllib
from collections.abc import Sequence
from typing import Any

import tomli_w

from cluster.config.errors import LONGEST_SHOWN, ConfigError
from cluster.config.run_config import RunConfig
from cluster.config.shapes import kinds_of, put_over, section_in
from rewards import Section

EXAMPLES = {tuple: '["one", "two"]', dict: '{"one" = 1, "two" = 2}'}
PYTHON_WORDS = ("True", "False", "None", "null")
# A line break or a tab that was typed as two characters; \text, \times and their like are words of LaTeX.
TYPED = re.compile(r"\\n|\\t(?![a-z])")


def override(tree: dict[str, Any], item: str) -> None:
    """Puts a setting of the command line into a tree of settings.

    Raises:
        ConfigError: it is no `section.key=value`, or its value was hardly meant as the text that it would be.
    """
    try:
        item.encode()
    except UnicodeEncodeError as failure:
        raise ConfigError(f"the setting {item!r} on the command line is not UTF-8") from failure
    name, equals, text = item.partition("=")
    *sections, key = names = name.strip().split(".")
    if not equals or not sections or not all(names):
        raise ConfigError(f"an override looks like section.key=value, got {item!r}")
    value = _value(names, text)
    kind: type[Section] | None = RunConfig
    for section in sections:
        tree, kind = tree.setdefault(section, {}), section_in(kind, section)
        if not isinstance(tree, dict):
            raise ConfigError(f"{item!r} sets a key of {section}, which is a value and not a section")
    tree[key] = put_over(tree.get(key), value, section_in(kind, key))


def _value(names: Sequence[str], text: str) -> Any:
    try:
        read = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        read = {}
    if len(read) == 1:
        value = read["value"]
        return value if isinstance(value, str | list | dict) or not _only_text(names) else text.strip()
    if problem := _misread(names, text):
        raise ConfigError(f"{'.'.join(names)}={text[:LONGEST_SHOWN]} {problem}")
    return text


def _only_text(names: Sequence[str]) -> bool:
    """Whether a setting holds a text where it holds one value: what reads as a number, such as run.name=7, is text."""
    kinds = kinds_of(names)
    return str in kinds and not kinds & {bool, int, float}


def _misread(names: Sequence[str], text: str) -> str:
    """Why a value that is not TOML was hardly meant as a text, and how to write it; "" where it may well be one."""
    name, kinds, bare = ".".join(names), kinds_of(names), text.strip()
    if not kinds:
        return ""  # an unknown setting, which is said when all are checked
    as_text = f"a text of these very characters is {_typed(name, _toml(text))}"
    if bare.startswith("[") and tuple in kinds:
        return (
            "begins as a list and is not TOML; a shell takes quotes away that stand in no others. A list is "
            f"{_typed(name, EXAMPLES[tuple])}, one of these very characters {_typed(name, f'[{_toml(text)}]')}"
        )
    if bare.startswith("{") and dict in kinds:
        return (
            "begins as a table and is not TOML; a shell takes quotes away that stand in no others. A table is "
            f"{_typed(name, EXAMPLES[dict])}" + f", {as_text}" * (str in kinds)
        )
    if bare in PYTHON_WORDS and kinds != {bool}:
        return f"is not TOML: true and false are written small, and what is to be unset is left out; {as_text}"
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'":
        return (
            "stands in quotes and is not TOML, where a backslash in double quotes is written twice, as in "
            f"{_typed(name, _toml(bare[1:-1]))}; {as_text}"
        )
    if found := TYPED.search(text):
        broken = TYPED.sub(lambda two: "\n" if two[0] == r"\n" else "\t", text)
        return (
            f"holds {found[0]} as two characters. With what it stands for, it is {_typed(name, _toml(broken))}; "
            + as_text
        )
    return ""


def _typed(name: str, value: str) -> str:
    """A setting as it is typed into a shell."""
    return shlex.quote(f"{name}={value}")


def _toml(text: str) -> str:
    return tomli_w.dumps({"value": text}).removeprefix("value = ").rstrip("\n").replace("\t", r"\t")

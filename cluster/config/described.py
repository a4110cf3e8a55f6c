"""What every setting of a run file is: its kind in words, its bounds, its default and the sentence that stands beside
it in the code. `winnow settings`, docs/settings.md and the completion of shells are made of this."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cluster.config.run_config import RunConfig
from learner.methods.algorithms import ALGORITHMS, Algorithm
from rewards import KINDS

OURS = ("actors", "cluster", "learner", "rewards")
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
OF_A_TABLE = {"learner.algorithm": tuple(ALGORITHMS), "reward.name": tuple(KINDS)}  # texts that are keys of a table


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A setting for a person."""

    section: str  # such as "learner", or "reward.code"
    owner: type[BaseModel]  # the class of the section
    key: str
    kind: str  # in words, with its bounds
    default: str  # as TOML; "" where it is unset
    required: bool
    choices: tuple[str, ...]  # the words that it may be; none where it may be anything of its kind
    about: str

    @property
    def name(self) -> str:
        """As on a command line."""
        return f"{self.section}.{self.key}"


@cache
def described() -> tuple[Described, ...]:
    """All settings, in the order of a run file."""
    return tuple(_described(section, owner, key, field) for section, owner, key, field in settings())


def settings() -> Iterator[tuple[str, type[BaseModel], str, FieldInfo]]:
    """(section, its class, setting, pydantic's field) of everything that a run file may hold, in order."""
    yield from _settings_of(RunConfig, "")
    for kind, section in KINDS.items():
        yield from _settings_of(section, f"reward.{kind}.")


def about_section(owner: type[BaseModel]) -> str:
    """What a class of settings says of itself."""
    return " ".join(inspect.cleandoc(owner.__doc__ or "").split())


@cache
def comments(kind: type) -> dict[str, str]:
    """Field of a class -> the comment behind it, or the text below it, else the comment above it; those of its bases
    too."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] not in OURS:
            continue
        source = textwrap.dedent(inspect.getsource(base))
        lines, body = source.splitlines(), ast.parse(source).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for number, node in enumerate(statements):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            said = [_behind(line) for line in lines[node.lineno - 1 : (node.end_lineno or node.lineno)]]
            below = statements[number + 1] if number + 1 < len(statements) else None
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                said.append(str(below.value.value))
            found[node.target.id] = " ".join(filter(None, said)) or _above(lines[: node.lineno - 1])
    return found


def _settings_of(kind: type[BaseModel], before: str) -> Iterator[tuple[str, type[BaseModel], str, FieldInfo]]:
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _settings_of(inner, f"{before}{name}.")
        else:
            yield before.rstrip("."), kind, name, field


def _described(section: str, owner: type[BaseModel], key: str, field: FieldInfo) -> Described:
    of_the_row = comments(Algorithm).get(key, "") if section == "objective" else ""
    bounds = _bounds(field.metadata) or _bounds(_inner_metadata(field.annotation))
    return Described(
        section=section,
        owner=owner,
        key=key,
        kind=", ".join(filter(None, [_kind(field.annotation), bounds])),
        default="" if field.is_required() else _default(field.get_default(call_default_factory=True)),
        required=field.is_required(),
        choices=OF_A_TABLE.get(f"{section}.{key}", _choices(field.annotation)),
        about=field.description or comments(owner).get(key) or of_the_row,
    )


def _default(value: Any) -> str:
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_default, value))}]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").strip()


def _kind(annotation: Any) -> str:
    """A type in words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin is Literal:
        return ", ".join(str(value) or '""' for value in get_args(annotation) if value is not None)
    if origin in (tuple, list):
        return f"list of {_kind(get_args(annotation)[0])}"
    if origin is dict:
        return "table"
    if origin is Union or type(annotation).__name__ == "UnionType":
        return " or ".join(_kind(part) for part in get_args(annotation) if part is not type(None))
    return {str: "text", int: "whole number", float: "number", bool: "true, false"}.get(annotation, str(annotation))


def _choices(annotation: Any) -> tuple[str, ...]:
    if annotation is bool:
        return ("true", "false")
    if get_origin(annotation) is dict:
        return ()
    if get_origin(annotation) is Literal:
        return tuple(str(value) for value in get_args(annotation) if value not in (None, ""))
    return tuple(dict.fromkeys(word for part in get_args(annotation) for word in _choices(part)))


def _bounds(metadata: Any) -> str:
    """ "at least 1, below 5"; "" without any."""
    found = {name: getattr(one, name) for one in metadata for name in BOUNDS if hasattr(one, name)}
    return ", ".join(f"{words} {found[name]}" for name, words in BOUNDS.items() if name in found)


def _inner_metadata(annotation: Any) -> list[Any]:
    """Of the parts of a union, such as a number or nothing."""
    if get_origin(annotation) is Annotated:
        return [inner for one in annotation.__metadata__ for inner in getattr(one, "metadata", [one])]
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        return [one for part in get_args(annotation) for one in _inner_metadata(part)]
    return []


def _above(lines: list[str]) -> str:
    """The comment that the lines end with; "" without one."""
    found = list(takewhile(lambda line: line.lstrip().startswith("# "), reversed(lines)))
    return " ".join(line.strip().removeprefix("# ") for line in reversed(found))


def _behind(line: str) -> str:
    """The comment at the end of a line; "" without one."""
    return line.rpartition("  # ")[2].strip() if "  # " in line else ""

"""What stands under each name of a run file: a section, or a value and of which kinds it may be."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cluster.config.run_config import RunConfig
from rewards import KINDS, KindSettings, RewardSettings, Section


def kinds_of(names: Sequence[str]) -> frozenset[type]:
    """What a setting may be, of str, bool, int, float, tuple and dict; a section is a dict. Nothing where there is no
    setting of that name.

    Args:
        names: of its section, of those inside, and its own.
    """
    found: list[Any] = [RunConfig]
    for name in names:
        found = [inner for one in found for inner in _inside(one, name)]
    return frozenset(dict if _is_section(part) else get_origin(part) or part for one in found for part in _parts(one))


def laid_over(common: Mapping[str, Any], own: Mapping[str, Any], kind: type[Section] = RunConfig) -> dict[str, Any]:
    """Settings with others put over them. A section keeps what the other one does not set; a value, a table among them,
    is replaced as a whole.

    Args:
        common: the settings below.
        own: those above.
        kind: the section whose settings they are.
    """
    return {**common, **{key: put_over(common.get(key), value, section_in(kind, key)) for key, value in own.items()}}


def put_over(common: Any, own: Any, kind: type[Section] | None) -> Any:
    """One setting put over another, as `laid_over` says; `kind` is the section that it is, if it is one."""
    if kind is None or not isinstance(common, dict) or not isinstance(own, dict):
        return own
    return laid_over(common, own, kind)


def section_in(kind: type[Section] | None, name: str) -> type[Section] | None:
    """The section of this name in another one; None where the name is that of a value, or of nothing."""
    if kind is RewardSettings and name not in kind.model_fields:
        return KindSettings  # the name of a reward
    field = kind.model_fields.get(name) if kind else None
    inner: Any = field.annotation if field else None
    return inner if _is_section(inner) else None


def _inside(kind: Any, name: str) -> Iterator[Any]:
    """What the setting of this name may be, in a section or a table."""
    for part in _parts(kind):
        if get_origin(part) is dict:
            yield get_args(part)[1]
        elif _is_section(part) and name in part.model_fields:
            yield part.model_fields[name].annotation
        elif part is RewardSettings:
            yield from dict.fromkeys(KINDS.values())


def _parts(annotation: Any) -> Iterator[Any]:
    """The kinds in a type, such as str and tuple[str, ...] in `str | tuple[str, ...] | None`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif origin is Literal:
        yield from {type(word) for word in get_args(annotation)} - {type(None)}
    elif origin is Union or type(annotation).__name__ == "UnionType":
        for part in get_args(annotation):
            yield from _parts(part)
    elif annotation is not type(None):
        yield annotation


def _is_section(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, Section)

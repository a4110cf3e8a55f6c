"""The settings of a run with local copies in place of addresses: models and data, fetched once for each node."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from cluster.config.addresses import is_address
from cluster.config.errors import ConfigError
from cluster.preparing.revisions import fixed
from cluster.preparing.storage import Part, copy_of, fetch
from learner.teacher import is_endpoint
from rewards import Section

Settings = TypeVar("Settings", bound=Section)

TEACHER = ("learner", "teacher_path")
MODELS = (("model", "path"), ("learner", "tuned_path"), TEACHER)
DATA = (("data", "path"), ("data", "stored"), ("eval", "path"), ("warmup", "path"))
NO_REVISIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A local copy of what a setting names by its address."""

    setting: str
    address: str  # with the commit, where it is one of the Hub
    path: str  # the same on each node
    part: Part = Part.ALL
    named: str = ""  # the address as the setting has it, where that is another one


def with_copies(
    config: Settings, say: Callable[[str], None], revisions: Mapping[str, str] = NO_REVISIONS
) -> tuple[Settings, tuple[Copy, ...]]:
    """A run on local copies, which are there then on this machine, and these copies.

    Args:
        config: a run, which may name models and data by addresses.
        say: is told of each copy, and how long it took.
        revisions: addresses of the Hub that are known already with their commits.

    Raises:
        ConfigError: an address cannot be read.
    """
    copies = tuple(copies_of(config, revisions))
    if not copies:
        return config, ()
    for copy in copies:
        try:
            came = fetch(copy.address, copy_of(copy.address), copy.part)
        except ConfigError as failure:
            begun = f". This is the commit that {copy.named} led to when the run began, and it goes on with no other"
            raise ConfigError(f"{copy.setting}: {failure}" + begun * (copy.named in revisions)) from failure
        say(f"{copy.address} ({copy.setting}): {came}, in {copy.path}")
    places = {copy.named or copy.address: copy.path for copy in copies}
    return type(config).model_validate(_replaced(config.model_dump(exclude_unset=True), places)), copies


def revisions_of(copies: Iterable[Copy]) -> dict[str, str]:
    """Addresses of the Hub as settings have them -> the same with the commit that was fetched."""
    return {copy.named: copy.address for copy in copies if copy.named}


def copies_of(config: Section, revisions: Mapping[str, str] = NO_REVISIONS) -> Iterator[Copy]:
    """The copies that a run needs; `revisions` as above.

    Raises:
        ConfigError: the Hub does not say to which commit an address leads.
    """
    tree, known = config.model_dump(), dict(revisions)
    rewards = (("reward", name, "path") for name, of in tree["reward"].items() if isinstance(of, Mapping))
    for path in (*MODELS, *DATA, *rewards):
        value: Any = tree
        for part in path:
            value = value.get(part, "") if isinstance(value, Mapping) else ""
        for address in _texts(value):
            if is_address(address) and not (path == TEACHER and is_endpoint(address)):
                part = Part.ALL if path in DATA else Part.MODEL
                if address not in known:
                    known[address] = _fixed(address, ".".join(path))
                named = address if known[address] != address else ""
                address = known[address]
                yield Copy(setting=".".join(path), address=address, path=str(copy_of(address)), part=part, named=named)


def _fixed(address: str, setting: str) -> str:
    try:
        return fixed(address)
    except ConfigError as failure:
        raise ConfigError(f"{setting}: {failure}") from failure


def _texts(value: Any) -> Iterator[str]:
    """The text that a setting is, or all in its table: paths are keys of `data.path` and values of `eval.path`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)


def _replaced(tree: Any, places: Mapping[str, str]) -> Any:
    """A tree with the places of copies for their addresses, in values and in the keys of tables."""
    if isinstance(tree, Mapping):
        return {places.get(key, key): _replaced(value, places) for key, value in tree.items()}
    return places.get(tree, tree) if isinstance(tree, str) else tree

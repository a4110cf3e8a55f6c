"""The settings of a run with local copies in place of addresses: models and data, fetched once for each node."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from cluster.config.addresses import is_address
from cluster.config.errors import ConfigError
from cluster.preparing.storage import Part, copy_of, fetch
from rewards import Section

Settings = TypeVar("Settings", bound=Section)

MODELS = (("model", "path"), ("learner", "tuned_path"))
DATA = (("data", "path"), ("data", "stored"), ("eval", "path"), ("warmup", "path"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A local copy of what a setting names by its address."""

    setting: str
    address: str
    path: str  # the same on each node
    part: Part = Part.ALL


def with_copies(config: Settings, say: Callable[[str], None]) -> tuple[Settings, tuple[Copy, ...]]:
    """A run on local copies, which are there then on this machine, and these copies.

    Args:
        config: a run, which may name models and data by addresses.
        say: is told of each copy, and how long it took.

    Raises:
        ConfigError: an address cannot be read.
    """
    copies = tuple(copies_of(config))
    if not copies:
        return config, ()
    for copy in copies:
        try:
            came = fetch(copy.address, copy_of(copy.address), copy.part)
        except ConfigError as failure:
            raise ConfigError(f"{copy.setting}: {failure}") from failure
        say(f"{copy.address} ({copy.setting}): {came}, in {copy.path}")
    places = {copy.address: copy.path for copy in copies}
    return type(config).model_validate(_replaced(config.model_dump(exclude_unset=True), places)), copies


def copies_of(config: Section) -> Iterator[Copy]:
    """The copies that a run needs."""
    tree = config.model_dump()
    rewards = (("reward", name, "path") for name, of in tree["reward"].items() if isinstance(of, Mapping))
    for path in (*MODELS, *DATA, *rewards):
        value: Any = tree
        for part in path:
            value = value.get(part, "") if isinstance(value, Mapping) else ""
        for address in _texts(value):
            if is_address(address):
                part = Part.ALL if path in DATA else Part.MODEL
                yield Copy(setting=".".join(path), address=address, path=str(copy_of(address)), part=part)


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

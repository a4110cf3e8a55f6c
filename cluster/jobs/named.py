"""The files and folders that the settings of a run name: those that travel with a job, and those on its nodes."""

import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.config.addresses import is_address
from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.jobs.selection import is_secret

# Settings that name a file or folder which a run reads, beside those whose names end in "path" or "file".
NAMES = frozenset({"stored", "databases", "environment"})
MAYBE = frozenset({"chat_template", "prompt"})  # name a file, or something else


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What one setting names."""

    setting: str
    value: str


def named_files(config: RunConfig) -> list[Named]:
    """What the settings of a run name to be read, in their order; addresses such as s3://bucket/key are left out."""
    return [named for named in _named_in(config.model_dump(), "") if named.value and not is_address(named.value)]


def travelling(config: RunConfig, folder: Path) -> list[Path]:
    """The files and folders of a run that have to travel with it: all that its settings name by a relative path.

    Args:
        config: the run.
        folder: that relative paths begin in, which is sent.

    Raises:
        ConfigError: one is not there, or lies outside of the folder.
    """
    return [path for named in named_files(config) for path in _found(named, folder)]


def on_nodes(config: RunConfig, folder: Path) -> list[Named]:
    """What a run names by an absolute path although it lies in the folder that is sent: it will be looked for on the
    nodes, under this very path."""
    return [named for named in named_files(config) if Path(named.value).is_relative_to(folder)]


def names_a_file(key: str) -> bool:
    """Whether the setting of this name, in whatever section, names something that a run reads."""
    return key.endswith(("path", "file")) or key in NAMES | MAYBE


def _named_in(tree: Mapping[str, object], before: str) -> Iterator[Named]:
    for key, value in tree.items():
        setting = f"{before}{key}"
        if names_a_file(key) and isinstance(value, str):
            yield Named(setting=setting, value=value)
        elif names_a_file(key) and isinstance(value, Mapping):  # each with its weight
            yield from (Named(setting=setting, value=str(path)) for path in value)
        elif isinstance(value, Mapping):
            yield from _named_in(value, f"{setting}.")


def _found(named: Named, folder: Path) -> list[Path]:
    what = f"{named.setting} = {named.value!r}"
    path = Path(os.path.normpath(named.value))
    if path.is_absolute():
        return []
    if path.parts[:1] == ("..",):
        raise ConfigError(
            f"{what} lies outside of {folder}, the folder that is sent: submit from a folder that holds it, or give "
            "the absolute path that it has on the nodes"
        )
    whole = folder / path
    if whole.exists():
        return [whole]
    if glob.has_magic(named.value):
        found = sorted(folder.glob(named.value))
        if matches := [one for one in found if not any(map(is_secret, _from(folder, one)))]:
            return matches
    if named.setting.rpartition(".")[2] in MAYBE:
        return []
    raise ConfigError(
        f"{what} would travel with the job, and there is no such file or folder in {folder}: relative paths begin in "
        "the folder that you submit from. Give the absolute path that it has on the nodes, if it is there"
    )


def _from(folder: Path, path: Path) -> list[Path]:
    """A path below a folder, and all folders between the two."""
    return [path, *(above for above in path.parents if above != folder and above.is_relative_to(folder))]

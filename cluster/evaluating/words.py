"""The words of `winnow eval` behind MODEL|RUN: data, run files and settings. Imports nothing heavy."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.settings import BENCHMARK_NAME
from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG, layered, settings_of

SETTING = re.compile(r"[A-Za-z_]\w*(?:\.[\w+-]+)+\s*=")  # how an override begins; the name of a benchmark has no dot


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What stands behind MODEL|RUN on the command line."""

    files: tuple[Path, ...]  # run files
    benchmarks: Mapping[str, str]  # name -> path or address
    overrides: tuple[str, ...]  # section.key=value

    @classmethod
    def of(cls, items: Sequence[str]) -> "Words":
        """Sorts them: `*.toml` is a run file, `section.key=value` a setting, all else data, `NAME=PATH` or `PATH`.

        Raises:
            ConfigError: a benchmark has no name that can be one, or the name of another.
        """
        overrides = tuple(item for item in items if SETTING.match(item))
        rest = [item for item in items if item not in overrides]
        files = tuple(Path(item) for item in rest if item.endswith(".toml"))
        benchmarks: dict[str, str] = {}
        for item in rest:
            if item.endswith(".toml"):
                continue
            name, path = _named(item)
            if name in benchmarks:
                raise ConfigError(
                    f"two benchmarks would be called {name!r}, {benchmarks[name]} and {path}: name them, as in "
                    f"NAME={path}"
                )
            benchmarks[name] = path
        return cls(files=files, benchmarks=benchmarks, overrides=overrides)


def _named(item: str) -> tuple[str, str]:
    name, equals, path = item.partition("=")
    if equals and path and BENCHMARK_NAME.fullmatch(name):
        return name, path
    stem = item.rstrip("/").rpartition("/")[2].partition(".")[0]
    return re.sub(r"[^\w-]+", "-", stem).strip("-")[:64] or "data", item


def cluster_address(what: str, words: Words) -> str:
    """`cluster.address` of an evaluation, as far as it is known before anything is fetched; "" where it is not set.

    Args:
        what: MODEL|RUN.
        words: behind it.

    Raises:
        ConfigError: a run file or a setting cannot be read.
    """
    near = (Path(what), Path(what).parent.parent)  # of a run, of one of its checkpoints
    tree = next((settings_of(folder) for folder in near if (folder / CONFIG).is_file()), {})
    cluster = layered(tree, words.files, words.overrides).get("cluster")
    return str(cluster.get("address", "")) if isinstance(cluster, dict) else ""

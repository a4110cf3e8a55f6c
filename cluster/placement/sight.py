"""What the nodes of a run read and write: each is asked, before actors start, whether it has the models and data that
are read there and sees the run folder; what a setting names by an address it fetches, once."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.placement.layout import RANK
from cluster.placement.nodes import by_problem, living
from cluster.preparing.folders import LOCK
from cluster.preparing.preflight import Prepared
from cluster.preparing.storage import Part, fetch
from cluster.reporting.logs import LOGGER

FETCH_SECONDS = 3600.0  # for the slowest node to fetch its models
LEARNER, GENERATOR, FILTER = RANK.rstrip("-"), "generator", "filter"  # how the places of a layout are called


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePath:
    """A file or folder that is read on a node."""

    setting: str  # that names it
    path: str
    address: str = ""  # of which it is the copy
    part: Part = Part.ALL  # of a copy, what is read


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """The run folder as the driver sees it."""

    path: str
    holder: str  # what stands in its lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a node has."""

    problems: tuple[str, ...]
    fetched: tuple[str, ...]


def look(paths: Sequence[NodePath], folder: RunFolder | None) -> Sight:
    """What this node has of what is read and written here; copies that it lacks are fetched."""
    problems, fetched = [], []
    for one in paths:
        try:
            if one.address:
                fetched.append(f"{one.address}: {fetch(one.address, Path(one.path), one.part)}")
            elif not Path(one.path).exists():
                problems.append(
                    f"there is no {one.path} ({one.setting}): put it there too, or where all nodes see it, or name it "
                    "by an address that each node fetches it from (s3://, gs://, hf://)"
                )
        except ConfigError as failure:
            problems.append(f"{one.setting}: {failure}")
    if folder is not None and _holder_of(Path(folder.path)) != folder.holder:
        problems.append(
            f"the run folder {folder.path} is not the one that the driver sees, and learner ranks and the filter write "
            "into it: set run.folder to a folder on a file system that all nodes share; where it is an address, set "
            "WINNOW_CACHE, in which the run writes, to such a folder"
        )
    return Sight(problems=tuple(problems), fetched=tuple(fetched))


class NodeFiles:
    """Has nodes look at what they read and write, each node once."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._looked: dict[str, set[str]] = {}  # id of a node -> kinds of the actors that it looked for

    def check(self, places: Mapping[str, Iterable[str]]) -> None:
        """Before actors start.

        Args:
            places: id of a node -> names of the places of the layout there.

        Raises:
            ConfigError: a node lacks something.
        """
        shown = {node["NodeID"]: name for name, node in living().items()}
        if len(shown) == 1:  # this machine, which has been looked at
            return
        looks = self._looks(places)
        names = [shown.get(node, node) for node in looks]
        try:
            found = dict(zip(names, ray.get(list(looks.values()), timeout=FETCH_SECONDS), strict=True))
        except GetTimeoutError as failure:
            raise ConfigError(f"not all nodes had fetched models and data within {FETCH_SECONDS:g} s") from failure
        except RayError as failure:
            raise ConfigError(f"a node cannot run winnow; is it installed there? {failure}") from failure
        for said in by_problem(found, lambda sight: sight.fetched):
            LOGGER.info("%s", said)
        if problems := by_problem(found, lambda sight: sight.problems):
            raise ConfigError("; ".join(problems))

    async def furnish(self, places: Mapping[str, Iterable[str]]) -> None:
        """While the run goes on: for nodes that have come since, or get other actors now. What one lacks is said."""
        looks = self._looks(places) if self._looked else {}
        for node, sight in zip(looks, await asyncio.gather(*looks.values(), return_exceptions=True), strict=True):
            if isinstance(sight, BaseException) or sight.problems:
                LOGGER.warning("on %s: %s", node, sight if isinstance(sight, BaseException) else sight.problems[0])

    def _looks(self, places: Mapping[str, Iterable[str]]) -> dict[str, Any]:
        """The looks under way, by the id of the node."""
        task, looks = ray.remote(look), {}
        for node, names in places.items():
            kinds = {name.rpartition("-")[0] or name for name in names}
            if kinds <= self._looked.get(node, set()):
                continue
            self._looked[node] = kinds
            folder = self._folder() if kinds & {LEARNER, FILTER} else None
            wanted = [path for path in self._paths() if _is_read(path, kinds)]
            if wanted or folder:
                strategy = NodeAffinitySchedulingStrategy(node, soft=False)
                wanted = [_as_read(path, kinds) for path in wanted]
                looks[node] = task.options(num_cpus=0, scheduling_strategy=strategy).remote(wanted, folder)
        return looks

    def _paths(self) -> list[NodePath]:
        config = self._prepared.config
        copies = {copy.path: copy for copy in self._prepared.copies}
        return [
            NodePath(setting=setting, path=path, address=copies[path].address, part=copies[path].part)
            if path in copies
            else NodePath(setting=setting, path=path)
            for setting, path in read_on_nodes(config).items()
        ]

    def _folder(self) -> RunFolder | None:
        folder = self._prepared.folder
        return RunFolder(path=str(folder), holder=_holder_of(folder)) if folder is not None else None


def read_on_nodes(config: RunConfig) -> dict[str, str]:
    """What actors read of models and files: path by the setting that names it. Of rewards, all that is a path here."""
    own = {"model.path": config.model.path, "learner.tuned_path": config.learner.tuned_path}
    if config.warmup.updates or config.algorithm.imitation:
        own["warmup.path"] = config.warmup.path
    for name, settings in config.reward.leaves(config.reward.name).items():
        for key, value in settings.model_dump().items():
            if isinstance(value, str) and value.startswith("/") and Path(value).exists():
                own[f"reward.{name}.{key}"] = value
    return {setting: path for setting, path in own.items() if path}


def _is_read(path: NodePath, kinds: set[str]) -> bool:
    """Whether a path is read where actors of these kinds are: verifiers, judges and scorers read what rewards name."""
    if path.setting.partition(".")[0] == "reward":
        return bool(kinds - {LEARNER, GENERATOR, FILTER})
    return LEARNER in kinds or (GENERATOR in kinds and path.setting == "model.path")


def _as_read(path: NodePath, kinds: set[str]) -> NodePath:
    """Generators get the weights with the first sync."""
    if path.setting != "model.path" or LEARNER in kinds:
        return path
    return replace(path, part=Part.CONFIG)


def _holder_of(folder: Path) -> str:
    try:
        return (folder / LOCK).read_text(encoding="utf-8")
    except OSError:
        return ""

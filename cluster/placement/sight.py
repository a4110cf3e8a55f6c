"""What the nodes of a run read and write: each is asked, before actors start, whether it has the models and data that
are read there and sees the run folder; what a setting names by an address it fetches, once."""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.config.run_files import LOCK
from cluster.placement.layout import EVALUATOR, RANK
from cluster.placement.nodes import by_problem, living
from cluster.preparing.preflight import Prepared
from cluster.preparing.storage import Part, fetch
from cluster.reporting.logs import LOGGER

FETCH_SECONDS = 3600.0  # for the slowest node to fetch its models
LOOKS, PAUSE = 5, 1.0  # for a run folder that has just been made: file systems show it to other nodes later; seconds
# How the places of a layout are called.
LEARNER, GENERATOR, EVALUATING, FILTER = RANK.rstrip("-"), "generator", EVALUATOR.rstrip("-"), "filter"


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
    if folder is not None and not _sees(folder):
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
        self._looked: dict[str, set[str]] = {}  # id of a node -> kinds of the actors for which it has all

    def check(self, places: Mapping[str, Iterable[str]]) -> None:
        """Before actors start.

        Args:
            places: id of a node -> names of the places of the layout there.

        Raises:
            ConfigError: a node lacks something.
        """
        shown = {node["NodeID"]: name for name, node in living().items()}
        if len(shown) == 1:  # this machine, which has been looked at
            for node, names in places.items():
                self._note(node, _kinds(names))
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
        for node in looks:
            self._note(node, _kinds(places[node]))

    async def furnish(self, places: Mapping[str, Iterable[str]]) -> None:
        """While the run goes on: for nodes that have come since, or get other actors now. What one lacks is said, and
        looked for again the next time."""
        looks = self._looks(places)
        for node, problem in zip(looks, await asyncio.gather(*map(_problem_in, looks.values())), strict=True):
            if problem:
                LOGGER.warning("on %s: %s", node, problem)
            else:
                self._note(node, _kinds(places[node]))

    def _looks(self, places: Mapping[str, Iterable[str]]) -> dict[str, Any]:
        """The looks under way, by the id of the node; for nodes that have not all yet that their actors need."""
        task, looks = ray.remote(look), {}
        for node, names in places.items():
            kinds = _kinds(names)
            if kinds <= self._looked.get(node, set()):
                continue
            folder = self._folder() if kinds & {LEARNER, FILTER} else None
            wanted = [path for path in self._paths() if _is_read(path, kinds)]
            if wanted or folder:
                strategy = NodeAffinitySchedulingStrategy(node, soft=False)
                if self._prepared.config.trains:
                    wanted = [_as_read(path, kinds) for path in wanted]
                looks[node] = task.options(num_cpus=0, scheduling_strategy=strategy).remote(wanted, folder)
        return looks

    def _note(self, node: str, kinds: set[str]) -> None:
        self._looked[node] = self._looked.get(node, set()) | kinds

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
    own = {"model.path": config.model.path}
    own |= {"learner.tuned_path": config.learner.tuned_path, "learner.teacher_path": config.learner.teacher_folder}
    if config.warmup.updates or config.algorithm.imitation:
        own["warmup.path"] = config.warmup.path
    for name, settings in config.reward.leaves(config.reward.name).items():
        for key, value in settings.model_dump().items():
            if isinstance(value, str) and value.startswith("/") and Path(value).exists():
                own[f"reward.{name}.{key}"] = value
    return {setting: path for setting, path in own.items() if path}


async def _problem_in(look: Awaitable[Sight]) -> str:
    """What came of a look that went wrong; "" where it went well."""
    try:
        sight = await asyncio.wait_for(look, FETCH_SECONDS)
    except TimeoutError:
        return f"models and data were not fetched within {FETCH_SECONDS:g} s"
    except RayError as failure:
        return str(failure)
    return "; ".join(sight.problems)


def _kinds(names: Iterable[str]) -> set[str]:
    """The kinds of actors in places of these names."""
    return {name.rpartition("-")[0] or name for name in names}


def _is_read(path: NodePath, kinds: set[str]) -> bool:
    """Whether a path is read where actors of these kinds are: verifiers, judges and scorers read what rewards name."""
    if path.setting.partition(".")[0] == "reward":
        return bool(kinds - {LEARNER, GENERATOR, EVALUATING, FILTER})
    return LEARNER in kinds or (bool(kinds & {GENERATOR, EVALUATING}) and path.setting == "model.path")


def _as_read(path: NodePath, kinds: set[str]) -> NodePath:
    """Generators get the weights with the first sync."""
    if path.setting != "model.path" or LEARNER in kinds:
        return path
    return replace(path, part=Part.CONFIG)


def _sees(folder: RunFolder) -> bool:
    """Whether this node has the run folder that the driver has, maybe after a while."""
    for looks in range(LOOKS):
        time.sleep(PAUSE if looks else 0.0)
        if _holder_of(Path(folder.path)) == folder.holder:
            return True
    return False


def _holder_of(folder: Path) -> str:
    try:
        return (folder / LOCK).read_text(encoding="utf-8")
    except OSError:
        return ""

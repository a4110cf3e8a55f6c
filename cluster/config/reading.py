"""Reads a run file: TOML plus `section.key=value` overrides into one checked `RunConfig`, and back.

Every mistake that can be seen without the cluster is a `ConfigError` before anything starts.
"""

import copy
import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import ValidationError

from cluster.config.errors import ConfigError, shown
from cluster.config.overrides import override
from cluster.config.own_runs import own_run
from cluster.config.renamed import renamed_settings
from cluster.config.run_config import GradingConfig, RunConfig
from cluster.config.run_files import REWARD_MODEL
from cluster.config.secrets import secret_settings
from cluster.config.shapes import laid_over
from rewards import KINDS, RewardSettings, Section

UNION_WORDS = {  # how pydantic names what a setting may be, and what we call it
    "str": "a text",
    "function-after": "a text",  # a path, with ~ replaced
    "bool": "true or false",
    "int": "a number",
    "float": "a number",
    "tuple": "a list of texts",
    "dict": "a table",
}
UNION = re.compile(r"str|bool|int|float|(?:tuple|dict|function-after)\[.*\]")
CONFIG = "config.toml"  # the resolved settings in the folder of a run
# What a built-in world sets itself, in a run's folder.
OF_WORLD = (("model", "path"), ("model", "control_tokens"), ("data", "path"), ("warmup", "path"), ("eval", "path"))

Settings = TypeVar("Settings", bound=Section)


def unchecked_tree(file: Path) -> dict[str, Any]:
    """What a TOML file says, unchecked, for readers of a run that another version may have made; empty where there is
    none, or where it cannot be read."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}


def grading_config(overrides: Sequence[str], data: str = "") -> GradingConfig:
    """The settings of grading without a run file.

    Args:
        overrides: `section.key=value`.
        data: the data file.

    Raises:
        ConfigError: anything wrong with them.
    """
    tree = tree_of(overrides)
    if data:
        tree.setdefault("data", {}).setdefault("path", data)
    return _validated(GradingConfig, tree)


def tree_of(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of a command line alone, section by section, not checked.

    Raises:
        ConfigError: one is no `section.key=value`.
    """
    tree: dict[str, Any] = {}
    for item in overrides:
        override(tree, item)
    return tree


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run file and applies overrides. A file may build on another one: `extends = "common.toml"`.

    Args:
        path: a TOML file.
        overrides: `section.key=value`; the value is read as TOML, or as text where it is not.

    Raises:
        ConfigError: anything wrong with either.
    """
    return load_settings(RunConfig, path, overrides)


def load_settings(kind: type[Settings], path: Path, overrides: Sequence[str] = ()) -> Settings:
    """As `load_config`, of a run file of any kind.

    Args:
        kind: all sections of it.
        path: as above.
        overrides: as above.

    Raises:
        ConfigError: anything wrong with either.
    """
    tree = _read(path)
    for item in overrides:
        override(tree, item)
    learner = tree.get("learner")
    if isinstance(learner, dict) and isinstance(file := learner.get("file"), str) and file:
        learner["file"] = str(own_run(Path(file)))  # beside the run files that winnow brings
    return _validated(kind, tree)


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of a run as a tree, as they were resolved when it began.

    Raises:
        ConfigError: the folder holds no run.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise ConfigError(f"{folder} is not the folder of a run: there is no {CONFIG} in it")
    return _read(file)


def layered(tree: dict[str, Any], files: Sequence[Path], overrides: Sequence[str]) -> dict[str, Any]:
    """A tree of settings with run files put over it, and overrides over these; unchecked.

    Raises:
        ConfigError: a file or an override cannot be read.
    """
    found = copy.deepcopy(tree)
    for file in files:
        found = laid_over(found, _read(file))
    for item in overrides:
        override(found, item)
    return found


def load_run(folder: Path, overrides: Sequence[str] = ()) -> tuple[RunConfig, RunConfig]:
    """The settings that a run has had, and those with which it is to go on.

    Args:
        folder: of the run.
        overrides: as of `load_config`.

    Raises:
        ConfigError: the folder holds no run, or anything is wrong with the overrides.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise ConfigError(
            f"{folder} is not the folder of a run, nor one of its checkpoints: there is no {CONFIG} in it"
        )
    if (folder / REWARD_MODEL).is_file():
        raise ConfigError(
            f"{folder} is the folder of a reward model's training: winnow reward-model --resume goes on with it, and "
            "winnow eval --reward-model takes one of its checkpoints"
        )
    trees = [_read(file), _read(file)]
    for tree in trees:
        if tree.get("world", {}).get("name"):
            for section, key in OF_WORLD:
                tree.get(section, {}).pop(key, None)
    for item in overrides:
        override(trees[1], item)
    return config_of(trees[0]), config_of(trees[1])


def _read(path: Path, before: tuple[Path, ...] = ()) -> dict[str, Any]:
    path = own_run(path)
    if not path.is_file():
        raise ConfigError(f"there is no run file {path}")
    try:
        tree = tomllib.loads(_text_of(path))
    except tomllib.TOMLDecodeError as failure:
        raise ConfigError(f"{path} is not TOML: {failure}") from failure
    except RecursionError as failure:
        raise ConfigError(f"{path} is nested too deeply to be a run file") from failure
    except ValueError as failure:  # a number with more digits than Python converts
        raise ConfigError(f"{path} cannot be read: {failure}") from failure
    if "extends" not in tree:
        return tree
    extended = tree.pop("extends")
    if not isinstance(extended, str) or not extended:
        raise ConfigError(f'{path}: extends must name one run file, as in extends = "common.toml", got {extended!r}')
    base = path.parent / os.path.expanduser(extended)
    if base.resolve() in before:
        raise ConfigError(f"{path} extends {base}, which extends it in turn")
    return laid_over(_read(base, (*before, path.resolve())), tree)


def _text_of(path: Path) -> str:
    """The text of a run file; a byte order mark at its beginning is no part of it.

    Raises:
        ConfigError: it cannot be read, or is not UTF-8.
    """
    try:
        raw = path.read_bytes()
    except OSError as failure:
        raise ConfigError(f"cannot read the run file {path}: {failure.strerror}") from failure
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        line, found = raw.count(b"\n", 0, failure.start) + 1, raw[failure.start : failure.start + 1]
        other = "; it begins as UTF-16 does" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise ConfigError(
            f"{path}:{line} holds the byte {found!r}, which is not UTF-8{other}: save the file as UTF-8"
        ) from failure


def load_methods(paths: Sequence[Path], overrides: Sequence[str], each: str = "") -> dict[str, RunConfig]:
    """The methods of a comparison by name.

    Args:
        paths: run files, or folders whose run files each are a method (those that begin with "_" are not).
        overrides: `section.key=value`, for all methods.
        each: `section.key=A,B`: one method for each value, of a single run file.

    Raises:
        ConfigError: anything wrong with them, or a name twice.
    """
    files = [file for path in map(own_run, paths) for file in (_run_files(path) if path.is_dir() else [path])]
    if each:
        key, equals, values = each.partition("=")
        if len(files) != 1 or not equals or not values:
            raise ConfigError(
                f"--each takes one run file and looks like section.key=A,B, got {each!r}, {len(files)} files"
            )
        return {v.strip(): load_config(files[0], [*overrides, f"{key}={v.strip()}"]) for v in values.split(",")}
    methods = {file.stem: load_config(file, overrides) for file in files}
    if len(methods) < len(files) or not methods:
        raise ConfigError(
            f"a comparison needs run files with different names, got {', '.join(map(str, files)) or 'none'}"
        )
    return methods


def _run_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.toml") if not file.name.startswith("_"))


def config_of(tree: dict[str, Any]) -> RunConfig:
    """Checks a tree of settings."""
    return _validated(RunConfig, tree)


def _validated(kind: type[Settings], tree: dict[str, Any]) -> Settings:
    if problems := secret_settings(tree) or renamed_settings(tree):
        raise ConfigError("\n".join(problems))
    try:
        return kind.model_validate(tree)
    except ValidationError as failure:
        raise ConfigError("\n".join(_sentences(failure.errors(), kind, tree))) from failure


def to_toml(config: RunConfig) -> str:
    """The resolved config as TOML, every setting with its value; what is unset (None) is left out."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _sentences(errors: Sequence[Any], kind: type[Section], tree: Mapping[str, Any]) -> list[str]:
    """A line for each mistake. Where a setting may be one of several things, pydantic tells of each of them: the line
    is on what the value is nearest to, or names all that it may be."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for error in errors:
        place = next((at for at, part in enumerate(error["loc"]) if UNION.fullmatch(str(part))), len(error["loc"]))
        found.setdefault(error["loc"][:place], []).append(error)
    lines = []
    for loc, alike in found.items():
        inside = [error for error in alike if len(error["loc"]) > len(loc) + 1]
        if inside or alike[0]["loc"] == loc:
            lines += [
                _sentence({**error, "loc": (*loc, *error["loc"][len(loc) + 1 :])}, kind, tree)
                for error in inside or alike
            ]
        else:
            kinds = ", ".join(dict.fromkeys(UNION_WORDS[str(e["loc"][-1]).partition("[")[0]] for e in alike))
            lines.append(f"{'.'.join(map(str, loc))} must be {kinds}, got {shown(alike[0]['input'])}")
    return lines


def _sentence(error: Any, kind: type[Section], tree: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        if error["loc"][0] == "reward" and len(error["loc"]) > 2:
            return f"unknown setting {where}" + _advice_on_reward(error["loc"][1], error["loc"][2], tree)
        if error["loc"][0] in RunConfig.model_fields.keys() - kind.model_fields.keys():
            return f"unknown setting {where}: of sections there are {', '.join(kind.model_fields)} here"
        nearest = difflib.get_close_matches(where, _names_in(kind), n=1, cutoff=0.5)
        return f"unknown setting {where}" + (f", did you mean {nearest[0]}?" if nearest else "")
    if error["type"] == "model_type":
        return f"{where} must be a section, [{where}] with a line for each of its settings, got {shown(error['input'])}"
    if error["type"] == "value_error":
        problem = str(error["ctx"]["error"])
        return problem if problem.startswith(f"{where}.") else f"{where} {problem}".strip()
    bounds = {"greater_than_equal": "at least", "greater_than": "above", "less_than_equal": "at most"}
    bounds |= {"less_than": "below"}
    if error["type"] in bounds:
        (limit,) = error["ctx"].values()
        return f"{where} must be {bounds[error['type']]} {limit}, got {shown(error['input'])}"
    return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}, got {shown(error['input'])}"


def _advice_on_reward(name: str, key: str, tree: Mapping[str, Any]) -> str:
    """What to say of a setting that the section of a reward does not have: one of all rewards or of this one that is
    meant, else all that this one has."""
    section = KINDS[tree["reward"][name].get("kind") or name].model_fields
    if key in RewardSettings.model_fields:
        return f", did you mean reward.{key}?"
    nearest = difflib.get_close_matches(key, section, n=1, cutoff=0.5)
    return f", did you mean reward.{name}.{nearest[0]}?" if nearest else f": reward.{name} has {', '.join(section)}"


def _names_in(kind: Any, before: str = "") -> Iterator[str]:
    for key, field in getattr(kind, "model_fields", {}).items():
        yield f"{before}{key}"
        yield from _names_in(field.annotation, f"{before}{key}.")

"""The run file: TOML plus `section.key=value` overrides into one checked, frozen `RunConfig`.

Every mistake that can be seen without the cluster is a `ConfigError` before anything starts.
"""

import difflib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from actors.settings import (
    DataSettings,
    FilterSettings,
    GeneratorSettings,
    RewardSettings,
    RolloutSettings,
    Section,
    SyncSettings,
    WorldSettings,
)
from learner.algorithms import ALGORITHMS
from learner.settings import LearnerSettings, ModelSettings, WarmupSettings


class ConfigError(ValueError):
    """A person's mistake, said in full: what is wrong, its value, what to do."""


class RunSettings(Section):
    """The run as a whole."""

    name: str = "run"  # of the folder; a number is added where it exists
    folder: str = "runs"  # where run folders are made
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Annotated[int, Field(ge=1)] = 100  # training steps, each on rollout.groups_per_step accepted groups
    checkpoint_every: Annotated[int, Field(ge=0)] = 0  # steps between checkpoints; 0 writes only the last

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, value: str) -> str:
        if not value or "/" in value or value.startswith("."):
            raise ValueError(f"must be a plain folder name, got {value!r}")
        return value


class ClusterSettings(Section):
    """What runs where."""

    address: str = ""  # of a Ray cluster; "" takes RAY_ADDRESS, and without it starts Ray on this machine
    device: Literal["auto", "cpu", "gpu"] = "auto"  # auto: GPUs where the cluster has any
    generators: Annotated[int, Field(ge=1)] = 1  # vLLM engines
    tensor_parallel: Annotated[int, Field(ge=1)] = 1  # GPUs of each engine
    learner_ranks: Annotated[int, Field(ge=1)] = 1  # ZeRO ranks, a GPU each
    verifiers: Annotated[int, Field(ge=1)] = 1  # verifier processes
    colocate: bool = False  # generator i shares the GPU of learner rank i


class RunConfig(Section):
    """All settings of a run, and what spans sections."""

    run: RunSettings = RunSettings()
    world: WorldSettings = WorldSettings()
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    reward: RewardSettings = RewardSettings()
    rollout: RolloutSettings = RolloutSettings()
    filter: FilterSettings = FilterSettings()
    generator: GeneratorSettings = GeneratorSettings()
    sync: SyncSettings = SyncSettings()
    warmup: WarmupSettings = WarmupSettings()
    learner: LearnerSettings = LearnerSettings()
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        siblings = max(ALGORITHMS[self.learner.algorithm].siblings, 2 if self.filter.keep == "mixed" else 1)
        if self.rollout.group_size < siblings:
            raise ValueError(
                f"rollout.group_size must be at least {siblings} for learner.algorithm = {self.learner.algorithm!r}, "
                f"got {self.rollout.group_size}: one sibling has no baseline"
            )
        if self.learner.updates_per_step > self.rollout.groups_per_step:
            raise ValueError(
                f"learner.updates_per_step must be at most rollout.groups_per_step = {self.rollout.groups_per_step}, "
                f"got {self.learner.updates_per_step}: an update needs a group"
            )
        if self.cluster.learner_ranks * self.learner.updates_per_step > self.rollout.groups_per_step:
            raise ValueError(
                f"cluster.learner_ranks x learner.updates_per_step must be at most rollout.groups_per_step = "
                f"{self.rollout.groups_per_step}, got {self.cluster.learner_ranks} x {self.learner.updates_per_step}: "
                "a rank would have nothing to train on"
            )
        if self.cluster.colocate and (
            self.cluster.generators != self.cluster.learner_ranks or self.cluster.tensor_parallel != 1
        ):
            raise ValueError(
                "cluster.colocate needs one single-GPU generator for each learner rank, got "
                f"{self.cluster.generators} generators of {self.cluster.tensor_parallel} GPUs and "
                f"{self.cluster.learner_ranks} ranks"
            )
        if self.world.name and (self.data.path or self.model.path):
            raise ValueError(
                f"world.name = {self.world.name!r} brings its own data and model, but data.path or model.path is set "
                'too: unset them, or set world.name = ""'
            )
        if not self.world.name and not (self.data.path and self.model.path):
            missing = "model.path" if not self.model.path else "data.path"
            raise ValueError(f'{missing} must be set (or world.name = "addition" for the built-in world)')
        if self.warmup.updates and not self.world.name and not self.warmup.path:
            raise ValueError("warmup.path must be set when warmup.updates is above 0: a file of worked answers")
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run file and applies overrides.

    Args:
        path: a TOML file.
        overrides: `section.key=value`; the value is read as TOML, or as text where it is not.

    Raises:
        ConfigError: anything wrong with either.
    """
    if not path.is_file():
        raise ConfigError(f"there is no run file {path}")
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as failure:
        raise ConfigError(f"{path} is not TOML: {failure}") from failure
    for override in overrides:
        _override(tree, override)
    return config_of(tree)


def config_of(tree: dict[str, Any]) -> RunConfig:
    """Checks a tree of settings."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as failure:
        raise ConfigError("\n".join(_sentence(error) for error in failure.errors())) from failure


def to_toml(config: RunConfig) -> str:
    """The resolved config as TOML, every setting with its value."""
    lines = []
    for section, values in config.model_dump().items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
        lines.append("")
    return "\n".join(lines)


def _override(tree: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    section, dot, key = name.strip().partition(".")
    if not equals or not dot or not key:
        raise ConfigError(f"an override looks like section.key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    tree.setdefault(section, {})[key] = value


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(where, _names(), n=1, cutoff=0.5)
        return f"unknown setting {where}" + (f", did you mean {nearest[0]}?" if nearest else "")
    if error["type"] == "value_error":
        return f"{where} {error['ctx']['error']}".strip()
    bounds = {"greater_than_equal": "at least", "greater_than": "above", "less_than_equal": "at most"}
    bounds |= {"less_than": "below"}
    if error["type"] in bounds:
        (limit,) = error["ctx"].values()
        return f"{where} must be {bounds[error['type']]} {limit}, got {error['input']!r}"
    return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r}"


def _names() -> list[str]:
    sections = RunConfig.model_fields
    names = list(sections)
    for section, field in sections.items():
        names += [f"{section}.{key}" for key in getattr(field.annotation, "model_fields", ())]
    return names

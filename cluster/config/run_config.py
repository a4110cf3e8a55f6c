"""The run file: TOML plus `section.key=value` overrides into one checked, frozen `RunConfig`.

Every mistake that can be seen without the cluster is a `ConfigError` before anything starts.
"""

import difflib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from actors.settings import (
    TRUNCATION,
    DataSettings,
    EvalSettings,
    FilterSettings,
    GeneratorSettings,
    RolloutSettings,
    Section,
    SyncSettings,
    WorldSettings,
)
from learner.methods.algorithms import Algorithm
from learner.methods.choices import Need, SideModelKind
from learner.settings import LearnerSettings, ModelSettings, ObjectiveSettings, WarmupSettings, chosen_algorithm
from rewards import RewardSettings, check_settings
from rewards.table import leaves

Settings = TypeVar("Settings", bound=Section)


class ConfigError(ValueError):
    """A person's mistake, said in full: what is wrong, its value, what to do."""


class RunSettings(Section):
    """The run as a whole."""

    name: str = "run"  # of the folder; a number is added where it exists
    note: str = ""  # a sentence that stands beside the run in a comparison
    folder: str = "runs"  # where run folders are made
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Annotated[int, Field(ge=1)] = 100  # training steps, each on rollout.groups_per_step accepted groups
    tokens: Annotated[int, Field(ge=0)] = 0  # end after the step in which so many tokens have been sampled; 0 is never
    seconds: Annotated[float, Field(ge=0)] = 0.0  # end after the step in which so many seconds have passed; 0 is never
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
    objective: ObjectiveSettings = ObjectiveSettings()
    eval: EvalSettings = EvalSettings()
    cluster: ClusterSettings = ClusterSettings()

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm with the pieces that the run replaces; thresholds are in units of the score."""
        algorithm = chosen_algorithm(self.learner, self.objective, self.filter.drop)
        low, high = self.reward.wrong, self.reward.correct
        return replace(algorithm, thresholds=tuple(low + share * (high - low) for share in algorithm.thresholds))

    @property
    def samples(self) -> bool:
        """Whether responses are sampled at all: for training, for evaluation or for both."""
        return not self.data.stored or self.data.stored_share < 1.0 or self.eval.every > 0

    @property
    def hosts_judge(self) -> bool:
        """Whether the run hosts the language model that is asked about responses."""
        return self.samples and "judge" in leaves(self.reward.name, self.reward) and not self.reward.judge_url

    @model_validator(mode="after")
    def _can_be_graded(self) -> Self:
        check_settings(self.reward)
        if self.reward.span_weight and (self.algorithm.counts != "all" or self.algorithm.credit.pairs):
            raise ValueError(
                f"learner.algorithm = {self.learner.algorithm!r} trains on chosen responses as a whole and has no use "
                f"for rewards of steps and spans: set reward.span_weight = 0, got {self.reward.span_weight:g}"
            )
        return self

    @model_validator(mode="after")
    def _meets_the_algorithms_needs(self) -> Self:
        name, algorithm = self.learner.algorithm, self.algorithm
        if Need.NUCLEUS in algorithm.needs and (self.rollout.top_p == 1.0 or self.rollout.max_staleness):
            raise ValueError(
                f"learner.algorithm = {name!r} restricts the ratio to the nucleus that was sampled from: set "
                f"rollout.top_p below 1 (0.9, say) and rollout.max_staleness = 0, got {self.rollout.top_p} and "
                f"{self.rollout.max_staleness}"
            )
        if Need.NUCLEUS not in algorithm.needs and self.rollout.top_p != 1.0:
            raise ValueError(f"rollout.top_p must stay 1 for training, got {self.rollout.top_p}: {TRUNCATION}")
        if algorithm.imitation and not (self.world.name or self.warmup.path):
            raise ValueError(
                f"learner.algorithm = {name!r} mixes in the likelihood of worked answers and there are none: set "
                "warmup.path to a file of prompts and responses, or objective.imitation = 0"
            )
        if SideModelKind.TUNED in algorithm.side_models and not self.learner.tuned_path:
            raise ValueError(
                f"learner.algorithm = {name!r} takes its token rewards from a tuned policy: set learner.tuned_path to "
                'a model folder, such as a checkpoint of a run with "iterative-dpo"'
            )
        if Need.CONTROL in algorithm.needs and len(self.model.control_tokens) < 2 and not self.world.name:
            raise ValueError(
                f"learner.algorithm = {name!r} needs a token for each reward quantile: set model.control_tokens to two "
                f"or more tokens of the tokenizer, the best first, got {list(self.model.control_tokens)}"
            )
        lacking = algorithm.needs & {Need.GREEDY, Need.NUCLEUS}
        if self.data.stored and lacking:
            raise ValueError(
                f"learner.algorithm = {name!r} cannot train from data.stored: a dataset has no {', '.join(lacking)} "
                "samples. Unset data.stored"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        siblings = max(self.algorithm.siblings, 2 if self.filter.drop == "both" else 1)
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
        if not self.world.name and not (self.model.path and (self.data.path or not self.samples)):
            missing = "model.path" if not self.model.path else "data.path"
            raise ValueError(f'{missing} must be set (or world.name = "addition" for the built-in world)')
        if self.warmup.updates and not self.world.name and not self.warmup.path:
            raise ValueError("warmup.path must be set when warmup.updates is above 0: a file of worked answers")
        if self.eval.every and not self.world.name and not self.eval.path:
            raise ValueError("eval.path must be set when eval.every is above 0: a file of held-out prompts")
        return self


class GradingConfig(Section):
    """The settings of `winnow grade` and `winnow check`: those of a run that data and rewards read."""

    data: DataSettings = DataSettings()
    reward: RewardSettings = RewardSettings()
    model: ModelSettings = ModelSettings()
    rollout: RolloutSettings = RolloutSettings()

    @model_validator(mode="after")
    def _can_be_graded(self) -> Self:
        check_settings(self.reward)
        return self


def grading_config(overrides: Sequence[str], data: str = "") -> GradingConfig:
    """The settings of grading without a run file.

    Args:
        overrides: `section.key=value`.
        data: the data file.

    Raises:
        ConfigError: anything wrong with them.
    """
    tree: dict[str, Any] = {"data": {"path": data}} if data else {}
    for override in overrides:
        _override(tree, override)
    return _validated(GradingConfig, tree)


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run file and applies overrides. A file may build on another one: `extends = "common.toml"`.

    Args:
        path: a TOML file.
        overrides: `section.key=value`; the value is read as TOML, or as text where it is not.

    Raises:
        ConfigError: anything wrong with either.
    """
    tree = _read(path)
    for override in overrides:
        _override(tree, override)
    return config_of(tree)


def _read(path: Path, before: tuple[Path, ...] = ()) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"there is no run file {path}")
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as failure:
        raise ConfigError(f"{path} is not TOML: {failure}") from failure
    if "extends" not in tree:
        return tree
    base = path.parent / str(tree.pop("extends"))
    if base.resolve() in before:
        raise ConfigError(f"{path} extends {base}, which extends it in turn")
    common = _read(base, (*before, path.resolve()))
    for section, values in tree.items():
        common[section] = common.get(section, {}) | values if isinstance(values, dict) else values
    return common


def load_arms(paths: Sequence[Path], overrides: Sequence[str], each: str = "") -> dict[str, RunConfig]:
    """The methods of a comparison by name.

    Args:
        paths: run files, or folders whose run files each are a method (those that begin with "_" are not).
        overrides: `section.key=value`, for all methods.
        each: `section.key=A,B`: one method for each value, of a single run file.

    Raises:
        ConfigError: anything wrong with them, or a name twice.
    """
    files = [file for path in paths for file in (_run_files(path) if path.is_dir() else [path])]
    if each:
        key, equals, values = each.partition("=")
        if len(files) != 1 or not equals or not values:
            raise ConfigError(
                f"--each takes one run file and looks like section.key=A,B, got {each!r}, {len(files)} files"
            )
        return {v.strip(): load_config(files[0], [*overrides, f"{key}={v.strip()}"]) for v in values.split(",")}
    arms = {file.stem: load_config(file, overrides) for file in files}
    if len(arms) < len(files) or not arms:
        raise ConfigError(
            f"a comparison needs run files with different names, got {', '.join(map(str, files)) or 'none'}"
        )
    return arms


def _run_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.toml") if not file.name.startswith("_"))


def config_of(tree: dict[str, Any]) -> RunConfig:
    """Checks a tree of settings."""
    return _validated(RunConfig, tree)


def _validated(kind: type[Settings], tree: dict[str, Any]) -> Settings:
    try:
        return kind.model_validate(tree)
    except ValidationError as failure:
        raise ConfigError("\n".join(_sentence(error) for error in failure.errors())) from failure


def to_toml(config: RunConfig) -> str:
    """The resolved config as TOML, every setting with its value."""
    lines = []
    for section, values in config.model_dump().items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"


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

"""What a comparison compares: the methods, their common budget, and what would make it unfair."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.comparing.comparison import method_folder
from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.config.sections import check_folder_name
from learner.methods.formula import objective_line

BASE, STARTS = "base", "starts"  # the starting model among the methods, and the folder of what methods start from


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPlan:
    """What is compared: methods by name, each to be run with each seed."""

    name: str  # of the folder
    title: str
    methods: Mapping[str, RunConfig]
    seeds: tuple[int, ...]

    @property
    def first(self) -> RunConfig:
        return next(iter(self.methods.values()))


def plan_comparison(name: str, title: str, methods: Mapping[str, RunConfig], seeds: int) -> ComparisonPlan:
    """Checks that the methods can be compared.

    Args:
        name: of the folder.
        title: of the page.
        methods: methods by name.
        seeds: runs of each, with the seeds 0, 1, ...

    Raises:
        ConfigError: there is nothing to compare, no budget, more than one budget, or no evaluation.
    """
    budgets = {(config.run.tokens, config.run.seconds) for config in methods.values()}
    if len(budgets) > 1:
        raise ConfigError(f"the methods must share one budget (run.tokens, run.seconds), got {sorted(budgets)}")
    if budgets == {(0, 0.0)}:
        raise ConfigError(
            "a comparison needs a budget: set run.tokens (tokens sampled for training) or run.seconds, the same for all"
        )
    silent = [method for method, config in methods.items() if not config.eval.every]
    if silent:
        raise ConfigError(f"a comparison is of held-out accuracy: set eval.every above 0 for {', '.join(silent)}")
    for method in methods:
        try:
            check_folder_name(method_folder(method))
        except ValueError as failure:
            raise ConfigError(f"the name of a method becomes a folder and {failure}") from failure
    if len({method_folder(method) for method in (*methods, BASE, STARTS)}) < len(methods) + 2:
        raise ConfigError(
            f"the methods need names of their own other than {BASE} and {STARTS}, got {', '.join(methods)}"
        )
    for setting, values in _must_agree(methods).items():
        if len(set(values)) > 1:
            raise ConfigError(f"the methods must share {setting}, got {' and '.join(sorted(set(values)))}")
    falling = [method for method, config in methods.items() if config.learner.lr_end < 1]
    if falling:
        raise ConfigError(
            f"learner.lr_end must be 1 in a comparison, for {', '.join(falling)} too: the budget ends a run, not its "
            "number of steps, so methods would stop at different learning rates"
        )
    return ComparisonPlan(name=name, title=title, methods=methods, seeds=tuple(range(seeds)))


def _must_agree(methods: Mapping[str, RunConfig]) -> dict[str, list[str]]:
    """What evaluation and actors depend on: setting -> its value in each method."""
    configs = methods.values()
    return {
        "eval": [config.eval.model_dump_json() for config in configs],
        "cluster": [config.cluster.model_dump_json() for config in configs],
        "rollout.temperature": [str(config.rollout.temperature) for config in configs],
        "rollout.max_new_tokens": [str(config.rollout.max_new_tokens) for config in configs],
    }


def write_plan(plan: ComparisonPlan, folder: Path, failed: Sequence[Mapping[str, Any]]) -> None:
    base = {"name": BASE, "objective": "", "changes": {}, "baseline": True}
    methods = [base] + [
        {
            "name": method,
            "objective": objective_line(config.algorithm),
            "changes": differences(plan, config),
            "baseline": False,
        }
        for method, config in plan.methods.items()
    ]
    tree = {
        "name": plan.name,
        "title": plan.title,
        "budget_tokens": plan.first.run.tokens,
        "budget_seconds": plan.first.run.seconds,
        "methods": methods,
        "seeds": list(plan.seeds),
        "failed": list(failed),
        "machine": machine(),
        "notes": {BASE: "The model that all methods start from."}
        | {method: config.run.note for method, config in plan.methods.items()},
    }
    (folder / "compare.json").write_text(json.dumps(tree, indent=2), encoding="utf-8")


def differences(plan: ComparisonPlan, config: RunConfig) -> dict[str, Any]:
    """The settings of a method that are not the same in all methods."""
    trees = [_flat(other) for other in plan.methods.values()]
    mine = _flat(config)
    return {key: value for key, value in mine.items() if any(tree.get(key) != value for tree in trees)}


def _flat(config: RunConfig) -> dict[str, Any]:
    tree = config.model_dump(exclude={"run"})
    return {f"{section}.{key}": value for section, values in tree.items() for key, value in values.items()}


def machine() -> str:
    """This machine in words, for the page."""
    listed = ""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        listed = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False).stdout
    gpus = [name.strip() for name in listed.splitlines() if name.strip()]
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {model}, " + (f"{len(gpus)} x {gpus[0]}" if gpus else "no GPU")

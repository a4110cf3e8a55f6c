"""`winnow compare`: several run files, several seeds, the same budget for each; curves, a table and a page.

All runs of a seed start from the same model: it is warmed up once. Actors, and so engines, serve one run after another;
they are started anew only where a run needs others, or after a failure.
"""

import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.errors import BrokenPart, Starved
from cluster.comparing.comparison import arm_folder
from cluster.comparing.results import write_results
from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.placement.layout import Layout
from cluster.placement.startup import Parts, begin_run, ray_session, running_parts
from cluster.preparing.preflight import Prepared, describe, make_run_folder, prepare, write_config, write_world
from cluster.reporting.outputs import ProgressLine
from cluster.running.run import Run
from cluster.running.warmup import warm_up
from learner.methods.formula import objective_line
from learner.types import MARKER

BASE, STARTS = "base", "starts"  # the starting model among the methods, and the folder of what methods start from
ROOM = 32  # tokens that engines allow beyond the longest sequence of the first run, for those of other seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is compared: methods by name, each to be run with each seed."""

    name: str  # of the folder
    title: str
    arms: Mapping[str, RunConfig]
    seeds: tuple[int, ...]

    @property
    def first(self) -> RunConfig:
        return next(iter(self.arms.values()))


def plan_comparison(name: str, title: str, arms: Mapping[str, RunConfig], seeds: int) -> Plan:
    """Checks that the methods can be compared.

    Args:
        name: of the folder.
        title: of the page.
        arms: methods by name.
        seeds: runs of each, with the seeds 0, 1, ...

    Raises:
        ConfigError: there is nothing to compare, no budget, more than one budget, or no evaluation.
    """
    budgets = {(config.run.tokens, config.run.seconds) for config in arms.values()}
    if len(budgets) > 1:
        raise ConfigError(f"the methods must share one budget (run.tokens, run.seconds), got {sorted(budgets)}")
    if budgets == {(0, 0.0)}:
        raise ConfigError(
            "a comparison needs a budget: set run.tokens (tokens sampled for training) or run.seconds, the same for all"
        )
    silent = [arm for arm, config in arms.items() if not config.eval.every]
    if silent:
        raise ConfigError(f"a comparison is of held-out accuracy: set eval.every above 0 for {', '.join(silent)}")
    if len({arm_folder(arm) for arm in (*arms, BASE, STARTS)}) < len(arms) + 2:
        raise ConfigError(f"the methods need names of their own other than {BASE} and {STARTS}, got {', '.join(arms)}")
    for setting, values in _must_agree(arms).items():
        if len(set(values)) > 1:
            raise ConfigError(f"the methods must share {setting}, got {' and '.join(sorted(set(values)))}")
    falling = [arm for arm, config in arms.items() if config.learner.lr_end < 1]
    if falling:
        raise ConfigError(
            f"learner.lr_end must be 1 in a comparison, for {', '.join(falling)} too: the budget ends a run, not its "
            "number of steps, so methods would stop at different learning rates"
        )
    return Plan(name=name, title=title, arms=arms, seeds=tuple(range(seeds)))


def _must_agree(arms: Mapping[str, RunConfig]) -> dict[str, list[str]]:
    """What evaluation and actors depend on: setting -> its value in each method."""
    configs = arms.values()
    return {
        "eval": [config.eval.model_dump_json() for config in configs],
        "cluster": [config.cluster.model_dump_json() for config in configs],
        "rollout.temperature": [str(config.rollout.temperature) for config in configs],
        "rollout.max_new_tokens": [str(config.rollout.max_new_tokens) for config in configs],
    }


def compare(plan: Plan) -> tuple[Path, int]:
    """Runs every method with every seed: (the folder with table and page, how many runs failed). A run that fails is
    named there and the others go on.

    Raises:
        ConfigError: a method cannot start; nothing has run then.
    """
    folder = make_run_folder(plan.name, Path(plan.first.run.folder))
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    try:
        console.print(f"comparison folder: {folder}")
        jobs = (_job(plan, arm, plan.seeds[0], folder, memory=True) for arm in reversed(list(plan.arms)))
        for job in jobs:  # the first method comes last, and is described
            first = job.prepared
        _write_plan(plan, folder, [])
        with ray_session(plan.first) as (layout, dashboard), _Crew(layout) as crew:
            console.print(describe(first, layout))
            console.print(f"Ray dashboard: http://{dashboard}")
            try:
                failed = _run_all(plan, folder, crew, console)
            finally:
                write_results(folder)
    except ConfigError:
        if not any(folder.glob("*/seed=*/metrics.jsonl")):
            shutil.rmtree(folder)  # nothing has run
        raise
    return folder, failed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One run."""

    prepared: Prepared
    folder: Path
    start: Path  # of the warmed-up model that all methods of the seed share


def _job(plan: Plan, arm: str, seed: int, folder: Path, memory: bool = False) -> _Job:
    """A method with a seed, its inputs checked, and with `memory` whether its models fit. Methods that start alike
    share their start's files."""
    config = plan.arms[arm]
    alike = [_start_settings(other) for other in plan.arms.values()].index(_start_settings(config))
    place = folder / STARTS / str(alike) / f"seed={seed}"
    config = config.model_copy(update={"run": config.run.model_copy(update={"seed": seed, "name": arm})})
    if config.world.name:
        config = write_world(config, place, anew=not place.exists())
        config = config.model_copy(update={"world": config.world.model_copy(update={"name": ""})})
    return _Job(
        prepared=prepare(config, memory), folder=folder / arm_folder(arm) / f"seed={seed}", start=place / "start"
    )


def _start_settings(config: RunConfig) -> dict[str, Any]:
    """What decides the model that training starts from."""
    sections: dict[str, Any] = {"world": True, "model": True, "warmup": True, "data": True}
    optimizer = {"weight_decay", "grad_clip", "micro_batch_tokens"}
    return config.model_dump(include=sections | {"rollout": {"temperature"}, "learner": optimizer})


def _run_all(plan: Plan, folder: Path, crew: "_Crew", console: Console) -> int:
    failed: list[dict[str, Any]] = []
    todo = [(seed, arm) for seed in plan.seeds for arm in plan.arms]
    for number, (seed, arm) in enumerate(todo, start=1):
        line = ProgressLine(console, f"{number}/{len(todo)} {arm}, seed {seed}")
        try:
            _one(crew, _job(plan, arm, seed, folder), line)
        except (BrokenPart, Starved, ConfigError) as failure:
            crew.dismiss()
            line.failed(str(failure))
            failed.append({"arm": arm, "seed": seed, "why": str(failure)})
            _write_plan(plan, folder, failed)
    return len(failed)


def _one(crew: "_Crew", job: _Job, line: ProgressLine) -> None:
    prepared, config = job.prepared, job.prepared.config
    job.folder.mkdir(parents=True)
    write_config(config, job.folder)
    parts = crew.parts_for(prepared)
    if config.warmup.updates:
        if not (job.start / MARKER).is_file():
            asyncio.run(_warmed(parts, prepared, job, line))
        model = config.model.model_copy(update={"path": str(job.start)})
        warmup = config.warmup.model_copy(update={"updates": 0})
        prepared = replace(prepared, config=config.model_copy(update={"model": model, "warmup": warmup}))
    name = f"{job.folder.parent.name}/{job.folder.name}"
    asyncio.run(Run(prepared, crew.layout, parts, job.folder, line, name=name).go())
    line.done()


async def _warmed(parts: Parts, prepared: Prepared, job: _Job, line: ProgressLine) -> None:
    await begin_run(parts, prepared, job.folder)
    await warm_up(parts, prepared.config, job.start, line)


class _Crew:
    """The running actors; started anew when a run needs others than are there."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._stack = ExitStack()
        self._parts: Parts | None = None
        self._shape: dict[str, Any] = {}
        self._longest = 0

    def __enter__(self) -> "_Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()

    def parts_for(self, prepared: Prepared) -> Parts:
        """Actors that can serve this run."""
        shape = _shape(prepared.config)
        if self._parts is None or shape != self._shape or prepared.max_model_len > self._longest:
            self.dismiss()
            self._shape, self._longest = shape, min(prepared.max_model_len + ROOM, prepared.positions)
            wide = replace(prepared, max_model_len=self._longest)
            self._parts = self._stack.enter_context(running_parts(wide, self.layout))
        return self._parts

    def dismiss(self) -> None:
        """Ends all actors."""
        self._stack.close()
        self._parts = None


def _shape(config: RunConfig) -> dict[str, Any]:
    """The settings that actors cannot change while they live."""
    tree = config.model_dump(include={"generator", "sync", "cluster"})
    tree["model"] = config.model_dump(include={"model": {"dtype", "attention"}})
    tree["model_config"] = (Path(config.model.path) / "config.json").read_text(encoding="utf-8")
    tree["groups"] = (config.rollout.groups_per_step, config.rollout.max_staleness, config.eval.prompts, config.samples)
    return tree


def _write_plan(plan: Plan, folder: Path, failed: Sequence[Mapping[str, Any]]) -> None:
    base = {"name": BASE, "objective": "", "changes": {}, "baseline": True}
    arms = [base] + [
        {
            "name": arm,
            "objective": objective_line(config.algorithm),
            "changes": _differences(plan, config),
            "baseline": False,
        }
        for arm, config in plan.arms.items()
    ]
    tree = {
        "name": plan.name,
        "title": plan.title,
        "budget_tokens": plan.first.run.tokens,
        "budget_seconds": plan.first.run.seconds,
        "arms": arms,
        "seeds": list(plan.seeds),
        "failed": list(failed),
        "machine": machine(),
        "notes": {BASE: "The model that all methods start from."}
        | {arm: config.run.note for arm, config in plan.arms.items()},
    }
    (folder / "compare.json").write_text(json.dumps(tree, indent=2), encoding="utf-8")


def _differences(plan: Plan, config: RunConfig) -> dict[str, Any]:
    """The settings of a method that are not the same in all methods."""
    trees = [_flat(other) for other in plan.arms.values()]
    mine = _flat(config)
    return {key: value for key, value in mine.items() if any(tree[key] != value for tree in trees)}


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

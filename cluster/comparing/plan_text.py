"""What a comparison would run, for `winnow compare --plan`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.comparing.plan import ComparisonPlan, differences
from cluster.config.errors import ConfigError
from cluster.config.run_files import METRICS
from cluster.report.run_data import read_lines
from cluster.report.words import counted, listed
from cluster.reporting.words import aligned, duration

LEAST_SECONDS = 1e-3


def plan_text(plan: ComparisonPlan, earlier: Path | None = None, resume: bool = False) -> str:
    """What would be run: methods, runs, budget, settings that differ, and how long it takes where that can be known.

    Args:
        plan: the comparison.
        earlier: the folder of a run whose speed says how long a budget of tokens takes.
        resume: whether what the folder holds already is not run again.

    Raises:
        ConfigError: the earlier run has no finished step.
    """
    runs = len(plan.methods) * len(plan.seeds)
    taken = "its finished runs are not made again" if resume else "a number is added where it is taken"
    lines = [
        f"{counted(len(plan.methods), 'method')}, each with {counted(len(plan.seeds), 'seed')} "
        f"({listed([str(seed) for seed in plan.seeds])}): {counted(runs, 'run')}, one after another",
        f"folder: {Path(plan.first.run.folder) / plan.name} ({taken})",
        f"reference: {next(iter(plan.methods))}, which the others are compared with",
        f"budget of a run: {_budget(plan)}",
        _evaluations(plan),
        _time(plan, runs, earlier),
        "",
    ]
    differing = {method: differences(plan, config) for method, config in plan.methods.items()}
    names = list(dict.fromkeys(key for found in differing.values() for key in found))
    lines.append("settings that differ:" if names else "no setting differs: the methods are the same")
    lines += _table(["method", *names], [[method, *_cells(found, names)] for method, found in differing.items()])
    return "\n".join([*lines, "", "nothing was started"])


def _budget(plan: ComparisonPlan) -> str:
    run = plan.first.run
    limits = [f"{run.tokens:,} tokens generated (run.tokens)"] if run.tokens else []
    limits += [f"{duration(run.seconds)} of training (run.seconds)"] if run.seconds else []
    steps = {config.run.steps for config in plan.methods.values()}
    most = f"; at most {max(steps):,} steps (run.steps)" if len(steps) == 1 else ""
    return " or ".join(limits) + most


def _evaluations(plan: ComparisonPlan) -> str:
    settings = plan.first.eval
    prompts = f"{settings.prompts} prompts" if settings.prompts else "all held-out prompts"
    return (
        f"evaluation: before training, every {counted(settings.every, 'step')} and at the end, "
        f"{counted(settings.samples, 'response')} to {prompts}"
    )


def _time(plan: ComparisonPlan, runs: int, earlier: Path | None) -> str:
    run = plan.first.run
    apart = "start-up, warm-up of each seed and first evaluations come on top"
    if run.seconds and not run.tokens:
        return f"time: {duration(runs * run.seconds)} of training at most; {apart}"
    if earlier is None:
        return "time: not known from a budget of tokens alone; --from RUN takes the speed of an earlier run"
    speed = _speed(earlier)
    seconds = runs * run.tokens / speed
    seconds = min(seconds, runs * run.seconds) if run.seconds else seconds
    return f"time: about {duration(seconds)} of training at the {speed:,.0f} tokens a second of {earlier}; {apart}"


def _speed(earlier: Path) -> float:
    """Tokens that a run generated in a second, evaluations among the seconds."""
    steps = read_lines(earlier / METRICS)
    seconds = float(steps[-1].get("wall_seconds") or 0.0) if steps else 0.0
    tokens = sum(float(line.get("tokens_generated") or 0) for line in steps)
    if seconds < LEAST_SECONDS or not tokens:
        raise ConfigError(f"--from {earlier}: this run has no finished step, so it says nothing of speed")
    return tokens / seconds


def _cells(found: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [str(found.get(name, "")) for name in names]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width, one setting for each line where there are many of them."""
    if len(head) == 1:
        return []
    if len(head) > 4:
        return [
            f"  {row[0]}: " + ", ".join(f"{name} = {cell}" for name, cell in zip(head[1:], row[1:], strict=True))
            for row in body
        ]
    return [f"  {line}" for line in aligned([head, *body])]

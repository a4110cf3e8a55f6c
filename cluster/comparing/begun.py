"""A comparison that was begun before: whether it is the same one, and which of its runs are finished."""

from pathlib import Path

from cluster.comparing.comparison import method_folder, read_run, run_folder
from cluster.comparing.plan import ComparisonPlan
from cluster.config.changes import changes
from cluster.config.errors import ConfigError
from cluster.config.reading import load_config, to_toml
from cluster.running.checkpoints import newest_checkpoint, step_of
from cluster.showing import COMPARISON

METHOD = "method.toml"  # in a method's folder: its run file as it was read, with the settings of the command line
FREE = ("run.note",)  # what changes no run


def write_methods(plan: ComparisonPlan, folder: Path) -> None:
    """Keeps the settings of every method, so that a comparison that goes on can be held against them."""
    for name, config in plan.methods.items():
        place = folder / method_folder(name)
        place.mkdir(exist_ok=True)
        (place / METHOD).write_text(to_toml(config), encoding="utf-8")


def check_begun(plan: ComparisonPlan, folder: Path) -> None:
    """Whether the comparison in a folder can go on as this one. Seeds and methods may be others; what a method that is
    there already was run with may not.

    Raises:
        ConfigError: it cannot.
    """
    if not (folder / COMPARISON).is_file():
        raise ConfigError(f"{folder} is there, and not the folder of a comparison: choose another --name")
    kept = {name: folder / method_folder(name) / METHOD for name in plan.methods}
    changed = [
        f"{name}: {change.line}"
        for name, file in kept.items()
        if file.is_file()
        for change in changes(load_config(file), plan.methods[name])
        if change.name not in FREE
    ]
    if changed:
        raise ConfigError(
            f"the comparison in {folder} was begun with other settings, so its runs cannot stand beside new ones: "
            f"{'; '.join(changed)}. Give it the settings it had, or choose another --name"
        )


def is_finished(plan: ComparisonPlan, folder: Path, method: str, seed: int) -> bool:
    """Whether a run has spent its budget, was evaluated at its end and has left its last checkpoint."""
    budget = plan.first.run
    run, why = read_run(folder, method, seed, tokens=budget.tokens, seconds=budget.seconds)
    last = newest_checkpoint(run_folder(folder, method, seed))
    return not why and last is not None and step_of(last) == run.evals[-1]["step"]

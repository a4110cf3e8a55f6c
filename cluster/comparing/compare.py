"""`winnow compare`: several run files, several seeds, the same budget for each; curves, a table and a page.

All runs of a seed start from the same model: it is warmed up once. Actors, and so engines, serve one run after another;
they are started anew only where a run needs others, or after a failure of theirs.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.errors import BrokenPart, Starved
from cluster.blocking import run_blocking
from cluster.comparing.begun import check_begun, is_finished, write_methods
from cluster.comparing.comparison import run_folder
from cluster.comparing.plan import STARTS, ComparisonPlan, write_plan
from cluster.comparing.results import write_results
from cluster.config.addresses import is_address
from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.config.run_files import METRICS
from cluster.placement.description import describe
from cluster.placement.session import ray_session, settled
from cluster.placement.warm import WarmActors
from cluster.preparing.copies import revisions_of
from cluster.preparing.folders import held, make_run_folder, write_config
from cluster.preparing.preflight import Prepared, prepare
from cluster.preparing.revisions import read_revisions, write_revisions
from cluster.preparing.world import write_world
from cluster.reporting.display import ProgressLine
from cluster.reporting.logs import LOGGER, log_file
from cluster.reporting.terminal import console, plain, say
from cluster.running.attempts import run_to_end
from cluster.running.warmup import warm_up
from learner.client import Learner
from learner.methods.choices import Need
from learner.types import MARKER
from learner.writing import mark_complete


def compare(plan: ComparisonPlan, resume: bool = False) -> tuple[Path, int]:
    """Runs every method with every seed: (the folder with table and page, how many runs failed). A run that fails is
    named there and the others go on.

    Args:
        plan: the comparison.
        resume: whether the comparison of exactly this name, where there is one, goes on with the runs that it lacks;
            those that failed or were cut short are made anew.

    Raises:
        ConfigError: a method cannot start; nothing has run then. Or the comparison cannot go on.
    """
    base = Path(plan.first.run.folder)
    if is_address(plan.first.run.folder):
        raise ConfigError(
            f"run.folder = {plan.first.run.folder!r} is an address, and the runs of a comparison are read as files: "
            "set run.folder to a folder, and copy it when the comparison is done"
        )
    begun = resume and (base / plan.name).exists()
    folder = (base / plan.name).resolve() if begun else make_run_folder(plan.name, base)
    try:
        if begun:
            check_begun(plan, folder)
        with held(folder):
            return folder, _compare_in(folder, plan)
    except ConfigError:
        if not begun and not any(folder.glob(f"*/seed=*/{METRICS}")):
            shutil.rmtree(folder)  # nothing has run
        raise


def _compare_in(folder: Path, plan: ComparisonPlan) -> int:
    """Makes the runs that the folder lacks; how many failed."""
    terminal = console()
    terminal.print(plain(f"comparison folder: {folder}"))
    write_plan(plan, folder, [])
    write_methods(plan, folder)
    planned = [(seed, method) for seed in plan.seeds for method in plan.methods]
    todo = [(seed, method) for seed, method in planned if not is_finished(plan, folder, method, seed)]
    if len(todo) < len(planned):
        terminal.print(f"{len(planned) - len(todo)} of {len(planned)} runs are finished")
    if not todo:
        write_results(folder)
        return 0
    jobs = (_job(plan, method, plan.seeds[0], folder, memory=True) for method in reversed(list(plan.methods)))
    for job in jobs:  # the first method comes last, and is described
        first = job.prepared
    with ray_session(plan.first, folder) as (layout, dashboard, _), WarmActors(layout, folder.name) as actors:
        terminal.print(plain(describe(settled(first, layout), layout)))
        terminal.print(f"Ray dashboard: http://{dashboard}")
        try:
            return _run_all(plan, folder, todo, actors, terminal)
        finally:
            write_results(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One run."""

    prepared: Prepared
    folder: Path
    start: Path  # of the warmed-up model that all methods of the seed share


def _job(plan: ComparisonPlan, method: str, seed: int, folder: Path, memory: bool = False) -> _Job:
    """A method with a seed, its inputs checked, and with `memory` whether its models fit. Methods that start alike
    share their start's files."""
    config = plan.methods[method]
    alike = [_start_settings(other) for other in plan.methods.values()].index(_start_settings(config))
    place = folder / STARTS / str(alike) / f"seed={seed}"
    run: dict[str, Any] = {"seed": seed, "name": method}
    if "checkpoint_every" not in config.run.model_fields_set:
        run["checkpoint_every"] = 0  # a comparison does not go on, and its runs need no more than their last one
    config = config.model_copy(update={"run": config.run.model_copy(update=run)})
    if config.world.name:
        written = (place / MARKER).is_file()
        config = write_world(config, place, anew=not written)
        if not written:
            mark_complete(place)
        config = config.model_copy(update={"world": config.world.model_copy(update={"name": ""})})
    prepared = prepare(config, memory, say if memory else LOGGER.debug, read_revisions(folder))
    write_revisions(folder, revisions_of(prepared.copies))  # methods and seeds read the same
    return _Job(
        prepared=prepared,
        folder=run_folder(folder, method, seed),
        start=place / "start",
    )


def _start_settings(config: RunConfig) -> dict[str, Any]:
    """What decides the model that training starts from."""
    sections: dict[str, Any] = {"world": True, "model": True, "warmup": True, "data": True}
    optimizer = {"weight_decay", "grad_clip", "micro_batch_tokens"}
    settings = config.model_dump(include=sections | {"rollout": {"temperature"}, "learner": optimizer})
    return settings | {"control": Need.CONTROL in config.algorithm.needs}  # of which a warm-up shows the tokens


def _run_all(
    plan: ComparisonPlan, folder: Path, todo: Sequence[tuple[int, str]], actors: WarmActors, terminal: Console
) -> int:
    failed: list[dict[str, Any]] = []
    for number, (seed, method) in enumerate(todo, start=1):
        line = ProgressLine(terminal, f"{number}/{len(todo)} {method}, seed {seed}")
        shutil.rmtree(run_folder(folder, method, seed), ignore_errors=True)  # of a run that failed or was cut short
        try:
            _one(actors, _job(plan, method, seed, folder), line)
        except (BrokenPart, Starved, ConfigError) as failure:
            if not isinstance(failure, Starved):  # which ends a run as its last step does
                actors.end()
            line.failed(str(failure))
            failed.append({"method": method, "seed": seed, "why": str(failure)})
            write_plan(plan, folder, failed)
    return len(failed)


def _one(actors: WarmActors, job: _Job, line: ProgressLine) -> None:
    prepared = settled(job.prepared, actors.layout)
    config = prepared.config
    job.folder.mkdir(parents=True)
    write_config(config, job.folder)
    write_revisions(job.folder, revisions_of(prepared.copies))
    running = actors.for_run(prepared)
    if config.warmup.updates:
        if not (job.start / MARKER).is_file():
            run_blocking(_warm(running.learner, config, job.start, line))
        model = config.model.model_copy(update={"path": str(job.start)})
        warmup = config.warmup.model_copy(update={"updates": 0})
        prepared = replace(prepared, config=config.model_copy(update={"model": model, "warmup": warmup}))
    name = f"{job.folder.parent.name}/{job.folder.name}"
    with log_file(job.folder):
        run_blocking(run_to_end(prepared, running, job.folder, line, name=name))
    line.done()


async def _warm(learner: Learner, config: RunConfig, target: Path, line: ProgressLine) -> None:
    await learner.join()
    await warm_up(learner, config, target, line)

"""The report of one run or several: what was learned, what became of the groups, where the time went, with which
settings."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.secrets import HIDDEN, names_secret
from cluster.config.run_config import RunConfig
from cluster.report import learning, working
from cluster.report.intervals import accuracy_interval
from cluster.report.page import Figure, Page, Section, Table, write_page
from cluster.report.run_data import RunData, State, named_apart, read_run
from cluster.report.series import Runs
from cluster.report.words import counted, ends, listed, number, share, short
from cluster.reporting.terminal import plain
from cluster.reporting.words import duration

SECTIONS = (
    learning.agreement,
    learning.agreement_loss,
    learning.evaluation,
    learning.accuracy,
    learning.reward,
    working.ledger,
    working.stages,
    working.outcomes,
    learning.lengths,
    learning.entropy,
    learning.kl,
    learning.staleness,
    learning.mismatch,
    learning.probe,
    working.checkers,
    working.episodes,
    working.changes,
)


def write_report(folders: Sequence[Path], out: Path) -> None:
    """Writes the report of the runs in these folders, finished or not.

    Raises:
        ConfigError: one of them holds no run.
        OSError: it cannot be written.
    """
    write_page(report_of([read_run(folder) for folder in dict.fromkeys(folders)]), out)


def report_of(data: Sequence[RunData]) -> Page:
    """The page of some runs, at least one."""
    runs = Runs(names=named_apart(data), runs=data)
    sections = [section for make in SECTIONS if (section := make(runs)) is not None]
    said = [line if runs.is_one else f"{name}: {line}" for name, run in runs.pairs for line in run.said]
    return Page(
        title=f"Run {runs.names[0]}" if runs.is_one else f"{len(data)} runs: {listed(list(runs.names))}",
        lead=[_lead(name, run, alone=runs.is_one) for name, run in runs.pairs],
        figures=_figures(data[0]) if runs.is_one else [],
        warning_title="What the run said should be looked at",
        warnings=said,
        sections=[*sections, _settings(runs)],
    )


def _lead(name: str, run: RunData, *, alone: bool) -> str:
    """How far a run is, and with what."""
    run_tree = run.tree.get("run", {})
    what = "This run" if alone else name
    done = int(run.steps[-1].get("step") or len(run.steps)) if run.steps else 0
    planned = int(run.planned.get("steps", 0))
    of = f" of {planned:,}" if planned else ""
    seconds = (run.column("wall_seconds") or [None])[-1]
    spent = f" in {duration(seconds)}" if seconds else ""
    algorithm = run.tree.get("learner", {}).get("algorithm", "")
    reward = run.tree.get("reward", {}).get("name", "")
    method = f" It trains with {algorithm} on the reward {reward}." if algorithm and reward else ""
    note = f" {plain(str(run_tree['note']))}" if run_tree.get("note") else ""
    how = {
        State.DONE: f"has done what it was asked to: {counted(done, 'step')}{spent}.",
        State.RUNNING: f"is running: {counted(done, 'step')}{of}{spent} so far.",
        State.ENDED: f"ended early, after {counted(done, 'step')}{of}{spent}"
        + (f": {run.why_ended.rstrip('.')}." if run.why_ended else "."),
    }[run.state]
    return f"{what} {how}{method}{note}"


def _figures(run: RunData) -> list[Figure]:
    figures = []
    told = [(line, interval) for line in run.evals if (interval := accuracy_interval(line))]
    if told:
        (first, _), (last, interval) = told[0], told[-1]
        note = f"from {share(first['accuracy'])}; " if len(told) > 1 else ""
        figures.append(
            Figure(
                name="held-out accuracy",
                value=share(last["accuracy"]),
                note=f"{note}95 %: {share(interval[0])} to {share(interval[1])}",
            )
        )
    for name, shown in (("accuracy", "training accuracy"), ("reward_mean", "mean score")):
        if found := ends(run.column(name)):
            form = share if name == "accuracy" else number
            figures.append(Figure(name=shown, value=form(round(found[1], 3)), note=f"from {form(round(found[0], 3))}"))
    if run.steps:
        tokens, trained = run.total("tokens_generated"), run.total("tokens_trained")
        figures.append(Figure(name="tokens generated", value=short(tokens), note=f"{short(trained)} trained on"))
        speeds = [value for value in run.column("tokens_per_second") if value]
        if speeds:
            figures.append(
                Figure(name="tokens a second", value=number(sum(speeds) / len(speeds)), note="mean of the steps")
            )
    return figures


def _settings(runs: Runs) -> Section:
    """What differs from the defaults or, of several runs, between them; and every setting of one."""
    flat = [dict(_flat(run.tree)) for run in runs.runs]
    default = dict(_flat({name: kind.default.model_dump(mode="json") for name, kind in RunConfig.model_fields.items()}))
    if runs.is_one:
        rows = [
            [key, value, default.get(key, "")]
            for key, value in flat[0].items()
            if value != default.get(key, "") and key not in ("run.name", "run.folder")
        ]
        columns, sentence = (
            ["setting", "this run", "default"],
            f"{counted(len(rows), 'setting')} differ from the default.",
        )
        if len(rows) == 1:
            sentence = "1 setting differs from the default."
    else:
        keys = list(dict.fromkeys(key for tree in flat for key in tree))
        differing = [key for key in keys if len({tree.get(key, "") for tree in flat}) > 1]
        rows = [[key, *(tree.get(key, "") for tree in flat)] for key in differing]
        columns = ["setting", *runs.names]
        sentence = f"{counted(len(rows), 'setting')} differ between the runs." if rows else "All settings are the same."
    if not any(flat):
        sentence = "The settings of this run cannot be read: its config.toml is missing or broken."
    return Section(
        title="Settings",
        sentence=sentence,
        tables=[Table(title="What differs", columns=columns, rows=rows, is_text=True)] if rows else [],
        text="\n".join(f"{key} = {value}" for key, value in flat[0].items()) if runs.is_one else "",
        text_title="All settings",
        is_wide=not runs.is_one,
    )


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Settings by their dotted names, without secrets."""
    for key, value in tree.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            yield plain(name), HIDDEN if value and isinstance(value, str) and names_secret(str(key)) else plain(shown)

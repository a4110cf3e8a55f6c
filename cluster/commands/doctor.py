"""`winnow doctor`: what will not work on this machine, why, and what to do."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path

from cluster.commands.checks.apart import Looked, look
from cluster.commands.checks.gpus import this_machines_gpus
from cluster.commands.checks.table import HEAVY, LIGHT, RUN, TOTAL_SECONDS
from cluster.commands.checks.types import State, Subject
from cluster.reporting.terminal import console, say
from cluster.reporting.words import counted

LABEL = 8  # letters for the state, in front of each line
NAME = 14  # letters for the name
LEAST_WIDTH = 60  # columns, however narrow the terminal is


def examine(subject: Subject, as_json: bool) -> bool:
    """Looks at everything and says it, a line for each check; whether nothing stops runs.

    Args:
        subject: this machine, and a run where one is named.
        as_json: a line of JSON for each check, for machines to read.
    """
    lanes = ((*LIGHT, *([RUN] if subject.run_file else [])), HEAVY)
    states, more = [], []
    for looked in _with_patience(look(lanes, subject, TOTAL_SECONDS)):
        say(json.dumps(asdict(looked)) if as_json else shown(looked, width_of_the_terminal()))
        states.append(looked.finding.state)
        more.append(looked.finding.more)
    if not as_json:
        say("\n\n".join([conclusion(states, subject.visible), *filter(None, more)]))
    return State.WRONG not in states


def _with_patience(found: Generator[Looked, None, None]) -> Generator[Looked, None, None]:
    """The same, with a sign of life on a terminal between two of them."""
    waits = f"the next check is at work (all of them take at most {TOTAL_SECONDS:g} s)"
    with closing(found):
        while True:
            with console(sys.stderr).status(waits) if sys.stderr.isatty() else nullcontext():
                looked = next(found, None)
            if looked is None:
                return
            yield looked


def shown(looked: Looked, width: int) -> str:
    """The line of a check, broken at a width; 0 breaks nothing."""
    finding = looked.finding
    first = f"{finding.state.value:<{LABEL}} {looked.check:<{NAME}} "
    lines = _broken(first, finding.said, width)
    if finding.remedy:
        lines += _broken(" " * len(first) + "-> ", finding.remedy, width)
    return "\n".join(lines)


def _broken(first: str, text: str, width: int) -> list[str]:
    if not width:
        return [first + " ".join(text.splitlines())]
    room, indent = max(width, LEAST_WIDTH), " " * len(first)
    lines = textwrap.wrap(
        text, room, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines or [first]


def conclusion(states: Sequence[State], gpus: int) -> str:
    """The last line."""
    wrongs, notes = states.count(State.WRONG), states.count(State.NOTE)
    where = f"on {counted(gpus, 'GPU')}" if gpus else "on the CPU"
    if wrongs:
        return f"no run works here before what is marked WRONG ({wrongs}) is mended"
    said = "1 note above says" if notes == 1 else f"{notes} notes above say"
    return f"runs work here, {where}" + (f"; {said} what does not" if notes else "")


def width_of_the_terminal() -> int:
    """Columns; 0 where nobody sees it on a terminal, so that each line stays one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def subject_of(run_file: Path | None, items: Sequence[str]) -> Subject:
    """This machine, and a run where one is named: its run folder says where there must be room.

    Raises:
        ConfigError: the run file cannot be read.
    """
    from cluster.config.reading import load_config
    from cluster.preparing.storage import base_of

    runs = base_of(load_config(run_file, list(items)).run) if run_file else Path("runs")
    gpus = this_machines_gpus()
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = len(gpus.found if shown is None else [one for one in shown.split(",") if one.strip() not in ("", "-1")])
    scratch = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Subject(
        runs=runs,
        gpus=gpus,
        visible=min(visible, len(gpus.found)),
        run_file=run_file,
        items=tuple(items),
        scratch=Path(scratch),
    )

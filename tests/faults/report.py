"""What a fault campaign found, as a table and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from tests.faults.campaign import HUNG, LOST, RESUMED, WENT_ON, Outcome
from tests.faults.faults import FAULTS

HEADINGS = {
    "fault": "what was done",
    "times": "how often",
    "went on": "the run did more steps by itself",
    "resumed": "its driver ended, and `winnow train --resume` went on",
    "hung": "nothing happened until the driver was killed; then it was resumed",
    "ended": "it could not be resumed",
    "s": "seconds from the fault until two more steps were done: median, and the most",
    "whole s": "seconds until every part was there again: median, and the most, of those that were seen whole",
    "orphans": "processes that lived 30 s after their driver's end",
    "lost": "prompts that an undisturbed run trains on and this one did not",
    "twice": "groups trained on beyond one for each visit of a prompt",
    "wrong": "what else is wrong on disk: the law of conservation, versions of tokens, proofs of a sync, missing steps",
}


def table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """A row for each fault and one for all, with the columns of HEADINGS."""
    names = list(dict.fromkeys(each.fault for each in outcomes))
    rows = [_row(name, [each for each in outcomes if each.fault == name]) for name in names]
    return [*rows, _row("all", outcomes)]


def _row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    ways = [sum(each.how == how for each in outcomes) for how in (WENT_ON, RESUMED, HUNG, LOST)]
    sums = [sum(getattr(each, column) for each in outcomes) for column in ("orphans", "lost", "twice")]
    seconds = _spread([each.seconds for each in outcomes if each.how != LOST])
    whole = _spread([each.whole for each in outcomes if each.whole is not None])
    wrong = sum(len(each.faults) for each in outcomes)
    return [name, str(len(outcomes)), *map(str, ways), seconds, whole, *map(str, sums), str(wrong)]


def _spread(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.0f}, {max(seconds):.0f}" if seconds else "-"


def as_text(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal."""
    lines = [headings, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    )


def write_report(folder: Path, outcomes: Mapping[str, Sequence[Outcome]], seconds: float) -> str:
    """Writes faults.json and faults.md; gives the table as text.

    Args:
        folder: where they go.
        outcomes: of each campaign.
        seconds: that all of it took.
    """
    everything = [each for campaign in outcomes.values() for each in campaign]
    tree = {name: [asdict(each) for each in campaign] for name, campaign in outcomes.items()}
    (folder / "faults.json").write_text(json.dumps(tree, indent=1), encoding="utf-8")
    rows = table(everything)
    lines = [f"# {len(everything)} faults in {seconds / 60:.0f} minutes", "", *_markdown(list(HEADINGS), rows), ""]
    lines += [f"* **{name}**: {meaning}." for name, meaning in HEADINGS.items()]
    lines += ["", *(f"* **{name}**: {fault.about}." for name, fault in FAULTS.items())]
    lines += ["* **SIGTERM**: at the end of each run, which then goes on to a last step.", ""]
    lines += [_sentence(name, each) for name, campaign in outcomes.items() for each in campaign if not _is_well(each)]
    (folder / "faults.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return as_text(list(HEADINGS), rows)


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _is_well(each: Outcome) -> bool:
    by_resume = each.how == RESUMED and (each.fault not in FAULTS or FAULTS[each.fault].ends_driver)
    return (each.how == WENT_ON or by_resume) and not (each.lost or each.twice or each.faults or each.orphans)


def _sentence(campaign: str, each: Outcome) -> str:
    found = [f"{name} {value}" for name in ("orphans", "lost", "twice") if (value := getattr(each, name))]
    said = "; ".join([*found, *each.faults, *([each.said] if each.said else [])]).replace("\n", " ")
    return f"* {campaign}, {each.fault}, after step {each.step}: {each.how}. {said}"

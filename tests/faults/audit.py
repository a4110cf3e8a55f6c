"""Whether anything is lost or was trained twice, from what a run left on disk and nothing else.

The order in which prompts are dealt follows from the seed, so it is known which visits an undisturbed run trains on: at
every step those that were dealt so far, without the ones that are in somebody's hands. A group that was dealt while
version v was live is trained on by step v + staleness + 1 at the latest. A visit that is not there by then is lost; a
training that no visit is left for is one too many.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from actors.filtering.ledger import check_conservation

PROBE_GAP = 1e-3  # nats in float32, as a sync must prove it
MISMATCH = 1e-3  # sampler against learner where nothing is stale, nats per token
REJECTED = ("all_correct", "all_wrong")  # fates beside "" (trained) that end a visit as they should
Line = Mapping[str, Any]  # of metrics.jsonl
COLUMNS = ["group", "prompt_id", "rejected", "step", "versions", "sampled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A group whose fate is on disk."""

    group: int
    prompt: str
    fate: str  # "" for a trained one
    step: int
    oldest: int  # version of a sampled token
    newest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found."""

    step: int  # the last one
    lost: int  # visits that neither ended nor are in anyone's hands
    twice: int  # trainings beyond one for each visit
    faults: tuple[str, ...] = ()  # whatever else is wrong, in sentences

    @property
    def clean(self) -> bool:
        """Whether all is as without faults."""
        return not (self.lost or self.twice or self.faults)


def audit(
    folder: Path,
    lines: Sequence[Line],
    dealt: Callable[[int], Sequence[str]],
    *,
    size: int,
    staleness: int,
) -> Audit:
    """Looks at all that a run has reported.

    Args:
        folder: of the run.
        lines: of its metrics.jsonl.
        dealt: the ids of the prompts that are dealt first, so many of them.
        size: groups in a step.
        staleness: rollout.max_staleness.
    """
    if not lines:
        return Audit(step=0, lost=0, twice=0)
    ended = [group for group in ended_groups(folder) if group.step <= lines[-1]["step"]]
    wrong = [*of_the_lines(lines, staleness), *of_the_versions(ended, staleness)]
    trained = [group for group in ended if not group.fate]
    if (counted := lines[-1]["groups_trained"]) != len(trained) or counted != size * lines[-1]["step"]:
        wrong.append(f"{len(trained)} trained groups on disk, {counted} counted, {lines[-1]['step']} steps of {size}")
    seen = Counter(group.group for group in trained)
    again = sum(count - 1 for count in seen.values())
    by_ledger = lines[-1]["groups_failed"] + lines[-1]["groups_dropped"] - lines[-1]["groups_interrupted"]
    lost, more = unmatched(ended, dealt(_dealt_by(lines[-1])), _must_have_ended(lines, staleness))
    return Audit(step=lines[-1]["step"], lost=max(lost, by_ledger), twice=max(more, again), faults=tuple(wrong))


def unmatched(ended: Sequence[Ended], dealt: Sequence[str], due: int) -> tuple[int, int]:
    """(visits among the first `due` that have not ended, groups trained on beyond one for each visit)."""
    places = defaultdict[str, list[int]](list)
    for place, prompt in enumerate(dealt):
        places[prompt].append(place)
    taken, more = set[int](), 0
    for group in sorted(ended, key=lambda group: group.step):
        if places[group.prompt]:
            taken.add(places[group.prompt].pop(0))
        else:
            more += not group.fate
    return sum(place not in taken for place in range(min(due, len(dealt)))), more


def of_the_lines(lines: Sequence[Line], staleness: int) -> list[str]:
    """What is wrong with the metrics: steps that are not there once each, the law of conservation, proofs of a sync."""
    wrong = []
    steps = [line["step"] for line in lines]
    if steps != list(range(1, len(lines) + 1)):
        wrong.append(f"steps in metrics.jsonl: {steps}")
    for line in lines:
        try:
            check_conservation(dict(line))
        except AssertionError as broken:
            wrong.append(f"step {line['step']}: {broken}")
        if line["probe_gap"] > PROBE_GAP:
            wrong.append(f"step {line['step']}: probe gap {line['probe_gap']:.2g}")
        if not staleness and line["mismatch_kl"] > MISMATCH:
            wrong.append(f"step {line['step']}: sampler and learner differ by {line['mismatch_kl']:.2g}")
    return wrong


def of_the_versions(ended: Sequence[Ended], staleness: int) -> list[str]:
    """Tokens of versions that were not live when a group of their step was sampled."""
    wrong = []
    for group in ended:
        first, last = max(0, group.step - 1 - staleness), group.step - 1
        if not group.fate and not first <= group.oldest <= group.newest <= last:
            wrong.append(
                f"group {group.group} of step {group.step} holds tokens of versions {group.oldest} to {group.newest}"
            )
    return wrong


def ended_groups(folder: Path) -> list[Ended]:
    """All groups of the run's trajectories that ended as groups should: those that failed, or were given up, are not
    among them."""
    found = dict[tuple[int, int], Ended]()
    for path in sorted(folder.glob("trajectories/*/groups*.parquet")):
        for row in pq.read_table(path, columns=COLUMNS).to_pylist():
            if row["rejected"] in ("", *REJECTED):
                versions = np.array(row["versions"])[np.array(row["sampled"], bool)]
                oldest, newest = (int(versions.min()), int(versions.max())) if versions.size else (-1, -1)
                before = found.get((row["group"], row["step"]))
                found[row["group"], row["step"]] = Ended(
                    group=row["group"],
                    prompt=row["prompt_id"],
                    fate=row["rejected"],
                    step=row["step"],
                    oldest=min(oldest, before.oldest) if before else oldest,
                    newest=max(newest, before.newest) if before else newest,
                )
    return list(found.values())


def _dealt_by(line: Line) -> int:
    """Visits that had been dealt when a line was written: an interrupted group's prompt is dispatched again."""
    return line["groups_dispatched"] - line["groups_interrupted"]


def _must_have_ended(lines: Sequence[Line], staleness: int) -> int:
    """Visits that have ended by the last line unless they are lost."""
    before = len(lines) - 1 - (staleness + 1)
    return _dealt_by(lines[before]) if before >= 0 else 0

"""The audit of a run that faults were injected into: it finds what it is for, in folders written for the purpose."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.faults.audit import Audit, audit
from tests.faults.small import GROUPS, dealt

SCHEMA = pa.schema(
    [
        ("group", pa.int64()),
        ("prompt_id", pa.string()),
        ("rejected", pa.string()),
        ("step", pa.int32()),
        ("versions", pa.list_(pa.int32())),
        ("sampled", pa.list_(pa.bool_())),
    ]
)


def metrics(step: int, **changed: int | float) -> dict[str, int | float]:
    """A line after so many steps on policy, when the next step's groups have been dispatched."""
    places = dict.fromkeys(("all_correct", "all_wrong", "failed", "dropped", "interrupted", "buffered"), 0)
    counts = {f"groups_{name}": count for name, count in places.items()}
    counts |= {"groups_dispatched": GROUPS * (step + 1), "groups_trained": GROUPS * step, "groups_in_flight": GROUPS}
    return {"step": step, "probe_gap": 0.0, "mismatch_kl": 0.0} | counts | changed


def write(folder: Path, step: int, prompts: Sequence[str], *, version: int, first: int, fate: str = "") -> None:
    """Groups of one step, each of a single row, numbered from `first` on."""
    rows = [
        {
            "group": first + place,
            "prompt_id": prompt,
            "rejected": fate,
            "step": step,
            "versions": [-1, version],
            "sampled": [False, True],
        }
        for place, prompt in enumerate(prompts)
    ]
    place = folder / "trajectories" / f"step-{step}"
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), place / f"groups-{first}.parquet")


def a_run(folder: Path, steps: int = 4, without: Sequence[int] = ()) -> list[dict[str, int | float]]:
    """An undisturbed run on policy, without some of the steps' trajectories."""
    order = dealt(GROUPS * steps)
    for step in range(1, steps + 1):
        if step not in without:
            first = GROUPS * (step - 1)
            write(folder, step, order[first : first + GROUPS], version=step - 1, first=first)
    return [metrics(step) for step in range(1, steps + 1)]


def found(folder: Path, lines: Sequence[dict[str, int | float]], staleness: int = 0) -> Audit:
    return audit(folder, lines, dealt, size=GROUPS, staleness=staleness)


def test_an_undisturbed_run_is_clean(tmp_path: Path) -> None:
    assert found(tmp_path, a_run(tmp_path)).clean
    assert found(tmp_path, []).clean


def test_a_visit_that_is_nowhere_is_lost(tmp_path: Path) -> None:
    lines = a_run(tmp_path, without=[2])
    later = dealt(GROUPS * 5)[GROUPS * 4 :]  # trained in their place
    write(tmp_path, 2, later, version=1, first=100)
    assert found(tmp_path, lines).lost == GROUPS


def test_a_visit_that_may_still_come_is_not_lost(tmp_path: Path) -> None:
    lines = a_run(tmp_path)
    lines[-1] |= {"groups_dispatched": GROUPS * 9, "groups_in_flight": GROUPS * 5}
    assert found(tmp_path, lines).clean


def test_a_dropped_group_is_lost_and_an_interrupted_one_is_not(tmp_path: Path) -> None:
    lines = a_run(tmp_path)
    lines[-1] |= {"groups_dispatched": GROUPS * 5 + 2, "groups_dropped": 2, "groups_interrupted": 1}
    assert found(tmp_path, lines).lost == 1


def test_a_prompt_that_is_trained_on_again_before_its_next_visit_is_one_too_many(tmp_path: Path) -> None:
    lines = a_run(tmp_path, without=[4])
    write(tmp_path, 4, dealt(GROUPS), version=3, first=100)
    assert found(tmp_path, lines).twice == GROUPS


def test_a_group_that_is_written_in_two_steps_is_one_too_many(tmp_path: Path) -> None:
    lines = a_run(tmp_path)
    write(tmp_path, 4, dealt(1), version=3, first=0)
    assert found(tmp_path, lines).twice == 1


def test_rejected_groups_have_ended(tmp_path: Path) -> None:
    order = dealt(3 * GROUPS)
    write(tmp_path, 1, order[:GROUPS], version=0, first=0, fate="all_wrong")
    write(tmp_path, 1, order[GROUPS : 2 * GROUPS], version=0, first=GROUPS)
    line = metrics(1, groups_all_wrong=GROUPS, groups_dispatched=3 * GROUPS)
    assert found(tmp_path, [line]).clean


def test_tokens_of_a_version_that_was_not_live_are_told(tmp_path: Path) -> None:
    lines = a_run(tmp_path, without=[3])
    write(tmp_path, 3, dealt(3 * GROUPS)[2 * GROUPS :], version=3, first=2 * GROUPS)
    audited = found(tmp_path, lines)
    assert len(audited.faults) == GROUPS
    assert audited.faults[0] == "group 8 of step 3 holds tokens of versions 3 to 3"
    write(tmp_path, 3, dealt(3 * GROUPS)[2 * GROUPS :], version=1, first=2 * GROUPS)
    assert found(tmp_path, lines, staleness=1).clean
    assert not found(tmp_path, lines).clean


def test_a_broken_law_a_missing_step_and_a_disagreement_are_told(tmp_path: Path) -> None:
    lines = a_run(tmp_path)
    assert "accounted for" in found(tmp_path, [*lines[:3], metrics(4, groups_buffered=1)]).faults[0]
    assert "steps in metrics.jsonl: [1, 2, 4]" in found(tmp_path, [*lines[:2], lines[3]]).faults[0]
    assert "probe gap" in found(tmp_path, [*lines[:3], metrics(4, probe_gap=0.1)]).faults[0]
    assert "sampler and learner" in found(tmp_path, [*lines[:3], metrics(4, mismatch_kl=0.1)]).faults[0]
    lines = a_run(tmp_path / "other", without=[4])
    assert "trained groups on disk" in found(tmp_path / "other", lines).faults[0]

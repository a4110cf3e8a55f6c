"""What a run remembers is on disk as it was in memory, or is refused with what to do."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from actors.arrow import group_of, packed, unpacked
from actors.data.chooser import ChooserState, PromptCounts
from actors.data.source import PromptSourceState
from actors.data.stored import StoredGroupsState
from actors.filtering.filter import FilterState, WaitingGroup
from actors.filtering.ledger import Ledger
from actors.types import PromptVisit
from cluster.config.errors import ConfigError
from cluster.running.state import Counters, RunInputs, RunState
from cluster.running.state_file import read_state, write_state
from learner.types import LearnerState
from tests.builders import group, summary_of

WAITING = [replace(group([1.0, -1.0, None], id=number), greedy=0.1 + number) for number in range(2)]
INPUTS = RunInputs(prompts=7, prompts_digest="a", stored=0, stored_digest="", ranks=2, zero_stage=3, dtype="bfloat16")


def state_of(chooser: ChooserState | None = None) -> RunState:
    ledger = Ledger(groups_per_step=2, max_staleness=1, patience=9)
    ledger.admit(4)
    ledger.accept(0)
    ledger.accept(1)
    ledger.reject(2, "all_wrong", 0.0)
    again = (PromptVisit(prompt_id="7", visit=2),)
    return RunState(
        counters=Counters(step=3, updates=6, tokens=12345, seconds=1.5),
        inputs=INPUTS,
        scores=np.array([0.1, -1.0, 1 / 3]),
        roles={"first": 1 / 3, "second": -0.25},
        prompts=PromptSourceState(position=41, again=again, chooser=chooser),
        stored=StoredGroupsState(position=5),
        filter=FilterState(
            ledger=ledger.save(),
            waiting=tuple(WaitingGroup(summary=summary_of(one), group=packed(one)) for one in WAITING),
            interrupted=(PromptVisit(prompt_id="3", visit=0),),
            graded=(summary_of(group([1.0, 1.0], id=8)),),
        ),
        learner=LearnerState(baseline_mean=0.1, baseline_count=9, steps_since_reference=2, worked=4),
    )


def test_groups_of_a_checkpoint_without_the_columns_that_came_later_are_read_with_their_defaults(
    tmp_path: Path,
) -> None:
    write_state(state_of(), tmp_path)
    file = tmp_path / "state/groups.arrow"
    with pa.OSFile(str(file), "rb") as opened:
        table = pa.ipc.open_file(opened).read_all()
    for lacking, readable in (("messages", True), ("why", False)):
        with pa.OSFile(str(file), "wb") as opened, pa.ipc.new_file(opened, table.drop_columns([lacking]).schema) as new:
            new.write_table(table.drop_columns([lacking]))
        if readable:
            assert [each.group for each in read_state(tmp_path).filter.waiting] == [packed(one) for one in WAITING]
        else:
            with pytest.raises(ConfigError, match="has other columns than this version writes"):
                read_state(tmp_path)


CHOOSER = ChooserState(
    version=3, seen={"a\u00e9": PromptCounts(correct=0.95, wrong=1 / 3, version=2)}, weights=(0.1, -1 / 3, 0.0)
)


@pytest.mark.parametrize("chooser", [None, ChooserState(version=0, seen={}), CHOOSER])
def test_what_was_written_is_read_as_it_was(chooser: ChooserState | None, tmp_path: Path) -> None:
    state = state_of(chooser)
    files = write_state(state, tmp_path)
    assert all(file.is_file() for file in files)
    found = read_state(tmp_path)
    for name in ("counters", "inputs", "prompts", "stored", "learner", "roles"):
        assert getattr(found, name) == getattr(state, name), name
    assert found.scores.tolist() == state.scores.tolist()
    for name in ("ledger", "interrupted", "graded"):
        assert getattr(found.filter, name) == getattr(state.filter, name), name
    assert [each.summary for each in found.filter.waiting] == [each.summary for each in state.filter.waiting]
    for each, wanted in zip(found.filter.waiting, WAITING, strict=True):
        again = group_of(unpacked(each.group))
        assert (again.id, again.greedy, again.verdicts) == (wanted.id, wanted.greedy, wanted.verdicts)
        for one, other in zip(again.trajectories, wanted.trajectories, strict=True):
            np.testing.assert_array_equal(one.tokens, other.tokens)
            np.testing.assert_array_equal(one.logprobs, other.logprobs)


def test_a_state_of_an_unknown_format_is_refused_with_its_version_and_what_to_do(tmp_path: Path) -> None:
    write_state(state_of(), tmp_path)
    file = tmp_path / "state/run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99, "winnow": "9.1"}))
    with pytest.raises(ConfigError, match=r"written by winnow 9\.1 in a format that this one.*model\.path="):
        read_state(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "groups.arrow", "chooser.arrow", "difficulty.arrow", "scores.arrow"])
def test_a_damaged_state_is_refused(name: str, tmp_path: Path) -> None:
    write_state(state_of(), tmp_path)
    file = tmp_path / "state" / name
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ConfigError, match="Name an earlier checkpoint"):
        read_state(tmp_path)

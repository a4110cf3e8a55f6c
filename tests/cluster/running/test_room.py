"""A full disk costs a run time and nothing else."""

import asyncio
from pathlib import Path

import pytest

from actors.arrow import packed
from actors.errors import BrokenPart
from actors.filtering.client import FilterClient
from actors.filtering.filter import Filter, FilterSpec
from actors.filtering.rules import drop_both
from cluster.running import room
from cluster.running.room import when_there_is_room
from tests.builders import group, summary_of
from tests.doubles import InProcess


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RETRY_SECONDS", 0.01)


async def test_a_write_is_tried_until_there_is_room_and_the_run_says_it_once() -> None:
    said = list[str]()
    answers = iter(
        [
            BrokenPart("filter: No space left on device"),
            OSError(28, "No space left on device"),
            BrokenPart("filter: No space left on device"),
            "written",
        ]
    )

    async def write() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await when_there_is_room(write, said.append) == "written"
    assert [line.partition(":")[0] for line in said] == ["the disk is full", "there is room on the disk again"]


@pytest.mark.parametrize("failure", [BrokenPart("filter: no"), OSError(13, "Permission denied"), TimeoutError()])
async def test_what_is_no_full_disk_is_not_waited_for(failure: Exception) -> None:
    async def write() -> None:
        raise failure

    with pytest.raises(type(failure)):
        await when_there_is_room(write, lambda text: None)


async def test_trajectories_that_found_no_room_are_all_there_when_there_is_some(tmp_path: Path) -> None:
    """The kernel says that the disk is full: the file's unfinished form leads to /dev/full until it is taken away."""
    client = FilterClient(InProcess(Filter()), put=lambda arrays: arrays)
    folder = tmp_path / "trajectories"
    await client.begin(FilterSpec(drop=drop_both, groups_per_step=2, max_staleness=0, patience=9, trajectories=folder))
    for number in await client.admit():
        one = group([1.0, 1.0], id=number)
        await client.offer(summary_of(one), packed(one))
    (folder / "step-1").mkdir()
    (folder / "step-1/_groups.parquet.unfinished").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        await client.report(1)
    said = list[str]()
    await asyncio.wait_for(when_there_is_room(lambda: client.report(1), said.append), timeout=60)
    assert [path.name for path in (folder / "step-1").iterdir()] == ["groups.parquet"]

"""A full disk costs a run time and nothing else."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.arrow import packed
from actors.disk import RAYS
from actors.errors import BrokenPart, RolloutFailed
from actors.filtering.client import FilterClient
from actors.filtering.filter import Filter, FilterSpec
from actors.filtering.rules import drop_both
from actors.types import RolloutRequest
from cluster.config.reading import config_of
from cluster.running import room
from cluster.running.groups import GroupSource
from cluster.running.room import Room
from tests.builders import group, prompt, summary, summary_of
from tests.doubles import InProcess


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RETRY_SECONDS", 0.01)


def after(*failures: Exception) -> Any:
    """A write that fails so, one time after the other, and then gives "written"."""
    left = list(failures)

    async def write(*_: Any) -> Any:
        if left:
            raise left.pop(0)
        return "written"

    return write


FULL = (BrokenPart("filter: No space left on device"), OSError(28, "No space left on device"))


async def test_a_write_is_tried_until_there_is_room_and_the_run_says_it_once() -> None:
    said = list[str]()
    room = Room(said.append)
    assert await asyncio.gather(*(room.wait_for(after(*FULL)) for _ in range(5))) == ["written"] * 5
    assert [line.partition(":")[0] for line in said] == [
        "the run waits for room on the disk, and loses nothing",
        "the run no longer waits for room on the disk",
    ]


@pytest.mark.parametrize("failure", [BrokenPart("filter: no"), OSError(13, "Permission denied"), TimeoutError()])
async def test_what_is_no_full_disk_is_not_waited_for(failure: Exception) -> None:
    said = list[str]()
    with pytest.raises(type(failure)):
        await Room(said.append).wait_for(after(failure))
    assert not said


async def test_whoever_gives_up_waiting_no_longer_counts() -> None:
    said = list[str]()
    room = Room(said.append)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await room.wait_for(after(*FULL * 1000))
    assert len(said) == 2


async def test_trajectories_that_found_no_room_are_all_there_when_there_is_some(tmp_path: Path) -> None:
    """The kernel says that the disk is full: the file's unfinished form leads to /dev/full until it is taken away."""
    client = FilterClient(lambda: InProcess(Filter()), put=lambda arrays: arrays)
    folder = tmp_path / "trajectories"
    await client.begin(FilterSpec(drop=drop_both, groups_per_step=2, max_staleness=0, patience=9, trajectories=folder))
    for number in await client.admit():
        one = group([1.0, 1.0], id=number)
        await client.offer(summary_of(one), packed(one))
    (folder / "step-1").mkdir()
    (folder / "step-1/_groups.parquet.unfinished").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        await client.report(1)
    await asyncio.wait_for(Room(print).wait_for(lambda: client.report(1)), timeout=60)
    assert [path.name for path in (folder / "step-1").iterdir()] == ["groups.parquet"]


async def test_groups_that_the_object_store_has_no_room_for_are_sampled_again_and_not_lost() -> None:
    """Ray says so when a node's store is full and its disk, to which it would move groups, is too."""
    lost = list[RolloutFailed]()
    full = RolloutFailed("generator_error", "group 0 failed twice: generator-0 failed: OutOfDiskError: " + RAYS)
    source = GroupSource(
        config=config_of({"world": {"name": "addition"}}),
        prompts=SimpleNamespace(graded=lambda summary: None),  # type: ignore[arg-type]
        generators=SimpleNamespace(rollout=sampled_after(full, full)),  # type: ignore[arg-type]
        stored=None,
        lost=lost.append,
        room=Room(print),
    )
    request = RolloutRequest(group=0, prompt=prompt(), visit=0)
    assert (await asyncio.wait_for(source.rollout(request), timeout=60))[1] == "group"
    assert lost == []


def sampled_after(*failures: Exception) -> Any:
    write = after(*failures)

    async def rollout(request: RolloutRequest) -> Any:
        await write()
        return summary([1.0, -1.0]), "group"

    return rollout

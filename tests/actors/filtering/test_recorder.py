"""What a run leaves of its groups: all that were graded, readable while the run writes, however it ends."""

import asyncio
import re
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from actors.arrow import packed
from actors.filtering import recorder
from actors.filtering.client import FilterClient
from actors.filtering.filter import Filter, FilterSpec
from actors.filtering.recorder import Recorder
from actors.filtering.rules import drop_both
from tests.builders import group, summary_of
from tests.doubles import InProcess

ROOT = Path(__file__).parents[3]
SNIPPET = "rows = ds.dataset("


def read(folder: Path) -> list[dict[str, Any]]:
    return ds.dataset(folder).to_table(columns=["group", "rejected", "step"]).to_pylist()


def groups(folder: Path) -> list[int]:
    return sorted({row["group"] for row in read(folder)})


def settle(writer: Recorder) -> None:
    """Returns when what is full has been written, or could not be."""
    writer._thread.submit(lambda: None).result()
    wait(writer._files)


def test_a_second_close_of_a_step_adds_to_what_the_first_one_wrote(tmp_path: Path) -> None:
    writer = Recorder(tmp_path)
    writer.write([packed(group([1.0, 1.0], id=number)) for number in range(256)], "all_correct")
    writer.close_step(1)
    writer.write([packed(group([1.0, -1.0], id=5000))], "never trained")
    writer.close_step(1)
    writer.close(1)
    assert groups(tmp_path) == [*range(256), 5000]
    assert {row["step"] for row in read(tmp_path)} == {1}
    assert [row["rejected"] for row in read(tmp_path) if row["group"] == 5000] == ["never trained"] * 2


def test_values_that_hardly_come_twice_have_no_dictionary(tmp_path: Path) -> None:
    writer = Recorder(tmp_path)
    writer.write([packed(group([1.0, -1.0]))], "")
    writer.close_step(1)
    (file,) = (tmp_path / "step-1").iterdir()
    columns = pq.ParquetFile(file).metadata.row_group(0)
    plain = {columns.column(index).path_in_schema for index in range(columns.num_columns)} - {
        columns.column(index).path_in_schema
        for index in range(columns.num_columns)
        if columns.column(index).has_dictionary_page
    }
    assert {"response", "tokens.list.element", "logprobs.list.element"} <= plain
    assert not {"prompt_id", "outcome", "finish", "versions.list.element"} & plain


def test_each_row_names_the_step_that_saw_it(tmp_path: Path) -> None:
    writer = Recorder(tmp_path, step=4)
    for step in (4, 5):
        writer.write([packed(group([1.0, -1.0], id=step))], "")
        writer.close_step(step)
    writer.write([packed(group([1.0, -1.0], id=6))], "never trained")
    writer.close(6)
    writer.write([packed(group([1.0, -1.0], id=7))], "all_wrong")  # whatever comes late
    writer.close(7)
    assert {row["group"]: row["step"] for row in read(tmp_path)} == {4: 4, 5: 5, 6: 6, 7: 7}
    assert pq.read_table(tmp_path).num_rows == 8  # reads a folder as pandas does
    assert pq.read_table(tmp_path / "step-4/groups.parquet")["group"].to_pylist() == [4, 4]


def test_what_is_full_or_has_waited_is_on_disk_before_its_step_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "FULL", 4)
    writer = Recorder(tmp_path)
    writer.write([packed(group([1.0, -1.0], id=number)) for number in range(5)], "")
    settle(writer)
    assert groups(tmp_path) == [0, 1, 2, 3]
    monkeypatch.setattr(recorder, "WAIT_SECONDS", -1.0)
    writer.write([packed(group([1.0, -1.0], id=5))], "")
    settle(writer)
    assert groups(tmp_path) == [0, 1, 2, 3, 4, 5]


def test_several_threads_write_files_of_their_own_and_what_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "FULL", 4)
    monkeypatch.setattr(recorder, "WRITERS", 3)
    writer, together = Recorder(tmp_path), threading.Barrier(3, timeout=60)
    put = writer._put

    def three_at_a_time(target: Path, table: Any) -> None:
        together.wait()
        if target.name == "groups-2.parquet":
            raise OSError(28, "No space left on device")
        put(target, table)

    monkeypatch.setattr(writer, "_put", three_at_a_time)
    writer.write([packed(group([1.0, -1.0], id=number)) for number in range(6)], "")
    settle(writer)
    assert groups(tmp_path) == [0, 1, 4, 5]
    assert sorted(writer.on_disk()) == [0, 1, 4, 5]
    monkeypatch.setattr(writer, "_put", put)
    writer.close_step(1)
    assert groups(tmp_path) == [*range(6)]
    assert writer.on_disk() == (2, 3)
    assert sorted(file.name for file in (tmp_path / "step-1").iterdir()) == [
        "groups-2.parquet",
        "groups-3.parquet",
        "groups.parquet",
    ]


def test_a_disk_that_was_full_for_a_while_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "FULL", 2)
    writer = Recorder(tmp_path)
    put = writer._put

    def full(target: Path, table: Any) -> None:
        (target.parent / "_half.unfinished").write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_put", full)
    (tmp_path / "step-1").mkdir()
    writer.write([packed(group([1.0, -1.0], id=0))], "")
    with pytest.raises(OSError, match="No space left"):
        writer.close_step(1)
    monkeypatch.setattr(writer, "_put", put)
    writer.close_step(1)
    assert groups(tmp_path) == [0]


def snippets() -> Iterator[tuple[str, str]]:
    for page in ("docs/running.md", "docs/accuracy.md"):
        for source in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S):
            if "/trajectories" in source:
                yield page, re.sub(r"runs/\w+/trajectories", "trajectories", source)


def test_the_way_to_read_trajectories_that_the_docs_show_works_while_a_run_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recorder, "FULL", 8)
    writer, over = Recorder(tmp_path / "trajectories"), threading.Event()

    def write() -> None:
        for step in range(1, 40):
            writer.write([packed(group([1.0, -1.0, 1.0], id=step * 10 + n)) for n in range(4)], "")
            writer.close_step(step)
        over.set()

    sources = list(snippets())
    assert len(sources) == 2
    for _, source in sources:  # before there is a row
        exec(source, {"print": lambda *_: None})
    thread = threading.Thread(target=write)
    thread.start()
    seen = [0]
    while not over.is_set():
        for page, source in sources:
            names: dict[str, Any] = {"print": lambda *_: None}
            exec(source, names)
            table = names.get("rows", names.get("table"))
            assert table is not None, page
            assert "step" in table.column_names, page
            seen.append(table.num_rows)
    thread.join()
    assert seen == sorted(seen)
    assert len(read(tmp_path / "trajectories")) == 39 * 12


async def test_however_a_run_ends_every_group_that_was_offered_is_on_disk(tmp_path: Path) -> None:
    client = FilterClient(lambda: InProcess(Filter()), put=lambda arrays: arrays)
    spec = FilterSpec(
        drop=drop_both, groups_per_step=4, max_staleness=1, patience=100, trajectories=tmp_path / "trajectories"
    )
    await client.begin(spec)
    ids = await client.admit()
    assert len(ids) == 8
    scores = {number: [1.0, 1.0] if number % 2 else [1.0, -1.0] for number in ids}

    async def offer(number: int) -> None:
        one = group(scores[number], id=number)
        await client.offer(summary_of(one), packed(one))

    for number in ids[:2]:
        await offer(number)
    offers = [asyncio.create_task(offer(number)) for number in ids[2:7]]
    await asyncio.sleep(0)  # the first is under way, the others wait for it
    for each in offers:
        each.cancel()
    await asyncio.gather(*offers, return_exceptions=True)
    await client.close(1)
    await offer(ids[7])  # its reply came after the end
    await client.close(1)
    rows = read(tmp_path / "trajectories")
    assert {row["group"]: row["rejected"] for row in rows} == {
        number: "all_correct" if number % 2 else "never trained" for number in ids
    }
    assert len(rows) == 16

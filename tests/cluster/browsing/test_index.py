"""What the index takes from a folder of trajectories, whatever lies in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.arrow import ADDED
from cluster.browsing.folder import RunFolder, run_folder
from cluster.browsing.search import Search
from cluster.browsing.serve import browsed_folder
from tests.builders import group as random_group
from tests.cluster.browsing.made import group_of_texts, looked_at, said, write_run


def rows(run: Path, columns: str) -> list[tuple[object, ...]]:
    with looked_at(run_folder(str(run))) as (index, _):
        query = f'SELECT {columns} FROM responses ORDER BY step, "group", number'
        return list(index.cursor().execute(query).fetchall())


def test_each_response_has_its_size_versions_and_fate(tmp_path: Path) -> None:
    first = random_group([1.0, -1.0, None], [4, 1, 2], id=3)
    odd = replace(first.trajectories[0], versions=np.array([-1, -1, -1, 5, 5, 6, 7], np.int32))
    first = replace(first, trajectories=(odd, *first.trajectories[1:]))
    run = write_run(tmp_path, {1: [(first, "")], 2: [(random_group([1.0, 1.0], id=4), "all_correct")]})
    assert rows(run, '"group", step, number, tokens, oldest, newest, score, rejected') == [
        (3, 1, 0, 4, 5, 7, 1.0, ""),
        (3, 1, 1, 1, 0, 0, -1.0, ""),
        (3, 1, 2, 2, 0, 0, None, ""),
        (4, 2, 0, 1, 0, 0, 1.0, "all_correct"),
        (4, 2, 1, 2, 0, 0, 1.0, "all_correct"),
    ]


def test_a_response_in_several_streams_is_one(tmp_path: Path) -> None:
    group = group_of_texts(["one", " two", "other"], [1.0, 1.0, -1.0], id=9)
    parts = (group.trajectories[0], replace(said(" two", version=8), continues=True), group.trajectories[2])
    run = write_run(tmp_path, {1: [(replace(group, trajectories=parts), "")]})
    assert rows(run, "number, response, tokens, oldest, newest") == [(0, "one two", 6, 8, 9), (1, "other", 3, 9, 9)]


def test_a_file_of_an_older_run_is_read_without_the_columns_that_came_later(tmp_path: Path) -> None:
    run = write_run(tmp_path, {1: [(group_of_texts(["a", "b"], [1.0, -1.0]), "")]})
    file = run / "trajectories/step-1/groups.parquet"
    pq.write_table(pq.read_table(file).drop_columns(list(ADDED)), file)
    assert rows(run, "response, seat, episode") == [("a", "policy", 0), ("b", "policy", 0)]


def test_files_that_are_torn_unfinished_or_of_something_else_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    run = write_run(tmp_path, {step: [(group_of_texts(["a"], [1.0], id=step), "")] for step in (1, 2, 3)})
    torn = run / "trajectories/step-2/groups.parquet"
    torn.write_bytes(torn.read_bytes()[:-100])
    (run / "trajectories/step-3/_groups-2.parquet.unfinished").write_bytes(b"PAR1")
    pq.write_table(pa.table({"prompt": ["p"]}), run / "trajectories/step-3/groups-2.parquet")
    (run / "trajectories/step-1/groups-2.parquet").write_bytes(b"")
    (run / "trajectories/step-old").mkdir()
    with looked_at(run_folder(str(run))) as (index, following):
        assert [step for (step,) in index.cursor().execute("SELECT step FROM groups ORDER BY 1").fetchall()] == [1, 3]
        assert following.progress.complete
        problems = sorted(following.progress.problems)
        assert [problem.split(" is ")[0].split(str(run))[1] for problem in problems] == [
            "/trajectories/step-1/groups-2.parquet",
            "/trajectories/step-2/groups.parquet",
            "/trajectories/step-3/groups-2.parquet",
        ]
        assert "has no column group, step" in problems[2]


def test_the_index_follows_what_comes_changes_and_goes(tmp_path: Path) -> None:
    run = write_run(tmp_path, {1: [(group_of_texts(["a"], [1.0], id=1), "")]})
    with looked_at(run_folder(str(run))) as (index, following):
        search = Search(index)
        write_run(tmp_path / "more", {2: [(group_of_texts(["b"], [1.0], id=2), "")]}, config="")
        (tmp_path / "more/trajectories/step-2").rename(run / "trajectories/step-2")
        following.look()
        assert search.overview()["last_step"] == 2
        torn = run / "trajectories/step-2/groups.parquet"
        whole = torn.read_bytes()
        torn.write_bytes(whole[:100])
        following.look()
        assert (search.overview()["groups"], len(following.progress.problems)) == (1, 1)
        torn.write_bytes(whole)
        following.look()
        assert (search.overview()["groups"], following.progress.problems) == (2, ())
        torn.unlink()  # as when the run went on from an earlier checkpoint
        following.look()
        changes = index.changes
        assert search.overview()["groups"] == 1
        following.look()
        assert index.changes == changes  # nothing is read twice


def test_the_thread_reads_a_folder_that_comes_later(tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path, settings={})
    with looked_at(run) as (index, following):
        assert following.progress.complete
        write_run(tmp_path, {1: [(group_of_texts(["a"], [1.0]), "")]})
        following.start()
        while not Search(index).overview()["groups"]:
            assert following._thread.is_alive()


def test_a_file_for_which_there_is_no_room_is_named_and_nothing_of_it_is_taken_in(tmp_path: Path) -> None:
    run = write_run(tmp_path, {1: [(group_of_texts(["a"], [1.0]), "")]})
    with browsed_folder(run_folder(str(run))) as (index, following):
        index.cursor().execute("DROP TABLE responses")  # what comes second fails, as where the disk is full
        following.look()
        assert "is not in the index" in following.progress.problems[0]
        assert index.cursor().execute("SELECT count(*) FROM groups").fetchall() == [(0,)]


@pytest.mark.parametrize("sizes", [(0, 2), (2, 0), (0, 0)])
def test_responses_without_a_token_have_neither_tokens_nor_versions(tmp_path: Path, sizes: tuple[int, int]) -> None:
    group = group_of_texts(["", ""], [1.0, -1.0], id=7)
    cut = tuple(
        replace(one, **{name: getattr(one, name)[: 3 + size] for name in ("tokens", "sampled", "logprobs", "versions")})
        for one, size in zip(group.trajectories, sizes, strict=True)
    )
    run = write_run(tmp_path, {1: [(replace(group, trajectories=cut), "")]})
    assert rows(run, "tokens, oldest, newest") == [(size, *([7, 7] if size else [-1, -1])) for size in sizes]

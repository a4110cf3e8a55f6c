"""The thread that writes checkpoints does all of a folder, or says why it could not."""

import threading
from functools import partial
from pathlib import Path

from learner.writing import Writer, mark_complete, not_whole


def write(file: Path, text: str) -> tuple[Path]:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return (file,)


def full() -> tuple[Path]:
    raise OSError(28, "No space left on device", "shard-7")


def test_files_are_written_behind_the_callers_back_and_named_with_their_sizes(tmp_path: Path) -> None:
    writer, may = Writer(), threading.Event()

    def waits() -> tuple[()]:
        may.wait()
        return ()

    writer.begin(tmp_path / "one")
    writer.add(waits)
    writer.add(partial(write, tmp_path / "one/state/a", "aaa"))
    writer.add(partial(write, tmp_path / "one/b", "b"))
    assert not (tmp_path / "one/b").exists()
    may.set()
    assert writer.finish().files == {"state/a": 3, "b": 1}
    assert writer.finish().problem == ""
    writer.close()


def test_after_a_failure_the_rest_of_the_folder_is_left_out_and_the_next_one_is_tried(tmp_path: Path) -> None:
    writer = Writer()
    writer.begin(tmp_path / "one")
    writer.add(partial(write, tmp_path / "one/a", "a"))
    writer.add(full)
    writer.add(partial(write, tmp_path / "one/b", "b"))
    found = writer.finish()
    assert found.problem == "OSError: [Errno 28] No space left on device: 'shard-7'"
    assert not (tmp_path / "one/b").exists()
    writer.begin(tmp_path / "two")
    writer.add(partial(write, tmp_path / "two/c", "cc"))
    assert (writer.finish().files, writer.finish().problem) == ({"c": 2}, "")
    writer.close()


def test_a_folder_is_marked_when_its_files_are_on_disk(tmp_path: Path) -> None:
    write(tmp_path / "a", "a")
    (tmp_path / "state").mkdir()
    mark_complete(tmp_path)
    assert (tmp_path / "complete").is_file()
    assert not_whole(tmp_path) == ""
    mark_complete(tmp_path, {"a": 1})
    assert not_whole(tmp_path) == ""
    write(tmp_path / "a", "aa")
    assert not_whole(tmp_path) == f"{tmp_path}/a was cut or damaged: it has 2 bytes, and 1 were written"
    (tmp_path / "a").unlink()
    assert not_whole(tmp_path) == f"{tmp_path}/a is missing"

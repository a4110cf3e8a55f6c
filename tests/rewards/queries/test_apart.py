import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rewards.queries.apart import apart, close_files
from rewards.queries.databases import QueryError, QueryTimeout
from rewards.queries.results import Result

MIB = 1024
RESULT = Result(columns=("a",), rows=((1, "\udcff", b"x", None, 1.5, (2,)),))


def doing(work: Callable[[], object]) -> Callable[[], Result]:
    def whole() -> Result:
        work()
        return RESULT

    return whole


def failing(error: Exception) -> Callable[[], Result]:
    def whole() -> Result:
        raise error

    return whole


def test_a_result_comes_back_whole_and_leaves_nothing_open() -> None:
    before = os.listdir("/proc/self/fd")
    assert apart(doing(lambda: None), 20, MIB) == RESULT
    wide = Result(columns=("a",), rows=(("x" * 2**21,),))
    assert apart(lambda: wide, 20, MIB) == wide
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_is_changed_in_memory_is_changed_for_nobody_else() -> None:
    held = [1]
    assert apart(doing(lambda: held.append(2)), 20, MIB) == RESULT
    assert held == [1]


@pytest.mark.parametrize("mode", ["w", "r", "a"])
def test_behind_closed_files_no_file_is_opened_and_one_that_is_open_is_read(tmp_path: Path, mode: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(QueryError, match="Too many open files"):
        apart(doing(lambda: (close_files(), (tmp_path / "file").open(mode))), 20, MIB)
    assert (tmp_path / "file").read_text() == "kept"
    with (tmp_path / "file").open() as file:
        found = apart(lambda: (close_files(), Result(columns=(file.read(),), rows=()))[1], 20, MIB)
    assert found.columns == ("kept",)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (doing(lambda: os.kill(os.getpid(), signal.SIGSEGV)), "ended the process that ran it"),
        (doing(lambda: os.kill(os.getpid(), signal.SIGKILL)), "ended the process that ran it"),
        (doing(lambda: os._exit(0)), "ended the process that ran it"),
        (failing(QueryError("no such column")), "^no such column$"),
        (failing(MemoryError()), "more memory than there is"),
        (failing(RecursionError("too deep")), "broke what ran it: RecursionError: too deep"),
        (failing(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")), "broke what ran it: UnicodeDecodeError"),
    ],
)
def test_whatever_a_query_breaks_is_the_query_s_own_failure(work: Callable[[], Result], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        apart(work, 20, MIB)


def test_a_query_that_takes_more_memory_than_it_may_is_the_query_s_own_failure() -> None:
    with pytest.raises(QueryError, match="more memory than there is"):
        apart(doing(lambda: bytearray(2 * MIB << 20)), 20, MIB)


def test_a_database_that_cannot_be_read_is_not_the_query_s_failure() -> None:
    with pytest.raises(ValueError, match="cannot read"):
        apart(failing(ValueError("cannot read d.duckdb")), 20, MIB)


def test_what_does_not_end_is_killed_at_its_time() -> None:
    start = time.monotonic()
    with pytest.raises(QueryTimeout, match=r"longer than 0\.3 s"):
        apart(doing(lambda: time.sleep(60)), 0.3, MIB)
    assert time.monotonic() - start < 10

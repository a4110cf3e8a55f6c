"""Processes that meet, sum, broadcast and share memory, on the CPU: the code that GPUs will run."""

import multiprocessing
import time
from multiprocessing.connection import Connection

import pytest

from learner.checks import links
from learner.checks.links import Unreachable, link, meet, share

LIMIT = 600.0  # seconds, of which a busy machine may need many to start a process


def test_a_word_put_into_the_store_at_one_end_is_read_at_the_other() -> None:
    assert meet() == "met"


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_sum_exactly_in_every_dtype_and_broadcast_at_some_speed(ranks: int) -> None:
    found = link("cpu", ranks, mib=1, seconds=LIMIT)
    assert (found.ranks, found.wrong) == (ranks, ())
    assert (found.gb_per_second > 0) == (ranks > 1)


@pytest.mark.slow
def test_two_processes_that_share_memory_see_what_the_other_wrote() -> None:
    assert share("cpu", mib=1, seconds=LIMIT)


def _ends(line: Connection, number: int) -> None:
    raise SystemExit(7)


def _sleeps(line: Connection, number: int) -> None:
    time.sleep(600)


def _fails(line: Connection, number: int) -> None:
    raise RuntimeError("NCCL error in: here\nwhat follows\nLast error: no route")


@pytest.mark.slow
def test_what_a_rank_was_refused_is_said_in_the_words_of_who_refused_it() -> None:
    with pytest.raises(Unreachable, match=r"rank 0: NCCL error in: here \.\.\. Last error: no route"):
        links.in_processes(_fails, [(1,)], LIMIT)


@pytest.mark.slow
def test_a_process_that_ends_and_one_that_hangs_are_named_and_gone() -> None:
    with pytest.raises(Unreachable, match="rank 0 ended with status 7"):
        links.in_processes(_ends, [(1,)], LIMIT)
    with pytest.raises(Unreachable, match="rank 0 has not answered within 3 s"):
        links.in_processes(_sleeps, [(1,)], 3.0)
    assert multiprocessing.active_children() == []

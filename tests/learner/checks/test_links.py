"""Processes that meet, sum, broadcast and share memory, on the CPU: the code that GPUs will run."""

import multiprocessing
import time
from multiprocessing.connection import Connection

import pytest

from learner.checks import links
from learner.checks.links import Unreachable, link, meet, share


def test_a_word_put_into_the_store_at_one_end_is_read_at_the_other() -> None:
    assert meet() == "met"


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_sum_exactly_in_every_dtype_and_broadcast_at_some_speed(ranks: int) -> None:
    found = link("cpu", ranks, mib=1, seconds=60.0)
    assert (found.ranks, found.wrong) == (ranks, ())
    assert (found.gb_per_second > 0) == (ranks > 1)


@pytest.mark.slow
def test_two_processes_that_share_memory_see_what_the_other_wrote() -> None:
    assert share("cpu", mib=1, seconds=60.0)


def _ends(line: Connection, number: int) -> None:
    raise SystemExit(7)


def _sleeps(line: Connection, number: int) -> None:
    time.sleep(600)


@pytest.mark.slow
def test_a_process_that_ends_and_one_that_hangs_are_named_and_gone() -> None:
    with pytest.raises(Unreachable, match="rank 0 ended with status 7"):
        links.in_processes(_ends, [(1,)], 60.0)
    with pytest.raises(Unreachable, match="rank 0 has not answered within 3 s"):
        links.in_processes(_sleeps, [(1,)], 3.0)
    assert multiprocessing.active_children() == []

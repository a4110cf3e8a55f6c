"""Python looks for unused objects seldom while a run goes on, and as before when it is over."""

import gc

import pytest

from actors.garbage import YOUNG, collecting_seldom


def test_a_process_collects_as_before_when_a_run_in_it_is_over() -> None:
    def run() -> None:
        with collecting_seldom():
            assert (gc.get_threshold()[0], gc.get_freeze_count() > 0) == (YOUNG, True)
            raise ValueError("the run fails")

    before = gc.get_threshold(), gc.get_freeze_count()
    with pytest.raises(ValueError, match="fails"):
        run()
    assert (gc.get_threshold(), gc.get_freeze_count()) == before

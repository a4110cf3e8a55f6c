"""Work that blocks its caller until it is done, called where no loop runs and inside one, as by a notebook."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.blocking import run_blocking
from cluster.running.signals import StopRequest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def _in_a_cell() -> Iterator[None]:
    """What a kernel does at an interrupt while a cell runs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def doubled(number: int) -> int:
    async with asyncio.timeout(60):
        return await asyncio.to_thread(lambda: 2 * number)


def test_it_gives_what_the_work_gives_in_a_loop_and_out_of_one() -> None:
    async def cell() -> int:
        waiting = asyncio.create_task(asyncio.sleep(0, 1))
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        result = run_blocking(doubled(2)) + run_blocking(doubled(3))
        assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)
        return result + await waiting

    assert run_blocking(doubled(2)) == 4
    assert asyncio.run(cell()) == 11


def test_what_the_work_raises_leaves_the_loop_around_it_as_it_was() -> None:
    async def breaks() -> None:
        raise ValueError("broken")

    async def cell() -> int:
        with pytest.raises(ValueError, match="broken"):
            run_blocking(breaks())
        return await asyncio.sleep(0, 1)

    assert asyncio.run(cell()) == 1


@pytest.mark.usefixtures("_in_a_cell")
def test_the_interrupt_of_a_cell_asks_a_run_to_stop() -> None:
    async def trains() -> signal.Signals | None:
        request = StopRequest()
        with request.listening(lambda number: None):
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.wait_for(request.asked.wait(), timeout=60)
        return request.signal

    async def cell() -> signal.Signals | None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return run_blocking(trains())

    assert asyncio.run(cell()) == signal.SIGINT


@pytest.mark.usefixtures("_in_a_cell")
def test_an_interrupt_of_work_that_nobody_can_ask_ends_it_and_closes_what_it_has_open() -> None:
    closed: list[str] = []

    async def starts() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            closed.append("closed")

    async def cell() -> int:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            run_blocking(starts())
        return await asyncio.sleep(0, 1)

    assert asyncio.run(cell()) == 1
    assert closed == ["closed"]


def test_nothing_that_a_notebook_may_call_starts_a_loop_in_another_way() -> None:
    own = re.compile(r"asyncio\.(run|Runner)\(|run_until_complete")
    files = [path for path in sorted((ROOT / "cluster").rglob("*.py")) if own.search(path.read_text(encoding="utf-8"))]
    assert [path.name for path in files] == ["blocking.py"]

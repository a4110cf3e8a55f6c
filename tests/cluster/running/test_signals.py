"""SIGTERM ends a run as Ctrl-C does: what it has open is closed."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from cluster.running.signals import Terminated, sigterm_interrupts


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        assert signal.getsignal(number) is handler or number == signal.SIGINT
        signal.signal(number, handler)


async def a_run(closed: list[str]) -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.01)  # as a call to the filter takes
        closed.append("closed")


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_a_run_that_is_told_to_end_closes_what_it_has_open(handler: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, handler)
    closed: list[str] = []
    with pytest.raises(Terminated), sigterm_interrupts():
        asyncio.run(a_run(closed))
    assert closed == ["closed"]


def test_ctrl_c_stays_what_it_is() -> None:
    with pytest.raises(KeyboardInterrupt) as ended, sigterm_interrupts():
        raise KeyboardInterrupt
    assert ended.type is KeyboardInterrupt

"""Ctrl-C and SIGTERM: the first one stops a run that trains at a safe point, the second ends it at once."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from cluster.running import signals
from cluster.running.signals import (
    ASKING,
    StopRequest,
    Terminated,
    passed_on,
    said_at,
    sigterm_interrupts,
    undisturbed,
)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
    before = {number: signal.getsignal(number) for number in (*ASKING, *map(passed_on, ASKING))}
    yield
    for number, handler in before.items():
        assert signal.getsignal(number) is handler or number == signal.SIGINT
        signal.signal(number, handler)
    signal.signal(signal.SIGHUP, hangup)


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


async def asked_by(number: signal.Signals, times: int) -> tuple[StopRequest, list[signal.Signals]]:
    """What a run has heard after so many signals, and the request that it got."""
    request, said = StopRequest(), list[signal.Signals]()
    with request.listening(said.append):
        for _ in range(times):
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)
        await asyncio.wait_for(request.asked.wait(), timeout=60)
    return request, said


@pytest.mark.parametrize("number", ASKING)
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_asks_a_run_that_trains_to_stop_also_where_a_parent_passes_it_on(
    number: signal.Signals, times: int
) -> None:
    with sigterm_interrupts():
        request, said = asyncio.run(asked_by(number, times))
    assert (request.signal, request.hurried, said) == (number, False, [number])


@pytest.mark.parametrize("number", ASKING)
@pytest.mark.parametrize("passed", [False, True])
def test_a_run_that_has_stopped_as_asked_is_not_ended_by_what_a_parent_passes_on_of_that(
    number: signal.Signals, passed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late a supervisor of ours passes it on, and for a second where a parent sends the signal itself."""
    monkeypatch.setattr(signals, "ONE_SECOND", 0.0 if passed else 600.0)
    with sigterm_interrupts():
        request, _ = asyncio.run(asked_by(number, 1))
        os.kill(os.getpid(), passed_on(number) if passed else number)
    assert (request.signal, request.hurried) == (number, False)


@pytest.mark.parametrize("number", ASKING)
def test_what_a_parent_passes_on_asks_a_run_that_has_not_been_asked(number: signal.Signals) -> None:
    async def asked() -> StopRequest:
        request = StopRequest()
        with request.listening(lambda number: None):
            os.kill(os.getpid(), passed_on(number))
            await asyncio.wait_for(request.asked.wait(), timeout=60)
        return request

    with sigterm_interrupts():
        assert asyncio.run(asked()).signal == number
    with pytest.raises(KeyboardInterrupt) as ended, sigterm_interrupts():
        os.kill(os.getpid(), passed_on(number))
    assert ended.type is (KeyboardInterrupt if number == signal.SIGINT else Terminated)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_is_closed_after_a_signal_is_not_cut_off_by_what_a_parent_passes_on(number: signal.Signals) -> None:
    closed = []

    def run() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), passed_on(number))
            closed.append("closed")

    with pytest.raises(Terminated), sigterm_interrupts():
        run()
    assert closed == ["closed"]


@pytest.mark.parametrize("number", ASKING)
def test_a_second_signal_ends_the_run_at_once(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "ONE_SECOND", 0.0)
    with pytest.raises(KeyboardInterrupt) as ended, sigterm_interrupts():
        asyncio.run(asked_by(number, 2))
    assert ended.type is (KeyboardInterrupt if number == signal.SIGINT else Terminated)


def test_what_is_written_at_the_end_is_not_cut_off_by_the_signal_again() -> None:
    with undisturbed():
        for number in (*ASKING, *map(passed_on, ASKING)):
            os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def ignoring() -> bool:
        request = StopRequest()
        with request.listening(lambda number: None):
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.05)
        return request.asked.is_set()

    assert not asyncio.run(ignoring())


async def test_what_is_no_step_is_cut_off_when_the_run_is_asked_to_stop() -> None:
    request = StopRequest()

    async def evaluation(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return 0.5

    assert await request.unless_asked(evaluation(0.0)) == 0.5
    asyncio.get_running_loop().call_later(0.01, request.asked.set)
    assert await asyncio.wait_for(request.unless_asked(evaluation(3600.0)), timeout=60) is None


def told_to_end() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt as interrupted:
        interrupted.add_note("what goes on")
        raise


def test_notes_of_an_interrupt_reach_whoever_hears_of_the_end() -> None:
    with pytest.raises(Terminated) as ended, sigterm_interrupts():
        told_to_end()
    assert ended.value.__notes__ == ["what goes on"]


def test_a_job_in_which_ray_has_blocked_ctrl_c_hears_that_it_is_to_end() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with pytest.raises(Terminated), sigterm_interrupts():
            told_to_end()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_job_is_told_how_long_ray_lets_it_live(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Once more ends it at once" in said_at(signal.SIGTERM, "")
    monkeypatch.setenv(signals.JOB, "{}")
    assert "Ray kills a stopped job 3 s after" in said_at(signal.SIGTERM, "")
    monkeypatch.setenv(signals.JOB_WAIT, "60")
    assert "Ray kills a stopped job 60 s after" in said_at(signal.SIGTERM, "")
    assert "Ray" not in said_at(signal.SIGINT, "")

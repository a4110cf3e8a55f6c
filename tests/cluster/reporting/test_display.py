"""What a person sees while a run goes on."""

import io
import re
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from cluster.reporting.display import Display, ProgressLine
from cluster.reporting.metric_table import METRICS
from cluster.reporting.terminal import console
from cluster.reporting.words import clock, counted, sparkline
from tests.tables import each

LINE = dict.fromkeys(METRICS, 0.5) | {"step": 3, "accuracy": None, "bottleneck": "train", "dropped": {}}


def wait_until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


@each(("seconds", "shown"), [(0, "0:00"), (7.9, "0:07"), (754, "12:34"), (3723, "1:02:03"), (90000, "25:00:00")])
def test_a_duration_is_shown_as_on_a_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


@each(("number", "shown"), [(1, "1 CPU"), (0, "0 CPUs"), (2, "2 CPUs"), (0.5, "0.5 CPUs"), (20000000, "20000000 CPUs")])
def test_one_thing_has_no_s(number: float, shown: str) -> None:
    assert counted(number, "CPU") == shown


def test_a_sparkline_shows_means_with_the_newest_last() -> None:
    assert sparkline([], 4) == ""
    assert sparkline([0.0, 0.5, 1.0], 9) == "▁▅█"
    assert sparkline([0.0, 0.2, 0.4, 0.6, 1.0, 1.0], 3) == "▁▅█"
    assert sparkline([-1.0, 7.0], 2) == "▁█"


def test_every_line_has_the_time_and_what_there_is_not_is_blank(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(steps=4) as display:
        display.say("first\nsecond")
        display.status("warming up")
        display.status("no line of its own", line=False)
        display.step(LINE, "3+4= → 7 (correct)")
        display.step(LINE | {"step": 4, "accuracy": 0.25})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["   0:00  first", "         second", "   0:00  warming up"]
    assert re.fullmatch(r"   0:00  step 3/4: kept 0.5, .*, bottleneck train", lines[3])
    assert lines[4] == "   0:00      3+4= → 7 (correct)"
    assert lines[5].startswith("   0:00  step 4/4: accuracy 0.250, kept")
    assert len(lines) == 6


def test_the_time_left_is_that_of_the_last_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    display = Display(steps=60)
    for step in range(1, 13):
        now[0] += 1000.0 if step == 1 else 10.0
        display.step(LINE | {"step": step})
    assert capsys.readouterr().out.splitlines()[-1].endswith("; 8:00 left")


def test_accuracy_is_drawn_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(steps=2) as display:
        display.step(LINE | {"step": 1, "accuracy": 0.1})
        display.step(LINE | {"step": 2, "accuracy": 0.9})
    assert capsys.readouterr().out.splitlines()[-1] == "   0:00  accuracy 0.100 ▁█ 0.900"


def test_what_takes_long_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    display = Display(steps=2)
    for done in range(1, 9):
        now[0] += 4.0
        display.advance("warm-up, updates", done, 8, "loss 0.1")
    assert [line.partition("warm-up")[2] for line in capsys.readouterr().out.splitlines()] == [
        ", updates: 3 of 8, loss 0.1, 0:20 left",
        ", updates: 6 of 8, loss 0.1, 0:08 left",
        ", updates: 8 of 8, loss 0.1",
    ]


def test_a_run_that_waits_is_never_silent(capsys: pytest.CaptureFixture[str]) -> None:
    seen = ""

    def said(text: str) -> bool:
        nonlocal seen
        seen += capsys.readouterr().out
        return text in seen

    with Display(steps=2, quiet_seconds=0.1) as display:
        display.status("starting Ray")
        wait_until(lambda: said("still starting Ray (for 0:0"))
        display.status("waiting for groups: 3 of 8 accepted", line=False)
        wait_until(lambda: said("still waiting for groups: 3 of 8 accepted (for 0:0"))
        assert seen.count("still starting Ray") <= 4  # ever more rarely


def test_a_terminal_shows_table_bars_and_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    display = Display(steps=4)
    display._console.width = 100
    display.step(LINE | {"accuracy": 0.1}, "3+4= → \x1b[2J7 (correct)")
    display.step(LINE | {"step": 4, "accuracy": 0.9})
    display.advance("evaluating after step 4", 0, 12)
    display.advance("evaluating after step 4", 3, 12)
    with display._console.capture() as shown:
        display._console.print(display._shown())
    text = shown.get()
    assert "accuracy 0.100 ▁█ 0.900" in text
    assert re.search(r"steps +━+ 4/4", text)
    assert re.search(r"evaluating after step 4 +━.* 3/12 +\d+:\d\d left", text)
    assert text.splitlines()[-1].strip() == "0:00"


def test_what_is_looked_at_meanwhile_does_not_begin_a_bar_anew(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    display = Display(steps=2)
    for done in range(9):
        display.advance("evaluating", done, 8)
        display.status("evaluating", line=False)  # as a reporter says every few seconds
        now[0] += 4.0
    assert "evaluating: 6 of 8, 0:08 left" in capsys.readouterr().out
    assert display._bar is None  # it has come to its end


def test_a_shorter_line_leaves_nothing_of_the_status_before_it() -> None:
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=60, color_system=None)
    line = ProgressLine(terminal, "1/2 grpo")
    line.status("x" * 50)
    line.failed("short")
    assert out.getvalue().rpartition("\r")[2].rstrip("\n") == "1/2 grpo: failed: short".ljust(59)


def test_a_run_among_many_that_made_no_step_ends_with_a_line() -> None:
    out = io.StringIO()
    ProgressLine(console(out), "1/2 grpo").done()
    assert out.getvalue() == "1/2 grpo: 0 steps, 0 s\n"

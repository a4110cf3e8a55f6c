"""Texts from outside on a terminal: shown as they are, whatever stands in them."""

import io
import logging
import re
from pathlib import Path

import pytest
from rich.console import Console

from cluster.cli import main
from cluster.reporting.display import Display, ProgressLine
from cluster.reporting.logs import LOGGER, log_file
from cluster.reporting.metric_table import METRICS
from cluster.reporting.terminal import console, plain, say
from tests.tables import each

LINE = dict.fromkeys(METRICS, 0.5) | {"step": 3, "bottleneck": "train", "dropped": {}}
CASES = [  # what came from outside -> what a person sees
    ("expected [/verdict] at the end", "expected [/verdict] at the end"),
    ("[bold]no[/bold] [/] [link=x]", "[bold]no[/bold] [/] [link=x]"),
    ("[red", "[red"),
    ("\\[/a] \\\\[b]", "\\[/a] \\\\[b]"),
    (":smile: [1, 2] 12%", ":smile: [1, 2] 12%"),
    ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
    ("\x9b31m", "\\x9b31m"),
    ("a\rb\x08c\x00", "a\\rb\\x08c\\x00"),
    ("right \u202eleft", "right \\u202eleft"),
    ("half \udcff", "half \\udcff"),
    ("\x0c\x0b\x7f", "\\x0c\\x0b\\x7f"),
    ("tab\tand é 漢 🦉", "tab\tand é 漢 🦉"),
]


@each(("text", "shown"), CASES)
def test_a_text_steers_nothing_and_is_shown_whole(text: str, shown: str) -> None:
    assert plain(text) == shown
    out = io.StringIO()
    say(text, file=out)
    assert out.getvalue() == f"{shown}\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_no_text_ends_a_run_or_steers_its_terminal(terminal: bool) -> None:
    for text, shown in CASES:
        out = io.StringIO()
        display = Display(steps=9)
        display._console = Console(
            file=out, force_terminal=terminal, width=120, markup=False, emoji=False, highlight=False, color_system=None
        )
        with display:
            display.say(text)
            display.status(text)
            display.step(LINE)
            display.status(text)
        line = ProgressLine(console(out), f"1/2 {text}")
        line.say(text)
        line.failed(text)
        seen = out.getvalue().replace("\x1b[?25l", "")
        assert re.sub(r"\s+", " ", shown) in re.sub(r"\s+", " ", seen)  # further lines stand below the time
        steering = [part for part in ("\x1b[2J", "\x1b]", "\x9b", "\x08", "\u202e", "\udcff") if part in seen]
        assert steering == []


def test_the_markup_that_the_console_is_given_is_off() -> None:
    out = io.StringIO()
    terminal = console(out)
    terminal.print("[/verdict] :smile: [red]")
    assert out.getvalue() == "[/verdict] :smile: [red]\n"


def test_the_log_file_steers_no_terminal_and_takes_every_text(tmp_path: Path) -> None:
    with log_file(tmp_path):
        LOGGER.info("said: %s", "\x1b[2J \udcff [/verdict]")
        logging.getLogger("others").warning("\x07")
    text = (tmp_path / "winnow.log").read_text(encoding="utf-8")
    assert "said: \\x1b[2J \\udcff [/verdict]\n" in text
    assert "\\x07\n" in text


def test_a_mistake_with_brackets_and_escapes_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").write_text('[run]\nname = "a[/b]\\u001b[2J/c"\n[world]\nname = "addition"\n')
    assert main(["train", str(tmp_path / "run.toml")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "a[/b]" in err
    assert "\x1b" not in err


def test_a_notebook_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZMQInteractiveShell:
        """By this name a kernel's shell is known."""

    monkeypatch.setattr("builtins.get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as kernels do
    out = io.StringIO()
    assert Console(file=out).is_jupyter
    assert Console(file=out, force_jupyter=False).is_terminal
    assert not console(out).is_terminal
    console(out).print("as it is")
    assert out.getvalue() == "as it is\n"

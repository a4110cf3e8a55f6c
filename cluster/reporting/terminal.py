"""How text reaches a terminal. Responses, verdicts, errors and names come from outside: brackets in them are no markup,
and what would steer the terminal is shown instead of sent."""

import io
import re
import sys
from typing import TextIO

from rich.console import Console

from actors.secrets import hidden

# All that moves the cursor, begins an escape sequence, turns the direction of writing, breaks a line in unusual ways or
# cannot be encoded; tabs and line ends stay.
_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def plain(text: str) -> str:
    """The text with every character that would steer a terminal as its escape sequence, such as \\x1b, and without
    secrets."""
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), hidden(text).replace("\r\n", "\n"))


def say(text: str, file: TextIO | None = None) -> None:
    """A line for a person, on stdout unless another file is given."""
    print(plain(text), file=file or sys.stdout, flush=True)


def console(file: TextIO | None = None, *, soft_wrap: bool = True) -> Console:
    """A console that takes every text as it is: no markup, no emoji codes, no colours of its own, and with `soft_wrap`
    no broken lines. What is no terminal gets plain lines, a notebook among them, and where FORCE_COLOR is set."""
    out = file or sys.stdout
    return Console(
        file=out,
        force_terminal=out.isatty(),
        force_jupyter=False,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=soft_wrap,
    )


def never_fail_to_encode() -> None:
    """Characters that stdout and stderr cannot show are written as escape sequences, whatever the locale."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

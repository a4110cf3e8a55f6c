"""Where in a person's file something happened: file and line, for whoever has to mend it."""

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any


def here(file: str) -> str:
    """The line of the file that is being run by the caller; "" where it is in none."""
    return _place(file, _outward(sys._getframe()))


def in_thread(thread: int, file: str) -> str:
    """The line of the file that a thread is in now, by its identifier; "" where it is in none."""
    return _place(file, _outward(sys._current_frames().get(thread)))


def awaited_in(coroutine: Any, file: str) -> str:
    """The line of the file at which a coroutine waits; the file where it waits in none."""
    return _place(file, reversed(list(_inward(coroutine)))) or Path(file).name


def failure_in(failure: BaseException, file: str) -> str:
    """What went wrong, and in which line of the file; below it the traceback from that file on."""
    frames = traceback.extract_tb(failure.__traceback__)
    own = [place for place, frame in enumerate(frames) if frame.filename == file]
    if not own:
        return f"{Path(file).name}: {type(failure).__name__}: {failure}"
    where = f"{Path(file).name}, line {frames[own[-1]].lineno}, in {frames[own[-1]].name}"
    shown = "".join(traceback.format_list(frames[own[0] :])).rstrip()
    return f"{where}: {type(failure).__name__}: {failure}\n{shown}"


def _place(file: str, frames: Iterator[tuple[FrameType, int]]) -> str:
    for frame, line in frames:
        if frame.f_code.co_filename == file:
            return f"{Path(file).name}, line {line}, in {frame.f_code.co_name}"
    return ""


def _outward(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    """A frame, and whoever called it."""
    while frame is not None:
        yield frame, frame.f_lineno
        frame = frame.f_back


def _inward(waiting: Any) -> Iterator[tuple[FrameType, int]]:
    """The frame of a coroutine, and of whatever it waits for."""
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)
        if frame is not None:
            yield frame, frame.f_lineno
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)

"""Where in a person's file something happened: file and line, for whoever has to mend it. Where that file has no part
in it, the line of whatever other code did it that is neither ours nor Python's."""

import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

OURS = str(Path(__file__).parents[1])
PYTHONS = sysconfig.get_paths()["stdlib"]
THREAD = "waits_for_thread"  # a local variable of a coroutine that waits for a thread: its identifier


def here(file: str) -> str:
    """The line of the file that is being run by the caller; "" where it is in none."""
    return _place(file, _outward(sys._getframe()))


def in_thread(thread: int, file: str) -> str:
    """The line of the file that a thread is in now, by its identifier, else that of other code; "" where it is in
    neither."""
    frames = list(_outward(sys._current_frames().get(thread)))
    return _place(file, iter(frames)) or _other_place(frames)


def awaited_in(coroutine: Any, file: str) -> str:
    """The line of the file at which a coroutine waits, else that of other code; the file where it waits in neither."""
    frames = list(reversed(list(_inward(coroutine))))
    return _place(file, iter(frames)) or _other_place(frames) or Path(file).name


def place_of(function: Callable[..., Any]) -> str:
    """Where a function is defined, with its name; the name alone where that is not known."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    name = str(getattr(function, "__qualname__", function))
    return name if code is None else f"{name} ({Path(code.co_filename).name}, line {code.co_firstlineno})"


def failure_in(failure: BaseException, file: str) -> str:
    """What went wrong, and in which line of the file, else of other code; below it the traceback from there
    on."""
    frames = traceback.extract_tb(failure.__traceback__)
    own = [place for place, frame in enumerate(frames) if frame.filename == file]
    own = own or [place for place, frame in enumerate(frames) if _is_other(frame.filename)]
    if not own:
        return f"{Path(file).name}: {type(failure).__name__}: {failure}"
    where = f"{Path(frames[own[-1]].filename).name}, line {frames[own[-1]].lineno}, in {frames[own[-1]].name}"
    shown = "".join(traceback.format_list(frames[own[0] :])).rstrip()
    return f"{where}: {type(failure).__name__}: {failure}\n{shown}"


def _place(file: str, frames: Iterator[tuple[FrameType, int]]) -> str:
    for frame, line in frames:
        if frame.f_code.co_filename == file:
            return f"{Path(file).name}, line {line}, in {frame.f_code.co_name}"
    return ""


def _other_place(frames: list[tuple[FrameType, int]]) -> str:
    file = next((frame.f_code.co_filename for frame, _ in frames if _is_other(frame.f_code.co_filename)), None)
    return _place(file, iter(frames)) if file else ""


def _is_other(file: str) -> bool:
    """Whether a file is neither winnow's nor Python's."""
    python = file.startswith(PYTHONS) and "-packages" not in file
    return not (python or file.startswith((OURS, "<")))


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
            if THREAD in frame.f_locals:
                yield from reversed(list(_outward(sys._current_frames().get(frame.f_locals[THREAD]))))
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)

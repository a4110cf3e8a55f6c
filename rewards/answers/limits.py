"""What is too large to be read as an answer: by its length, its brackets in brackets, or numbers that nobody can
write out. A response of that kind is wrong, a reference of that kind is refused.
"""

import gc
import math
import re
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS = 1.5  # of computing for one comparison; the slowest right answers of the own cases take a third of it
LONGEST = 2_000  # characters of an answer; longer ones are compared as text only
_DEEPEST = 24  # brackets in brackets
_OPEN, _CLOSE = "([{", ")]}"
_TOWER = re.compile(r"(?:\^|\*\*)[\s{(\[]*\d{1,12}[\s})\]]*(?:\^|\*\*)[\s{(\[]*\d{1,12}[\s})\]]*(?:\^|\*\*)")
_TWICE = re.compile(r"(?:\^|\*\*)[\s{(\[]*(\d{1,12})[\s})\]]*(?:\^|\*\*)[\s{(\[]*(\d{1,12})")
_FACTORIAL = re.compile(r"(\d+|\))\s*\}?\s*!+")
_MANY_FACTORIALS = re.compile(r"!\s*[)}\]]*\s*!")
_EXPONENT = re.compile(r"\d\s*[)}]?\s*(?:\^|\*\*)\s*[{(]?\s*[-+]?\s*\d{7,}")
_BINOMIAL = re.compile(r"\d{5,}.{0,40}\\choose|\\binom\s*\{[^{}]*(?:\d{5,}|\^)")


def too_large(text: str) -> str:
    """Why an answer is too large to be read, as the end of a sentence; empty where it is not.

    >>> too_large("2^{10}")
    ''
    """
    if len(text) > LONGEST:
        return f"is longer than {LONGEST} characters"
    depth = deepest = 0
    for sign in text:
        if sign in _OPEN:
            depth += 1
            deepest = max(deepest, depth)
        elif sign in _CLOSE:
            depth = max(0, depth - 1)
    if deepest > _DEEPEST:
        return f"has brackets {deepest} deep"
    twice = any(int(top) * math.log10(int(low) or 1) > 5 for low, top in _TWICE.findall(text))
    if re.search(r"\d[eE][-+]?\d{4}", text):
        return "has numbers that nobody can write out"
    if twice or _TOWER.search(text) or _EXPONENT.search(text):
        return "has powers that nobody can write out"
    large = any(found.group(1) != ")" and int(found.group(1)[:9]) > 20_000 for found in _FACTORIAL.finditer(text))
    if large or _MANY_FACTORIALS.search(text) or _BINOMIAL.search(text):
        return "has factorials that nobody can write out"
    return ""


_WEAK_REFERENCES = {weakref.__file__, weakref.WeakSet.__init__.__code__.co_filename}


class TooLong(BaseException):
    """A comparison needs more computing than any right answer does. No Exception, so that no library catches it."""


@contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    """Stops what is done within after so many seconds of computing (not of waiting); without effect outside of the
    main thread, where a process deadline is all there is.

    Raises:
        TooLong: the time is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds / 10)  # again, should a library have swallowed it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def not_counted() -> Iterator[None]:
    """What is done within counts for no limit: loading a library is no response's doing."""
    left = signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, *left)


def _stop(number: int, frame: FrameType | None) -> None:
    """Raises TooLong, but not where Python would swallow it with a complaint: there the next signal does."""
    if not _in_a_callback(frame):
        raise TooLong


def _in_a_callback(frame: FrameType | None) -> bool:
    """Whether a finalizer, a callback of a weak reference or one of the garbage collector runs at this frame."""
    collecting = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or code.co_filename in _WEAK_REFERENCES or code in collecting:
            return True
        frame = frame.f_back
    return False

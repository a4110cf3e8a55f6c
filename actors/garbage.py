"""How often Python looks for objects that refer to each other, in processes through which groups pass.

A group is some thousand short-lived objects. Left to itself, Python looks through the young ones after every 700, and
through all, those that vLLM and torch have made at their import too, again and again: a third of what a generator
computes beside its engine.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 20_000  # new objects after which Python looks through them


def collect_seldom() -> None:
    """From now on Python looks seldom, and never again at what is there now, which stays until the process ends."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])


@contextmanager
def loading() -> Iterator[None]:
    """Python does not look while it lasts: for the import of vLLM or torch. Their thousands of modules stay; to look
    through them again and again is a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """As `collect_seldom` while it lasts: for a process that is its caller's, such as that of a notebook."""
    before = gc.get_threshold()
    collect_seldom()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()

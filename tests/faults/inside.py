"""Faults that have to happen inside a process of the run, at a place that no signal from outside hits.

A fault is armed by a file in the folder that the environment names. The first process that comes to the place removes
the file, so it alone is hit. The places are in winnow's real actors, whose methods are replaced when their module is
imported.
"""

import asyncio
import importlib.abc
import importlib.machinery
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = "WINNOW_FAULTS"  # environment variable: where the files are
SYNC_ERROR, SYNC_KILL, SYNC_STOP = (
    "sync-error",
    "sync-kill",
    "sync-stop",
)  # an engine that holds half of the new weights
SEND_ERROR = "send-error"  # a learner rank that has sent half of the weights
ENDLESS = "endless"  # a response that never ends
VERIFIER_HANGS = "verifier-hangs"
FOR_EVER = 10**6  # seconds


def taken(fault: str) -> bool:
    """Whether this process is the one that the fault hits."""
    try:
        (Path(os.environ[FOLDER]) / fault).unlink()
    except FileNotFoundError:
        return False
    print(f"injected: {fault}", file=sys.stderr, flush=True)
    return True


def arm() -> None:
    """Has the modules with places for faults changed when they are imported."""
    if FOLDER in os.environ:
        sys.meta_path.insert(0, _Finder())


def half_way(buckets: Iterator[Any]) -> Iterator[Any]:
    """The buckets of a transfer, with the fault after the first one."""
    for number, bucket in enumerate(buckets):
        if number == 1:
            if taken(SYNC_ERROR):
                raise RuntimeError("injected: an error in the middle of a sync")
            if taken(SYNC_KILL):
                os.kill(os.getpid(), signal.SIGKILL)
            if taken(SYNC_STOP):
                os.kill(os.getpid(), signal.SIGSTOP)
        yield bucket


def _in_transfer(module: ModuleType) -> None:
    receiver: Any = module.GlooWeightTransferEngine
    buckets = receiver._buckets
    receiver._buckets = lambda self, plan: half_way(buckets(self, plan))


def _in_sending(module: ModuleType) -> None:
    packed = module._packed

    def packing(bucket: Sequence[Any], tensors: Iterator[Any]) -> Any:
        if bucket[0].index > 0 and taken(SEND_ERROR):
            raise RuntimeError("injected: an error of the sender in the middle of a sync")
        return packed(bucket, tensors)

    setattr(module, packed.__name__, packing)


def _in_engine(module: ModuleType) -> None:
    engine: Any = module.Engine
    generate = engine.generate

    async def generating(self: Any, tokens: Sequence[int], sampling: Any, seed: int) -> Any:
        endless = taken(ENDLESS)
        while endless:
            await generate(self, tokens, replace(sampling, min_tokens=sampling.max_tokens), seed)
            await asyncio.sleep(0)
        return await generate(self, tokens, sampling, seed)

    engine.generate = generating


def _in_grader(module: ModuleType) -> None:
    grader: Any = module.Grader

    def hanging(grade: Callable[..., Any]) -> Callable[..., Any]:
        def grading(self: Any, questions: Any) -> Any:
            if taken(VERIFIER_HANGS):
                time.sleep(FOR_EVER)
            return grade(self, questions)

        return grading

    grader.grade, grader.grade_group = hanging(grader.grade), hanging(grader.grade_group)


PLACES = {
    "actors.transfer.gloo": _in_transfer,
    "learner.sending": _in_sending,
    "actors.rollouts.engine": _in_engine,
    "rewards.grading.grader": _in_grader,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of `PLACES` as Python does, and has each changed when it has been executed."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if fullname not in PLACES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            PLACES[fullname](module)

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec

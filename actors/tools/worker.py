"""The process in which tools of one kind run."""

import ctypes
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.tools.formats import Schema
from actors.tools.tool import Kind, Limits, Result, Running, failed, failure, result_of
from rewards.grading.serving import bound_cpu, serve

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One call."""

    kind: Kind
    name: str
    arguments: Mapping[str, Any]
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Whether the tools of a kind can be used."""

    schemas: tuple[Schema, ...] = ()
    problem: str = ""  # why they cannot; "" where they can


def main(arguments: Sequence[str]) -> None:
    """Serves one owner until it is gone. It is first asked to start a kind of tools, then for calls of them."""
    # What a tool starts stays below this process when whatever stands between them has ended, and so ends with it.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    running: Running | None = None

    def answers(asked: Kind | Work) -> Iterator[Ready | Result]:
        nonlocal running
        if isinstance(asked, Work):
            assert running is not None  # it is started first
            bound_cpu(asked.limits.seconds)
            yield called(running, asked)
            return
        try:
            running = asked.start()
            yield Ready(schemas=tuple(running.schemas))
        except MemoryError:
            yield Ready(problem="it needs more memory than memory_mib of talk.tools gives it")
        except Exception as problem:  # a person's file and server, whatever they break with
            told = str(problem) if isinstance(problem, ValueError) else f"{type(problem).__name__}: {problem}"
            yield Ready(problem=told)

    serve(arguments, answers)


def called(running: Running, work: Work) -> Result:
    """What a call gives; whatever it breaks with is a text."""
    limits = work.limits
    try:
        return result_of(running.call(work.name, work.arguments, limits), limits.max_characters)
    except MemoryError:
        return failure(f"{work.name} needed more than {limits.memory_mib} MiB of memory")
    except SystemExit:
        return failure(f"{work.name} ended its own process")
    except Exception as problem:  # a person's function, whatever it breaks with
        return failed(problem, work.name, limits.max_characters, traceback.format_exc(limit=-8))

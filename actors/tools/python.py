"""Programs that the policy writes, in the sandbox in which the reward `code` runs them."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.tools.formats import Schema
from actors.tools.schemas import schema
from actors.tools.tool import Limits, ToolFailure, shortened
from rewards.programs.sandbox import Box, Program, follow, sandbox_problem

ABOUT = (
    "Runs a Python program and gives what it prints, with the value of its last line. Only the standard library is "
    "there, no network, and nothing is kept from one program to the next."
)
MOST_MEMORY = 1024  # MiB of a program
OUTPUT_PER_CHARACTER = 4  # bytes


@dataclass(frozen=True, slots=True)
class Python:
    """A tool that runs a Python program of the policy's in a sandbox, and gives what it prints."""

    name: str = "python"
    unsandboxed: bool = False  # without bubblewrap: only on a machine that may be lost

    @property
    def bounded(self) -> bool:
        """It has the limit of memory; so has each program."""
        return True

    def placed(self, folder: Path) -> "Python":
        """It reads no files."""
        return self

    def start(self) -> "RunningPython":
        """Makes sure that there is a sandbox."""
        if not self.unsandboxed and (problem := sandbox_problem()):
            raise ValueError(
                f"model-written code is not run without a sandbox, and {problem}. On a machine that may be lost, "
                "Python(unsandboxed=True) runs it without one"
            )
        return RunningPython(self)


class RunningPython:
    """Runs programs."""

    def __init__(self, kind: Python) -> None:
        self._bare = kind.unsandboxed
        self.schemas: Sequence[Schema] = (schema(kind.name, ABOUT, code="the program"),)

    def call(self, name: str, arguments: Mapping[str, Any], limits: Limits) -> str:
        """What a program prints.

        Raises:
            ToolFailure: it did not come to its end.
        """
        deadline = time.monotonic() + limits.seconds
        box = Box(
            cpu_seconds=math.ceil(limits.seconds),
            memory_mib=min(limits.memory_mib, MOST_MEMORY),
            output_bytes=max(OUTPUT_PER_CHARACTER * limits.max_characters, 2**16),
            bare=self._bare,
        )
        with Program(("inside", "inside_script"), {"source": str(arguments["code"])}, box) as program:
            in_time = follow([program], program, deadline)
            said = shortened(program.output.decode(errors="replace").rstrip("\n"), limits.max_characters)
            if not in_time:
                raise ToolFailure(f"the program took longer than {limits.seconds:g} s. It printed: {said or 'nothing'}")
            if program.excess or program.flooded:
                why = program.excess or "more output than it may print"
                raise ToolFailure(f"the program was ended for {why}. It began with: {said[:200]}")
            if not program.started:
                raise ToolFailure("the program could not be started")
            if status := program.status():
                ended = f"the signal {status - 128}" if status > 128 else f"the status {status}"
                raise ToolFailure(f"the program ended with {ended}. It printed: {said or 'nothing'}")
        return said or "(it printed nothing)"

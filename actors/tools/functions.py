"""A function of a person's file as a tool: in a process of its own, which knows nothing of the episode."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from actors.tools.formats import Schema
from actors.tools.tool import Limits
from rewards.person_file import load_file


@dataclass(frozen=True, slots=True)
class Function:
    """A function at the top of the environment's file, or of a module that can be imported there."""

    file: str  # of the environment
    module: str  # "" where the function is in that file
    name: str

    @property
    def bounded(self) -> bool:
        """It has the limit of memory."""
        return True

    def placed(self, folder: Path) -> "Function":
        """It knows its file."""
        return self

    def start(self) -> "RunningFunction":
        """Loads the file, and with it whatever it holds at its top."""
        own = load_file(self.file)
        return RunningFunction(getattr(importlib.import_module(self.module) if self.module else own, self.name))


class RunningFunction:
    """The function itself."""

    schemas: Sequence[Schema] = ()  # known without it

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def call(self, name: str, arguments: Mapping[str, Any], limits: Limits) -> Any:
        """What it returns."""
        return self._function(**arguments)


def away(function: Callable[..., Any], file: str) -> Function | None:
    """The function for a process of its own; None where it belongs to an episode: it is a coroutine, a method, or
    defined inside another function.

    Args:
        function: a person's.
        file: of the environment.
    """
    name = getattr(function, "__name__", "")
    if not inspect.isroutine(function) or inspect.ismethod(function) or inspect.iscoroutinefunction(function):
        return None
    if file and getattr(load_file(file), name, None) is function:
        return Function(file, "", name)
    module: ModuleType | None = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is not None and getattr(module, name, None) is function:
        return Function(file, module.__name__, name)
    return None

"""Loads a Python file of a person's own: rewards, algorithms, drop rules. Each file is run once in a process."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def load_file(file: str) -> ModuleType:
    """The file as a module; the folder that it lies in can be imported from.

    What it defines can be pickled by value, so that processes that do not know the file can be sent it.

    Args:
        file: its path.

    Raises:
        ValueError: there is no such file, or it raises something; the message says where.
    """
    path = str(Path(file).absolute())
    if path not in _LOADED:
        _LOADED[path] = _load(path, file)
    if isinstance(loaded := _LOADED[path], str):
        raise ValueError(loaded)
    return loaded


def load_table(
    file: str, table: str, *, holds: str, one: str, known: Mapping[str, Any], problem: Callable[[Any], str]
) -> Mapping[str, Any]:
    """A dictionary of name -> entry that a file holds, checked.

    Args:
        file: its path.
        table: name of the dictionary.
        holds: what the file must hold, for the message.
        one: what an entry is, for the message.
        known: winnow's own entries, whose names are taken.
        problem: what keeps an entry from being one; "" where nothing does.

    Raises:
        ValueError: the file does not load, or does not hold such a dictionary; the message says what is wrong.
    """
    found = getattr(load_file(file), table, None)
    if not isinstance(found, dict) or not found:
        raise ValueError(f"file must hold {holds}; in {file} {table} is {found!r}")
    for name, entry in found.items():
        if not isinstance(name, str) or not name:
            odd = "its name must be a text"
        elif name in known:
            odd = f"winnow has {one} of that name: rename it"
        else:
            odd = problem(entry)
        if odd:
            raise ValueError(f"{file}, {table}[{name!r}]: {odd}")
    return found


_LOADED: dict[str, ModuleType | str] = {}  # path -> its module, or what is wrong with it: relative names share it


def _load(path: str, shown: str) -> ModuleType | str:
    """The module, or what is wrong with it."""
    if not Path(path).is_file():
        return f"file must be a Python file, and there is no file {shown!r}"
    name = f"winnow_own_file_{len(_LOADED)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        return f"file must be a Python file whose name ends in .py, got {shown}"
    module = importlib.util.module_from_spec(spec)
    if (folder := str(Path(path).parent)) not in sys.path:
        sys.path.append(folder)  # behind everything else
    sys.modules[name] = module  # dataclasses look for their module there while they are made
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as failure:  # a person's file raises what it likes
        advice = "Mend it, or install the module where winnow runs" if isinstance(failure, ImportError) else "Mend it"
        where = f"{shown}, line {_line(failure, path)}"
        return f"file must load without an error: {where}: {type(failure).__name__}: {failure}. {advice}"
    finally:
        del sys.modules[name]  # what no module can be found for is pickled by value
    return module


def _line(failure: BaseException, path: str) -> str:
    """The last line of the file that had part in a failure."""
    if isinstance(failure, SyntaxError) and failure.filename == path:
        return str(failure.lineno)
    lines = [frame.lineno for frame in traceback.extract_tb(failure.__traceback__) if frame.filename == path]
    return str(lines[-1]) if lines else "unknown"

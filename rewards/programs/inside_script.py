"""What runs a program inside a sandbox for somebody who reads what it prints: its errors too, and the value of its last
line, as an interpreter shows it.

Nothing here is a secret or a safeguard: the program can change all of it.
"""

import ast
import builtins
import sys
import traceback
from types import ModuleType
from typing import Any

from rewards.programs.inside import confine

_FILE = "<program>"


def main(job: dict[str, Any]) -> None:
    """Runs the job's `source`."""
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # those of the module site, which is not loaded here
    confine(job, keep_output=True)
    sys.stderr = sys.stdout
    sys.modules["__main__"] = module = ModuleType("__main__")
    try:
        _run(job["source"], module.__dict__)
    except SystemExit:
        pass
    except BaseException as failure:
        _show(failure)
    sys.stdout.flush()


def _run(source: str, names: dict[str, Any]) -> None:
    tree = ast.parse(source, _FILE)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, _FILE, "exec", dont_inherit=True), names)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), _FILE, "eval", dont_inherit=True), names)
        if value is not None:
            print(repr(value))


def _show(failure: BaseException) -> None:
    """Prints what went wrong, from the program's own lines on."""
    trace = failure.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != _FILE:
        trace = trace.tb_next
    traceback.print_exception(type(failure), failure, trace, limit=-8)

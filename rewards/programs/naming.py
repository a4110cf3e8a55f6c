"""Whom tests call: the names that a response has to define, and the modules that stand for it."""

import ast
import builtins
import sys
from collections.abc import Iterable

_NAMESAKES = {
    "code": {"interact", "compile_command", "InteractiveConsole", "InteractiveInterpreter"},
    "test": {"support"},
}
_OTHERS = frozenset(  # well-known packages, which tests cannot have
    """bs4 cv2 django flask hypothesis keras matplotlib networkx nose pandas parameterized PIL psutil pydantic
    requests scipy seaborn sklearn sortedcontainers sympy tensorflow torch transformers yaml""".split()  # noqa: SIM905
)
_NUMPY = frozenset(  # what of numpy the tests have: enough for EvalPlus's, which compare floats by it (inside_numpy.py)
    "allclose e float16 float32 float64 inf int32 int64 isclose isfinite isinf isnan nan ndarray pi".split()  # noqa: SIM905
)


def names_under_test(sources: list[str], entry: str = "", imported: Iterable[str] = ()) -> set[str]:
    """The names that a response has to define for these tests.

    These are the entry point, the names imported from it, and the names that the tests use and neither define nor
    find among the builtins or, in front of a dot, the standard library. A builtin is tested where there is no such
    name and the tests call only this one: a response that redefines `len` beside its function changes no test.
    """
    used: set[str] = {entry, *imported} - {""}
    called: set[str] = set()
    bound: set[str] = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case ast.alias(name=name, asname=other):
                bound.add(other or name.partition(".")[0])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(node.func.id)
    known = set(vars(builtins)) | {"__name__", "__file__", "__doc__", "exit", "quit"}
    if free := used - (bound - {entry, *imported}) - known - modules_named(sources) - {"*"}:
        return free
    redefined = (called & known) - bound
    return redefined if len(redefined) == 1 else set()


def modules_named(sources: list[str]) -> set[str]:
    """The modules of the standard library that tests use without importing them, as in `math.pi`."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return {node.value.id for node in nodes if isinstance(node.value, ast.Name)} & sys.stdlib_module_names


def stands_for_response(module: str) -> bool:
    """Whether a module that tests import is the response's: it is none that could be there."""
    return module.partition(".")[0] not in sys.stdlib_module_names | {"pytest", "numpy", "__future__"} | _OTHERS


def from_response(node: ast.ImportFrom) -> bool:
    """Whether an import takes its names from the response."""
    if node.level or not node.module:
        return True
    if node.module in _NAMESAKES and not {alias.name for alias in node.names} & _NAMESAKES[node.module]:
        return True
    return stands_for_response(node.module)


def imported_names(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """The names that tests import from the response, or read from it as a module.

    Raises:
        ValueError: a well-known package is imported, which is not in the sandbox.
    """
    names: set[str] = set()
    modules: set[str] = set()
    read: set[tuple[str, str]] = set()
    numpy: set[str] = set()
    for node in nodes:
        match node:
            case ast.Import():
                _refuse_others(alias.name for alias in node.names)
                for alias in node.names:
                    if stands_for_response(alias.name):
                        modules.add(alias.asname or alias.name)
                    if alias.name == "numpy":
                        numpy.add(alias.asname or alias.name)
            case ast.ImportFrom():
                _refuse_others([node.module or ""])
                if node.module == "numpy":
                    _refuse_numpy(alias.name for alias in node.names)
                if from_response(node):
                    names |= {alias.name for alias in node.names} - {"*"}
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                read.add((module, name))
    _refuse_numpy(name for module, name in read if module in numpy)
    return frozenset(names | {name for module, name in read if module in modules})


def _refuse_numpy(names: Iterable[str]) -> None:
    if missing := set(names) - _NUMPY:
        raise ValueError(
            "the tests import numpy, and only the standard library is in the sandbox; of numpy they have "
            f"{', '.join(sorted(_NUMPY))}, and not {min(missing)}"
        )


def _refuse_others(modules: Iterable[str]) -> None:
    if missing := {module if module.startswith("numpy.") else module.partition(".")[0] for module in modules} & (
        _OTHERS | {"numpy.testing", "numpy.linalg", "numpy.random"}
    ):
        raise ValueError(f"the tests import {min(missing)}, and only the standard library is in the sandbox")


def plain_imports(nodes: Iterable[ast.AST]) -> str:
    """The imports of modules of the standard library at any place in the tests, one a line."""
    found: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            kept = [alias for alias in node.names if not stands_for_response(alias.name)]
            top = {alias.name.partition(".")[0] for alias in kept}
            line = ast.unparse(ast.Import(kept)) if kept else ""
        elif isinstance(node, ast.ImportFrom) and not from_response(node):
            top, line = {str(node.module).partition(".")[0]}, ast.unparse(node)
        else:
            continue
        if line and not top & {"unittest", "pytest", "numpy", "__future__"}:
            found.append(line)
    return "\n".join(dict.fromkeys(found))


def roots(nodes: Iterable[ast.AST]) -> set[str]:
    """The modules that are imported, without what is behind a dot, and the names in front of one."""
    found: set[str] = set()
    for node in nodes:
        match node:
            case ast.Import(names=names):
                found |= {alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module=str(module)):
                found.add(module.partition(".")[0])
            case ast.Attribute(value=ast.Name(id=name)):
                found.add(name)
    return found

"""What the tests of a reference are, read from their sources before anything runs: whom they call, what they assert.

The tests run as they are written, except that

- an assertion notes that it was tried and whether it held, so one whose failure the test swallows still fails;
- a comparison, `all(...)`, `any(...)` and the like as a whole statement is an assertion;
- a handler notes which exception it caught: what the response raises and no handler of the test catches is a failure,
  also where `map`, `hasattr` or the like takes it for an end.
"""

import ast
import builtins
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType

CHECKS = "__checks__"  # the name of the ledger (inside_checks.py) in the tests
_VALUE = "__checked__"
_SOLUTION = "solution"  # the module that stands for the response, whatever the tests call it
_NAMESAKES = {
    "code": {"interact", "compile_command", "InteractiveConsole", "InteractiveInterpreter"},
    "test": {"support"},
}
_OTHERS = frozenset(  # well-known packages, which tests cannot have
    """bs4 cv2 django flask hypothesis keras matplotlib networkx nose numpy pandas parameterized PIL psutil pydantic
    requests scipy seaborn sklearn sortedcontainers sympy tensorflow torch transformers yaml""".split()  # noqa: SIM905
)
_QUESTIONS = frozenset(("all", "any", "isinstance", "issubclass", "isclose", "callable", "hasattr", "allclose"))
_EXITS = frozenset(("exit", "quit", "_exit", "abort"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What tests need of the response and of their process."""

    codes: tuple[CodeType, ...]  # one for each source, in order
    names: frozenset[str]  # global names that the response has to define
    modules: frozenset[str]  # modules of the standard library that they use without importing them
    called: frozenset[str]  # functions that they call by name themselves
    imports: str  # their imports from the standard library, one a line
    helpers: frozenset[str]  # what of unittest and pytest they use: "unittest", "pytest"
    asserts: bool  # whether they hold anything that can fail
    takes_candidate: bool  # whether a function of theirs is called with the function under test
    in_place: bool  # whether they see what any call did to its arguments, not only a call that is a whole statement


@lru_cache(maxsize=256)
def read_tests(sources: tuple[str, ...], entry: str = "", plain: int = 0) -> Tested:
    """Reads tests.

    Args:
        sources: what runs, in order.
        entry: the function under test; "" where the tests alone say so.
        plain: how many of the first sources run as they are, because they are no tests.

    Raises:
        SyntaxError: a source does not compile.
        ValueError: a source holds null bytes, or the tests import a package that is not there.
        RecursionError: a source is nested too deeply.
    """
    trees = [ast.parse(source, "<test>") for source in sources]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    tests = [node for tree in trees[plain:] for node in ast.walk(tree)]
    imported = _imported(nodes)
    called = frozenset(node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    names = frozenset(names_under_test(list(sources), entry, imported))
    takes_candidate = any(_wants_candidate(node, called) for tree in trees[plain:] for node in tree.body)
    passed = _passed(nodes, names)
    codes = [
        compile(tree if place < plain else _Noting(names).run(tree), "<test>", "exec", dont_inherit=True)
        for place, tree in enumerate(trees)
    ]
    return Tested(
        codes=tuple(codes),
        names=names,
        called=called,
        imports=_plain_imports(nodes),
        takes_candidate=takes_candidate,
        modules=frozenset(modules_named(list(sources))),
        helpers=frozenset(_roots(nodes) & {"unittest", "pytest"}),
        asserts=any(map(_asserts, tests)),
        in_place=not any(_compares_both(node, passed) for node in nodes),
    )


# ---- names ----


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


def _stands_for_response(module: str) -> bool:
    """Whether a module that tests import is the response's: it is none that could be there."""
    return module.partition(".")[0] not in sys.stdlib_module_names | {"pytest", "__future__"} | _OTHERS


def _from_response(node: ast.ImportFrom) -> bool:
    if node.level or not node.module:
        return True
    if node.module in _NAMESAKES and not {alias.name for alias in node.names} & _NAMESAKES[node.module]:
        return True
    return _stands_for_response(node.module)


def _imported(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """The names that tests import from the response, or read from it as a module.

    Raises:
        ValueError: a well-known package is imported, which is not in the sandbox.
    """
    names: set[str] = set()
    modules: set[str] = set()
    read: set[tuple[str, str]] = set()
    for node in nodes:
        match node:
            case ast.Import():
                _refuse_others(alias.name for alias in node.names)
                for alias in node.names:
                    if _stands_for_response(alias.name):
                        modules.add(alias.asname or alias.name)
            case ast.ImportFrom():
                _refuse_others([node.module or ""])
                if _from_response(node):
                    names |= {alias.name for alias in node.names} - {"*"}
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                read.add((module, name))
    return frozenset(names | {name for module, name in read if module in modules})


def _refuse_others(modules: Iterable[str]) -> None:
    if missing := {module.partition(".")[0] for module in modules} & _OTHERS:
        raise ValueError(f"the tests import {min(missing)}, and only the standard library is in the sandbox")


def _plain_imports(nodes: Iterable[ast.AST]) -> str:
    """The imports of modules of the standard library at any place in the tests, one a line."""
    found: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            kept = [alias for alias in node.names if not _stands_for_response(alias.name)]
            roots = {alias.name.partition(".")[0] for alias in kept}
            line = ast.unparse(ast.Import(kept)) if kept else ""
        elif isinstance(node, ast.ImportFrom) and not _from_response(node):
            roots, line = {str(node.module).partition(".")[0]}, ast.unparse(node)
        else:
            continue
        if line and not roots & {"unittest", "pytest", "__future__"}:
            found.append(line)
    return "\n".join(dict.fromkeys(found))


def _roots(nodes: Iterable[ast.AST]) -> set[str]:
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


def _wants_candidate(node: ast.AST, called: frozenset[str]) -> bool:
    """Whether a test function is one of a single argument that nobody calls, as HumanEval's check(candidate)."""
    if not isinstance(node, ast.FunctionDef) or node.name in called or node.decorator_list:
        return False
    required = len(node.args.args) - len(node.args.defaults)
    return required == 1 and (node.name == "check" or node.name.startswith("test"))


# ---- assertions ----


def _asserts(node: ast.AST) -> bool:
    """Whether a node can fail a test."""
    match node:
        case ast.Assert():
            return True
        case ast.Raise(exc=ast.AST()):
            return True
        case ast.Expr(value=value):
            return _is_question(value)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name.lower().startswith("assert") or name in ("fail", "raises")
        case ast.FunctionDef(name=name) if name.startswith("test") or name == "check":
            return any(isinstance(part, ast.Return) and _is_question(part.value) for part in ast.walk(node))
    return False


def _is_question(node: ast.AST | None) -> bool:
    """Whether an expression does nothing but say yes or no."""
    match node:
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return True
        case ast.BoolOp(values=values):
            return all(map(_is_question, values))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in _QUESTIONS
    return False


def _stops(statement: ast.stmt) -> bool:
    """Whether a statement always ends in failure: assert False, raise, fail(), exit()."""
    match statement:
        case ast.Assert(test=ast.Constant(value=value)):
            return not value
        case ast.Raise(exc=ast.AST()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name))):
            return name == "fail" or name in _EXITS
    return False


class _Noting(ast.NodeTransformer):
    """Puts the notes into the tests."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names | {"candidate"}  # of the response
        self._tried = 0  # bodies of `try` around the node
        self._read: set[str] = set()  # names in front of a dot

    def run(self, tree: ast.Module) -> ast.Module:
        self._read = _roots(node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        found: ast.Module = self.visit(tree)
        return ast.fix_missing_locations(found)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return _noted(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if _is_question(node.value):
            return _noted(ast.copy_location(ast.Assert(test=node.value, msg=None), node))
        match node.value:
            case ast.Call(func=ast.Name(id=name)) if name in self._names:
                return _noted(node, "alone")
            case ast.Call(func=ast.Attribute(attr=name)) if not name.startswith("assert"):
                return _noted(node, "alone")
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if node.exc is None or (not self._tried and "AssertionError" not in ast.dump(node.exc)):
            return node
        return _noted(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        guards = any(map(_stops, node.body))  # `if f(1) != 2: raise ...` asserts f(1) == 2
        self.generic_visit(node)
        if not guards:
            return node
        value = ast.copy_location(ast.Assign(targets=[ast.Name(_VALUE, ast.Store())], value=node.test), node.test)
        node.test = ast.copy_location(ast.Name(_VALUE, ast.Load()), node.test)
        return [_noted(value), node]

    def visit_Import(self, node: ast.Import) -> ast.AST | list[ast.stmt]:
        read = [alias for alias in node.names if (alias.asname or alias.name).partition(".")[0] in self._read]
        theirs = [alias for alias in read if _stands_for_response(alias.name)]
        if not theirs:
            return node
        others = [alias for alias in node.names if alias not in theirs]
        new = [ast.alias(_SOLUTION, alias.asname or alias.name.partition(".")[0]) for alias in theirs]
        return ast.copy_location(ast.Import(others + new), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if _from_response(node):
            node.module, node.level = _SOLUTION, 0
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        around, self._tried = self._tried, 0
        self.generic_visit(node)
        self._tried = around
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Try(self, node: ast.Try) -> ast.AST:
        expects = any(map(_stops, [*node.body, *node.orelse]))
        self._tried += 1
        node.body = self._block(node.body)
        self._tried -= 1
        for handler in node.handlers:
            handler.body = [_call("claim", expects, handler), *self._block(handler.body)]
        node.orelse, node.finalbody = self._block(node.orelse), self._block(node.finalbody)
        return node

    visit_TryStar = visit_Try  # type: ignore[assignment]

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for statement in statements:
            new = self.visit(statement)
            found.extend(new if isinstance(new, list) else [new])
        return found


def _noted(node: ast.stmt, context: str = "") -> ast.With:
    ledger: ast.expr = ast.Name(CHECKS, ast.Load())
    if context:
        ledger = ast.Attribute(value=ledger, attr=context, ctx=ast.Load())
    return ast.copy_location(ast.With(items=[ast.withitem(context_expr=ledger)], body=[node]), node)


def _call(name: str, value: bool, near: ast.AST) -> ast.stmt:
    method = ast.Attribute(value=ast.Name(CHECKS, ast.Load()), attr=name, ctx=ast.Load())
    return ast.copy_location(ast.Expr(ast.Call(func=method, args=[ast.Constant(value)], keywords=[])), near)


# ---- arguments that are changed ----


def _passed(nodes: Sequence[ast.AST], names: frozenset[str]) -> frozenset[str]:
    """The variables that calls of the response take or give."""
    theirs = set(names) | {"candidate"}
    for _ in range(4):  # each time, also what comes of what is found so far
        for node in nodes:
            if isinstance(node, ast.Call) and _mentions(node.func, theirs):
                theirs |= {part.id for value in [*node.args, *node.keywords] for part in _variables(value)}
            elif isinstance(node, ast.Assign) and _mentions(node.value, theirs):
                theirs |= {part.id for target in node.targets for part in _variables(target)}
            elif isinstance(node, ast.NamedExpr | ast.AnnAssign) and node.value and _mentions(node.value, theirs):
                theirs |= {part.id for part in _variables(node.target)}
    return frozenset(theirs)


def _compares_both(node: ast.AST, passed: frozenset[str]) -> bool:
    """Whether a comparison has something of the response on both sides: a change of an argument could then change what
    is expected."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.startswith("assert"):
        sides = list(node.args)
    else:
        return False
    return sum(_mentions(side, passed) for side in sides) > 1


def _variables(node: ast.AST) -> Iterator[ast.Name]:
    return (part for part in ast.walk(node) if isinstance(part, ast.Name))


def _mentions(node: ast.AST, names: Collection[str]) -> bool:
    return any(part.id in names for part in _variables(node))

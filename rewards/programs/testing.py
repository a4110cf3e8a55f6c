"""What the tests of a reference are, read from their sources before anything runs: whom they call, what they assert.

The tests run as they are written, except that

- an assertion notes that it was tried and whether it held, so one whose failure the test swallows still fails;
- a comparison, `all(...)`, `any(...)` and the like as a whole statement is an assertion;
- a handler notes which exception it caught: what the response raises and no handler of the test catches is a failure,
  also where `map`, `hasattr` or the like takes it for an end.
"""

import ast
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType

from rewards.programs.naming import (
    from_response,
    imported_names,
    modules_named,
    names_under_test,
    plain_imports,
    roots,
    stands_for_response,
)

CHECKS = "__checks__"  # the name of the ledger (inside_checks.py) in the tests
_VALUE = "__checked__"
_SOLUTION = "solution"  # the module that stands for the response, whatever the tests call it
_QUESTIONS = frozenset(("all", "any", "isinstance", "issubclass", "isclose", "callable", "hasattr", "allclose"))
_EXITS = frozenset(("exit", "quit", "_exit", "abort"))
_EXPECTING = frozenset(("raises", "assertRaises", "assertRaisesRegex", "suppress"))
_PRINTS = frozenset(("stdout", "redirect_stdout", "capsys"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What tests need of the response and of their process."""

    codes: tuple[CodeType, ...]  # one for each source, in order
    names: frozenset[str]  # global names that the response has to define
    modules: frozenset[str]  # modules of the standard library that they use without importing them
    called: frozenset[str]  # functions that they call by name themselves
    imports: str  # their imports from the standard library, one a line
    helpers: frozenset[str]  # of unittest, pytest and numpy, those that they use
    raised: frozenset[str]  # those of the names that are exceptions, because the tests catch or expect them
    printed: bool  # whether they look at what the code prints
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
    imported = imported_names(nodes)
    called = frozenset(node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    names = frozenset(names_under_test(list(sources), entry, imported))
    takes_candidate = any(_wants_candidate(node, called) for tree in trees[plain:] for node in tree.body)
    passed = _passed(nodes, names)
    asserts = any(map(_asserts, tests))  # before the trees change
    codes = [
        compile(tree if place < plain else _Noting(names).run(tree), "<test>", "exec", dont_inherit=True)
        for place, tree in enumerate(trees)
    ]
    return Tested(
        codes=tuple(codes),
        names=names,
        called=called,
        imports=plain_imports(nodes),
        takes_candidate=takes_candidate,
        modules=frozenset(modules_named(list(sources))),
        helpers=frozenset(roots(nodes) & {"unittest", "pytest", "numpy"}),
        raised=names & _exceptions(nodes),
        printed=any(isinstance(node, ast.Name | ast.arg | ast.Attribute) and _named(node) in _PRINTS for node in nodes)
        or any("sys.stdout" in source for source in sources),
        asserts=asserts,
        in_place=not any(_compares_both(node, passed) for node in nodes),
    )


def _exceptions(nodes: Sequence[ast.AST]) -> set[str]:
    """The names in handlers and in front of what expects an exception."""
    found: set[str] = set()
    for node in nodes:
        match node:
            case ast.ExceptHandler(type=ast.expr() as kind):
                found |= {part.id for part in _variables(kind)}
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _EXPECTING:
                found |= {
                    part.id for value in node.args[: None if name == "suppress" else 1] for part in _variables(value)
                }
    return found


def _named(node: ast.Name | ast.arg | ast.Attribute) -> str:
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
            return name
    return ""


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
        case ast.If(body=body):
            return any(map(_stops, body))
        case ast.Expr(value=value):
            return _is_question(value) or _exit_status(value) is not None
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


def _exit_status(node: ast.AST) -> ast.expr | None:
    """The status with which a test ends where the response may decide it, as in sys.exit(0 if ok else 1)."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[status]) if name in _EXITS:
            return None if isinstance(status, ast.Constant) else status
    return None


def _stops(statement: ast.stmt) -> bool:
    """Whether a statement always ends in failure: assert False, raise, fail(), exit(1)."""
    match statement:
        case ast.Expr(value=ast.Call(args=[ast.Constant(value=None | 0)])):
            return False
        case ast.Assert(test=ast.Constant(value=value)):
            return not value
        case ast.Raise(exc=ast.AST()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=given)):
            return name in ("fail", "abort") or (name in _EXITS and bool(given))
    return False


class _Noting(ast.NodeTransformer):
    """Puts the notes into the tests."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names | {"candidate"}  # of the response
        self._tried = 0  # bodies of `try` around the node
        self._read: set[str] = set()  # names in front of a dot

    def run(self, tree: ast.Module) -> ast.Module:
        self._read = roots(node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        found: ast.Module = self.visit(tree)
        return ast.fix_missing_locations(found)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return _noted(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.stmt]:
        if _is_question(node.value):
            return _noted(ast.copy_location(ast.Assert(test=node.value, msg=None), node))
        if (status := _exit_status(node.value)) is not None:
            good = ast.Tuple([ast.Constant(value) for value in (None, 0, False)], ast.Load())
            ended = ast.Compare(left=status, ops=[ast.In()], comparators=[good])
            well = ast.copy_location(ast.Assert(test=ended, msg=None), node)
            leave = ast.copy_location(ast.Raise(exc=ast.Name("SystemExit", ast.Load()), cause=None), node)
            return [_noted(well), leave]
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
        theirs = [alias for alias in read if stands_for_response(alias.name)]
        if not theirs:
            return node
        others = [alias for alias in node.names if alias not in theirs]
        new = [ast.alias(_SOLUTION, alias.asname or alias.name.partition(".")[0]) for alias in theirs]
        return ast.copy_location(ast.Import(others + new), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if from_response(node):
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

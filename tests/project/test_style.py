"""Rules of the four packages: objects are complete when they are built, functions have honest parameters, and remote
actors are called by the methods of a typed client."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("rewards", "actors", "learner", "cluster")
FILES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
Function = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[ast.AST], Iterator[str]]

# Files that still break a rule. Nothing may be added.
NOT_YET: dict[str, frozenset[str]] = {
    "half built": frozenset({"actors/filtering/filter.py", "actors/rollouts/generator.py", "learner/actor.py"}),
    "bags": frozenset(
        {
            "rewards/queries/sql.py",
            "actors/pool.py",
            "actors/rollouts/engine.py",
            "learner/objective.py",
            "cluster/running/publish.py",
        }
    ),
    "calls by string": frozenset(
        {
            "actors/filtering/filter.py",
            "actors/pool.py",
            "learner/weights.py",
            "cluster/placement/startup.py",
            "cluster/running/publish.py",
            "cluster/running/run.py",
            "cluster/running/warmup.py",
        }
    ),
}

# A dict[str, Any] is right where its keys come from outside: a row of JSON, a TOML tree, a message to a child process,
# names that a program defined. Such a parameter is called by one of these names.
FROM_OUTSIDE = {"body", "data", "job", "names", "report", "row", "rows", "tree"}
# Methods that vLLM (and DeepSpeed: the last) calls or that bear its name, with its own signature.
FOREIGN = {"init_weight_transfer_engine", "update_weights", "start_weight_update", "_sharded_loading"}

ACTORS = ("verifier", "judge", "generator", "learner", "filter")  # how the names of actors begin


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def of_self(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    """The attributes of `self` that are set or deleted anywhere below."""
    return {
        one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute)
        and isinstance(one.value, ast.Name)
        and one.value.id == "self"
        and isinstance(one.ctx, context)
    }


def half_built(tree: ast.AST) -> Iterator[str]:
    """Attributes of `self` that are set elsewhere and not in `__init__`, and those that are deleted."""
    for made in [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]:
        methods = [node for node in made.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        born = {
            one.target.id for one in made.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        }
        born |= {name for one in methods if one.name in ("__init__", "__new__") for name in of_self(one, ast.Store)}
        for method in methods:
            yield from (f"{made.name}.{method.name} adds self.{name}" for name in of_self(method, ast.Store) - born)
            yield from (f"{made.name}.{method.name} deletes self.{name}" for name in of_self(method, ast.Del))


def bags(tree: ast.AST) -> Iterator[str]:
    """Parameters that are a tuple of three or more, or a dict of anything whose keys are ours."""
    for function in functions(tree):
        for parameter in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]:
            if parameter.annotation is not None and function.name not in FOREIGN:
                kinds = [node for node in ast.walk(parameter.annotation) if isinstance(node, ast.Subscript)]
                if any(is_long_tuple(kind) for kind in kinds):
                    yield f"{function.name}({parameter.arg}: {ast.unparse(parameter.annotation)})"
                if parameter.arg not in FROM_OUTSIDE and any(ast.unparse(kind) == "dict[str, Any]" for kind in kinds):
                    yield f"{function.name}({parameter.arg}: {ast.unparse(parameter.annotation)})"


def is_long_tuple(kind: ast.Subscript) -> bool:
    return ast.unparse(kind.value) == "tuple" and isinstance(kind.slice, ast.Tuple) and len(kind.slice.elts) >= 3


def calls_by_string(tree: ast.AST) -> Iterator[str]:
    """`call(actor, "method")`, `getattr(actor, method).remote`, and actors that are found by the start of a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "remote" and is_getattr(node.value):
            yield ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        called, strings = ast.unparse(node.func), {text for one in node.args for text in texts(one)}
        if called.split(".")[-1] in ("call", "call_all") and any(map(is_text, node.args[1:2])):
            yield ast.unparse(node)
        if called.endswith("name.startswith") and any(s.startswith(ACTORS) for s in strings):
            yield ast.unparse(node)


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_getattr(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr"


def texts(node: ast.expr) -> list[str]:
    return [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]


RULES: dict[str, Rule] = {"half built": half_built, "bags": bags, "calls by string": calls_by_string}


@pytest.mark.parametrize("rule", RULES)
def test_no_file_breaks_a_rule(rule: str) -> None:
    files = [path for path in FILES if str(path) not in NOT_YET.get(rule, frozenset())]
    assert [f"{path}: {said}" for path in files for said in RULES[rule](ast.parse((ROOT / path).read_text()))] == []


EXAMPLES: list[tuple[str, str, int]] = [
    ("half built", "class A:\n def __init__(self): self.a = 1\n def f(self): self.a = 2", 0),
    ("half built", "class A:\n a: int\n def f(self): self.a = 2", 0),
    ("half built", "class A:\n def f(self): self.a = 2", 1),
    ("half built", "class A:\n def __init__(self): self.a = 1\n def f(self): del self.a", 1),
    ("half built", "class A:\n def __init__(self): pass\n def f(self): self.a, self.b = 1, 2", 2),
    ("bags", "def f(a: tuple[int, ...], b: tuple[int, str]): pass", 0),
    ("bags", "def f(a: tuple[int, str, int]): pass", 1),
    ("bags", "def f(*, a: Sequence[tuple[int, str, int]]): pass", 1),
    ("bags", "def f(options: dict[str, Any], row: dict[str, Any]): pass", 1),
    ("bags", "def update_weights(update_info: dict[str, Any]): pass", 0),
    ("calls by string", "call(actor, 'begin', 1)", 1),
    ("calls by string", "remote.call(actor, 'begin', 1)", 1),
    ("calls by string", "call_all(actors, 'begin', 1)", 1),
    ("calls by string", "call(number, 'text'.encode())", 0),
    ("calls by string", "actor.begin.remote(1)", 0),
    ("calls by string", "getattr(actor, method).remote(1)", 1),
    ("calls by string", "name.startswith(('verifier', 'judge'))", 1),
    ("calls by string", "name.startswith('seconds_')", 0),
]


@pytest.mark.parametrize(("rule", "source", "count"), EXAMPLES)
def test_a_rule_finds_what_it_forbids_and_nothing_else(rule: str, source: str, count: int) -> None:
    assert len(list(RULES[rule](ast.parse(source)))) == count

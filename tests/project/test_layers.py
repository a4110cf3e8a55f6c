"""The import rule: a folder knows itself and the folders to its left, and each heavy package has one home."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("rewards", "actors", "learner", "cluster")
HOMES = {
    "vllm": (
        "actors/rollouts/engine.py",
        "actors/rollouts/in_process.py",
        "actors/tools/parsers.py",
        "actors/transfer/",
        "learner/weights.py",
        "learner/sending.py",
    ),
    "deepspeed": ("learner/",),
    "peft": ("learner/models/adapter.py",),
    "mcp": ("actors/tools/mcp.py",),
    "bm25s": ("actors/tools/search.py",),
    "torch": ("actors/rollouts/engine.py", "actors/transfer/", "learner/", "rewards/models/scoring.py"),
    "ray": ("actors/", "learner/", "cluster/"),
    "wandb": ("cluster/reporting/clients.py",),
    "mlflow": ("cluster/reporting/clients.py",),
    "trackio": ("cluster/reporting/clients.py",),
    "fsspec": ("cluster/preparing/storage.py",),
}
# Which rooms of its own folder a room may import. Files that lie directly in a folder belong to no room: every room
# may import them, and they may import every room.
ROOMS: dict[str, dict[str, tuple[str, ...]]] = {
    "rewards": {"answers": (), "grading": ("models",), "models": (), "programs": (), "queries": ()},
    "actors": {
        "data": (),
        "filtering": (),
        "tools": ("data",),
        "grading": ("tools",),
        "transfer": (),
        "rollouts": ("data", "filtering", "grading", "tools", "transfer"),
    },
    "learner": {
        "methods": (),
        "batches": ("methods",),
        "models": ("batches", "methods"),
        "checks": ("batches", "methods", "models"),
        "reward_models": ("batches", "models"),
    },
    "cluster": {
        "config": (),
        "browsing": ("config",),
        "reporting": ("config",),
        "report": ("config", "reporting"),
        "preparing": ("config", "reporting"),
        "placement": ("config", "preparing", "reporting"),
        "running": ("config", "placement", "preparing", "report", "reporting"),
        "reward_models": ("config", "placement", "preparing", "report", "reporting", "running"),
        "jobs": ("config", "placement", "preparing", "reporting", "running"),
        "commands": ("config", "preparing", "placement", "report", "reporting"),
        "comparing": ("config", "placement", "preparing", "report", "reporting", "running"),
        "evaluating": ("commands", "config", "placement", "preparing", "reporting", "running"),
    },
}
HEAVY = "'torch', 'vllm', 'ray', 'transformers', 'sympy', 'math_verify', 'duckdb', 'httpx'"
FILES = [path.relative_to(ROOT) for layer in LAYERS for path in sorted((ROOT / layer).glob("**/*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_a_file_imports_only_what_its_folder_may_know() -> None:
    wrong = []
    for path in FILES:
        known = imported(path)
        wrong += [(str(path), folder) for folder in LAYERS[LAYERS.index(path.parts[0]) + 1 :] if folder in known]
        wrong += [(str(path), package) for package in HOMES if package in known and not at_home(path, package)]
    assert wrong == []


def at_home(path: Path, package: str) -> bool:
    return str(path).startswith(HOMES[package])


def room_of(folder: str, module: str) -> str:
    """The room of a folder in which a module lies, by its dotted name; empty for a file that lies in no room."""
    second = module.split(".")[1] if "." in module else ""
    return second if second and (ROOT / folder / second).is_dir() else ""


def neighbours(path: Path) -> set[str]:
    """The other rooms of its own folder that a file imports."""
    folder, found = path.parts[0], set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    own = room_of(folder, ".".join(path.with_suffix("").parts))
    return {room_of(folder, module) for module in found if module.split(".")[0] == folder} - {own, ""}


def test_every_room_is_in_the_table() -> None:
    for folder in LAYERS:
        rooms = {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
        assert set(ROOMS[folder]) == rooms, folder


def test_a_room_imports_only_the_rooms_that_the_table_gives_it() -> None:
    wrong = [
        (str(path), room)
        for path in FILES
        if len(path.parts) > 2
        for room in sorted(neighbours(path) - set(ROOMS[path.parts[0]][path.parts[1]]))
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", LAYERS)
def test_there_is_no_circle_of_rooms(folder: str) -> None:
    TopologicalSorter(ROOMS[folder]).prepare()  # raises CycleError, which names the circle


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "import rewards",
        "import actors.types, actors.filtering.ledger",
        "import cluster.config.reading",
        "from cluster.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
    ],
)
def test_the_light_modules_load_neither_torch_nor_vllm_nor_ray(statement: str) -> None:
    code = f"{statement}\nimport sys\nassert not {{{HEAVY}}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_the_driver_loads_neither_torch_nor_vllm_nor_deepspeed() -> None:
    code = "import sys, cluster.running.train\nassert not {'torch', 'vllm', 'deepspeed'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_learners_engine_loads_where_ray_and_vllm_are_not_installed() -> None:
    absent = ("ray", "vllm", "accelerate", "httpx", "duckdb", "sqlglot", "math_verify", "tenacity", "rich")
    code = f"import sys\nsys.modules.update(dict.fromkeys({absent}))\nimport learner.engine"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

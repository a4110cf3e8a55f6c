"""The import rule: a folder knows itself and the folders to its left, and each heavy package has one home."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("rewards", "actors", "learner", "cluster")
HOMES = {
    "vllm": ("actors/rollouts/engine.py", "actors/transfer/gloo.py", "learner/weights.py"),
    "deepspeed": ("learner/",),
    "torch": ("actors/rollouts/engine.py", "actors/transfer/gloo.py", "learner/", "rewards/models/scoring.py"),
    "ray": ("actors/", "learner/", "cluster/"),
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


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_only_what_its_folder_may_know(path: Path) -> None:
    right = set(LAYERS[LAYERS.index(path.parts[0]) + 1 :])
    assert not imported(path) & right
    for package, homes in HOMES.items():
        assert package not in imported(path) or str(path).startswith(homes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "import rewards",
        "import actors.types, actors.filtering.ledger",
        "import cluster.config.run_config",
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

"""What a wheel holds is enough: its commands run from a folder of their own, with every file that they read found."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("actors", "cluster", "learner", "rewards")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "deploy/runs", *PACKAGES)


def test_every_package_is_named_for_the_wheel() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert set(named) == there | {"cluster.runs"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a wheel that was built from a copy of the sources, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, target = ROOT / name, folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "-w", str(folder / "built"), str(folder / "source")], check=True)
    (wheel,) = (folder / "built").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def winnow(unpacked: Path, tmp_path: Path):
    """The command line of the unpacked wheel, in an empty folder, with its packages before those of the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "PYTHONSAFEPATH": "1"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cluster.cli", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.slow
def test_nothing_that_the_packages_hold_is_missing_in_the_wheel(unpacked: Path) -> None:
    held = {
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert [str(path) for path in sorted(held) if not (unpacked / path).is_file()] == []
    runs = {
        path.relative_to(ROOT / "deploy/runs")
        for path in (ROOT / "deploy/runs").rglob("*.*")
        if path.suffix in (".py", ".toml")
    }
    assert [str(path) for path in sorted(runs) if not (unpacked / "cluster/runs" / path).is_file()] == []


@pytest.mark.slow
def test_the_commands_of_a_wheel_run_from_any_folder(winnow, unpacked: Path) -> None:
    version = winnow("--version")
    assert version.stdout.startswith("winnow ")
    assert "checkout" not in version.stdout
    plan = winnow("demo", "--plan")
    assert plan.returncode == 0, plan.stderr
    assert "64 groups x 8 responses = 512 responses a step" in plan.stdout
    graded = winnow("grade", "none.jsonl")
    assert graded.returncode == 2
    assert "there is no data file none.jsonl" in graded.stderr
    settings = winnow("settings", "learner.zero_stage")
    assert settings.stdout.startswith("learner.zero_stage = 2")


@pytest.mark.slow
def test_run_files_and_pages_are_found_by_the_paths_of_the_documents(winnow, tmp_path: Path, unpacked: Path) -> None:
    found = winnow("train", "deploy/runs/gsm8k.toml", "--plan", "model.path=nowhere", "data.path=nowhere.jsonl")
    assert "there is no model folder nowhere" in found.stderr
    code = (
        "from pathlib import Path\nimport cluster, cluster.report.page\n"
        "from cluster.config.reading import load_config, load_methods\nfrom cluster.jobs.package import own_code\n"
        "assert len(load_methods([Path('deploy/runs/paper')], [])) == 11\n"
        "names = own_code(Path.cwd())\n"
        "assert {'cluster/report/page.html', 'cluster/runs/demo.toml', 'actors/__init__.py'} <= set(names)\n"
        f"assert Path(cluster.__file__).is_relative_to({str(unpacked)!r}), cluster.__file__\n"
        "assert Path(cluster.report.page.__file__).with_name('page.html').is_file()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "PYTHONSAFEPATH": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)

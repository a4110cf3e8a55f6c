"""The lock files hold one version of each package, with its hashes, and the versions that the project names."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = ("bench", "cpu", "gpu", "others")


def locked(name: str) -> dict[str, str]:
    """Package -> what the lock file says of it."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.M)[1:]
    return {entry.partition("==")[0]: entry for entry in entries}


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_one_version_and_its_hashes(name: str) -> None:
    entries = locked(name)
    assert len(entries) > 20
    wrong = [package for package, said in entries.items() if "--hash=sha256:" not in said or " ==" in said]
    assert wrong == []


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_the_versions_that_the_project_pins_are_those_of_the_lock(name: str) -> None:
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][name]]
    pinned = dict(one.split("==") for one in wanted if "==" in one)
    entries = locked(name)
    left_out = (FOLDER / f"{name}-overrides.txt").read_text(encoding="utf-8")
    for package, version in pinned.items():
        package = package.partition("[")[0]
        if not re.search(rf"^{package} ;", left_out, re.M):
            assert re.match(rf"{package}(\[\w+\])?=={re.escape(version)} ", entries[package]), package


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_what_is_left_out_is_not_in_the_lock(name: str) -> None:
    text = (FOLDER / f"{name}-overrides.txt").read_text(encoding="utf-8")
    left_out = re.findall(r"^([a-z0-9-]+) ;", text, re.M)
    assert left_out
    assert set(left_out) & set(locked(name)) == set()

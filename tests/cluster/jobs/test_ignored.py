"""What is ignored is what git ignores."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.jobs.ignored import is_ignored, rules_above, rules_of

TREE = (
    "a.bin",
    "b.txt",
    "data/a.bin",
    "data/b.txt",
    "data/deep/a.bin",
    "data/deep/x/b.txt",
    "x/data/a.bin",
    "a b/c.log",
)
LINES = (
    *(
        "*.bin",
        "/a.bin",
        "data",
        "data/",
        "/data/",
        "data/*",
        "data/**",
        "**/data",
        "data/**/b.txt",
        "!b.txt",
        "!a.bin",
    ),
    *(
        "# a comment",
        "",
        "  ",
        "deep/",
        "!deep/",
        "a?b",
        "a\\ b",
        "[ab].*",
        "[!a].txt",
        "x/*/a.bin",
        "**/x",
        "*",
        "!*/",
    ),
    *(
        "\\!b.txt",
        "b.txt ",
        "b.txt\\ ",
        "[",
        "[[:alpha:]].bin",
        "data/deep/../a.bin",
        "/",
        "[]b].txt",
        "a*b",
        "***.bin",
    ),
)


def seen_by_git(folder: Path) -> set[str]:
    """The files that git does not ignore."""
    command = ["git", "-c", "core.excludesFile=/dev/null", "ls-files", "--others", "--exclude-standard", "-z"]
    env = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    found = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout
    return {name for name in found.split("\0") if name and not name.endswith(".gitignore")}


def seen_by_us(root: Path) -> set[str]:
    """The files that are left when folders that are ignored are not entered."""

    def walk(folder: Path, above: list) -> None:
        rules = [*above, rules_of(folder)]
        for path in folder.iterdir():
            if path.name in (".git", ".gitignore") or is_ignored(path, rules, is_folder=path.is_dir()):
                continue
            if path.is_dir():
                walk(path, rules)
            else:
                found.add(path.relative_to(root).as_posix())

    found: set[str] = set()
    walk(root, rules_above(root))
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    for name in TREE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    top=st.lists(st.sampled_from(LINES), max_size=4),
    below=st.lists(st.sampled_from(LINES), max_size=3),
)
def test_the_same_files_are_left_out_as_by_git(repository: Path, top: list[str], below: list[str]) -> None:
    (repository / ".gitignore").write_text("\n".join(top))
    (repository / "data/.gitignore").write_text("\n".join(below) + "\n")
    assert seen_by_us(repository) == seen_by_git(repository)


def test_the_rules_of_a_repository_hold_in_its_folders_and_rayignore_adds_to_them(repository: Path) -> None:
    (repository / ".gitignore").write_text("*.bin\n")
    (repository / "data/.gitignore").write_text("")
    assert seen_by_us(repository / "data") == {"b.txt", "deep/x/b.txt"}
    (repository / "data/.rayignore").write_text("deep\n!a.bin\n")
    assert seen_by_us(repository / "data") == {".rayignore", "a.bin", "b.txt"}
    (repository / "data/.rayignore").unlink()


def test_no_rules_come_from_above_outside_of_a_repository(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*")
    (tmp_path / "mine").mkdir()
    assert rules_above(tmp_path / "mine") == []

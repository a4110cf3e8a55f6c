"""Every path that README and docs name in backticks is in the repository, and what is promised has its test."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
TOPS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
MADE = ("runs/", "shared/", ".venv")  # folders that the commands make or that the data lie in


def paths_in(text: str) -> Iterator[str]:
    """What looks like a path of the repository in backticks: it begins with one of its folders, or ends as a file of
    its root does."""
    for named in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S)):
        path = named.split("::")[0].rstrip("/")
        if re.fullmatch(r"[\w.*/-]+", path) and not path.startswith(MADE):
            in_a_folder = "/" in path and path.split("/")[0] in TOPS and "://" not in path
            if in_a_folder or re.fullmatch(r"[A-Z]\w+\.md|Makefile|LICENSE|pyproject\.toml", path):
                yield path


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: str(text.relative_to(ROOT)))
def test_every_path_in_backticks_exists(text: Path) -> None:
    assert [path for path in paths_in(text.read_text()) if not list(ROOT.glob(path))] == []


def test_every_test_that_is_named_for_a_promise_exists() -> None:
    lines = (ROOT / "docs/promises.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")][2:]
    assert rows
    for row in rows:
        files = re.findall(r"`(tests/[^`]+?\.py)(?:::(\w+))?`", row)
        assert files, f"no test is named for: {row}"
        for file, test in files:
            assert (ROOT / file).is_file(), row
            assert not test or f"def {test}(" in (ROOT / file).read_text(), row

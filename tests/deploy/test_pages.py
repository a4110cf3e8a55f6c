"""No file for deployment is without a page that says what it is for, and without a test that looks at it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ROOMS = sorted(path.name for path in DEPLOY.iterdir() if path.is_dir())
every_room = pytest.mark.parametrize("room", ROOMS)


def files_of(room: str) -> list[Path]:
    return [path.relative_to(DEPLOY / room) for path in (DEPLOY / room).rglob("*") if path.is_file()]


def test_every_file_lies_in_a_room() -> None:
    assert [path.name for path in DEPLOY.iterdir() if path.is_file()] == ["README.md"]


@every_room
def test_the_index_leads_to_every_room(room: str) -> None:
    assert f"]({room}/README.md)" in (DEPLOY / "README.md").read_text(encoding="utf-8")


@every_room
def test_the_page_of_a_room_names_every_file_or_its_folder(room: str) -> None:
    page = (DEPLOY / room / "README.md").read_text(encoding="utf-8")
    files = [path for path in files_of(room) if path.name not in ("README.md", "kustomization.yaml")]
    assert [str(path) for path in files if path.name not in page and f"`{path.parts[0]}" not in page] == []


@every_room
def test_tests_look_at_every_room(room: str) -> None:
    file, folder = ROOT / f"tests/deploy/test_{room}.py", ROOT / f"tests/deploy/{room}"
    assert file.is_file() or list(folder.glob("test_*.py"))

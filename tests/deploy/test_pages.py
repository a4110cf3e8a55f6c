"""No file for deployment is without a page that says what it is for, and without a test that looks at it; the walk from
bare machines to a run is whole."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ROOMS = sorted(path.name for path in DEPLOY.iterdir() if path.is_dir())
CLUSTERS = ("kuberay", "ray", "skypilot", "slurm")  # rooms that make a cluster
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


def test_the_walk_is_one_block_that_bash_can_read_through_a_lost_node_to_a_run_that_goes_on() -> None:
    walk = (ROOT / "docs/clusters.md").read_text(encoding="utf-8").split("```")[1]
    assert subprocess.run(["bash", "-n"], input=walk, text=True, check=False).returncode == 0
    steps = ("make env", "ray start --head", "--plan", "winnow submit", "ray stop", "winnow stop", "submit --resume")
    places = [walk.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)


def test_each_screenshot_is_shown_once_and_the_walk_shows_some() -> None:
    pages = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}
    shown = {name: re.findall(r"\]\(images/([^)]+)\)", page) for name, page in pages.items()}
    assert len(shown["clusters.md"]) > 1
    assert sorted(name for names in shown.values() for name in names) == sorted(
        path.name for path in (ROOT / "docs/images").iterdir()
    )


@pytest.mark.parametrize("page", ["docs/clusters.md", *(f"deploy/{room}/README.md" for room in CLUSTERS)])
def test_every_kind_of_cluster_says_where_keys_come_from(page: str) -> None:
    assert "`WANDB_API_KEY`" in (ROOT / page).read_text(encoding="utf-8")

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.preparing.package_names import PACKAGES, other_packages

ROOT = Path(__file__).parents[3]


def test_nothing_is_in_the_way_here_or_in_an_ordinary_folder(tmp_path: Path) -> None:
    assert other_packages(ROOT) == []
    assert other_packages(tmp_path) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_a_file_or_package_of_our_name_in_the_folder_of_the_run_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").touch()
    assert other_packages(tmp_path) == [tmp_path / f"{name}.py"]
    (tmp_path / f"{name}.py").unlink()
    (tmp_path / name).mkdir()
    assert other_packages(tmp_path) == []  # a folder without __init__.py gives way to a package
    (tmp_path / name / "__init__.py").touch()
    assert other_packages(tmp_path) == [tmp_path / name / "__init__.py"]


@pytest.mark.parametrize("beside", [True, False])
def test_a_persons_own_rewards_file_ends_the_start_with_its_name(tmp_path: Path, beside: bool) -> None:
    """In the folder that the run is started from, or earlier on Python's path."""
    mine = tmp_path / "mine" / "rewards.py"
    mine.parent.mkdir()
    mine.write_text("def reward(response, reference, prompt): return 1.0\n")
    env = os.environ | {"PYTHONPATH": f"{ROOT}" if beside else f"{mine.parent}:{ROOT}"}
    command = [sys.executable, "-P", "-m", "cluster.cli", "algorithms", "raft"]
    ended = subprocess.run(
        command, cwd=mine.parent if beside else tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert str(mine) in ended.stderr
    assert "rename it" in ended.stderr
    assert "Traceback" not in ended.stderr

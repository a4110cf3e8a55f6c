"""The zip file of a job."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

from cluster.config.errors import ConfigError
from cluster.jobs.package import HTTP_LIMIT, MESSAGE, MESSAGE_LIMIT, limit, own_code, own_distribution, write_package


def test_the_limits_are_those_of_the_ray_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MESSAGE, raising=False)
    assert (HTTP_LIMIT, MESSAGE_LIMIT) == (DASHBOARD_CLIENT_MAX_SIZE, GCS_STORAGE_MAX_SIZE)
    assert limit() == HTTP_LIMIT
    monkeypatch.setenv(MESSAGE, "1000")
    assert limit() == 1000


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    (tmp_path / "run.sh").write_text("y")
    (tmp_path / "run.sh").chmod(0o755)
    files = {"a.py": tmp_path / "a.py", "bin/run.sh": tmp_path / "run.sh"}
    first = write_package(tmp_path / "1.zip", files, {".winnow/r.toml": "[run]"})
    os.utime(tmp_path / "a.py", (1, 1))
    second = write_package(tmp_path / "2.zip", files, {".winnow/r.toml": "[run]"})
    assert first.file.read_bytes() == second.file.read_bytes()
    assert (first.files, first.bytes, first.packed) == (3, 7, first.file.stat().st_size)
    with zipfile.ZipFile(first.file) as archive:
        assert archive.namelist() == ["a.py", "bin/run.sh", ".winnow/r.toml"]
        assert archive.getinfo("bin/run.sh").external_attr >> 16 & 0o777 == 0o755


def test_more_than_ray_takes_is_refused_with_what_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MESSAGE, str(2**20))
    (tmp_path / "big.bin").write_bytes(os.urandom(3 * 2**20))
    (tmp_path / "small.py").write_text("x")
    files = {"data/big.bin": tmp_path / "big.bin", "small.py": tmp_path / "small.py"}
    with pytest.raises(ConfigError) as refusal:
        write_package(tmp_path / "job.zip", files, {})
    said = str(refusal.value)
    assert "2 files of 3.0 MiB would be sent with the job, more than the 1.0 MiB that Ray takes" in said
    assert "The largest folders: data/ 3.0 MiB" in said
    assert "The largest files: data/big.bin 3.0 MiB" in said
    assert ".rayignore" in said


def test_winnow_runs_from_a_folder_with_nothing_else(tmp_path: Path) -> None:
    files, texts = own_code(tmp_path), own_distribution()
    assert {"actors/__init__.py", "cluster/report/page.html", "rewards/py.typed"} <= set(files)
    with zipfile.ZipFile(write_package(tmp_path / "job.zip", files, texts).file) as archive:
        archive.extractall(tmp_path / "job")
    code = "import importlib.metadata as m, cluster.cli, rewards; print(cluster.cli.__file__, rewards.__file__); "
    code += "print([e.name for e in m.entry_points(group='vllm.general_plugins') if 'winnow' in e.name])"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=tmp_path / "job", env=env, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[0] == f"{tmp_path}/job/cluster/cli.py {tmp_path}/job/rewards/__init__.py"
    if texts:
        assert printed.splitlines()[1] == "['winnow_gloo']"


def test_the_checkout_brings_its_own_code() -> None:
    assert own_code(Path(__file__).parents[3]) == {}

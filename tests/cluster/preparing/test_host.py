"""The memory of a machine on made-up files of its kernel."""

from pathlib import Path

import pytest

from cluster.preparing.budget import GIB
from cluster.preparing.host import HostMemory, host_memory


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine with 64 GiB, 48 of them free."""
    (tmp_path / "proc/self").mkdir(parents=True)
    lines = f"MemTotal: {64 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {48 * 2**20} kB\n"
    (tmp_path / "proc/meminfo").write_text(lines)
    return tmp_path / "proc"


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_without_control_groups_it_is_the_machines(proc: Path, tmp_path: Path) -> None:
    assert host_memory(proc, tmp_path / "none") == HostMemory(total=64 * GIB, free=48 * GIB, bounded=False)


def test_a_container_has_what_its_group_allows_and_cached_files_count_as_free(proc: Path, tmp_path: Path) -> None:
    (proc / "self/cgroup").write_text("0::/\n")
    group(tmp_path / "groups", memory__max=8 * GIB, memory__current=7 * GIB)
    assert host_memory(proc, tmp_path / "groups") == HostMemory(total=8 * GIB, free=GIB, bounded=True)
    group(tmp_path / "groups", memory__stat=f"anon 1\ninactive_file {4 * GIB}\nactive_file 3")
    assert host_memory(proc, tmp_path / "groups").free == 5 * GIB


def test_a_job_of_a_batch_system_is_bounded_by_the_groups_above_it_too(proc: Path, tmp_path: Path) -> None:
    (proc / "self/cgroup").write_text("0::/batch/job7/step0\n")
    group(tmp_path / "groups/batch/job7/step0", memory__max="max", memory__current=GIB)
    group(tmp_path / "groups/batch/job7", memory__max=16 * GIB, memory__current=6 * GIB)
    group(tmp_path / "groups/batch", memory__max=40 * GIB, memory__current=39 * GIB)
    assert host_memory(proc, tmp_path / "groups") == HostMemory(total=16 * GIB, free=GIB, bounded=True)


@pytest.mark.parametrize("seen", ["box", ""])  # a container often sees its own group as the root, under another name
def test_groups_of_the_first_version_are_read_too(proc: Path, tmp_path: Path, seen: str) -> None:
    (proc / "self/cgroup").write_text("9:cpu,cpuacct:/box\n4:memory:/box\n1:name=systemd:/\n0::/\n")
    files = {"memory__limit_in_bytes": 8 * GIB, "memory__usage_in_bytes": 3 * GIB}
    group(tmp_path / "groups/memory" / seen, **files, memory__stat=f"inactive_file 1\ntotal_inactive_file {GIB}")
    assert host_memory(proc, tmp_path / "groups") == HostMemory(total=8 * GIB, free=6 * GIB, bounded=True)


def test_a_group_that_allows_more_than_there_is_bounds_nothing(proc: Path, tmp_path: Path) -> None:
    (proc / "self/cgroup").write_text("4:memory:/\n")
    group(tmp_path / "groups/memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=63 * GIB)
    assert host_memory(proc, tmp_path / "groups") == HostMemory(total=64 * GIB, free=48 * GIB, bounded=False)

"""The memory of this machine for the CPU, as the kernel says it and as the control groups of this process bound it:
what a container or a job of a batch system may use is less than what the machine has."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Of a control group of version 2 and of version 1: files with its limit and its use, and the line of memory.stat with
# what of that is a cache of files, which the kernel gives back.
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """What there is, in bytes; 0 is unknown."""

    total: int
    free: int
    bounded: bool  # whether a control group allows less than the machine has


def host_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> HostMemory:
    """The memory that this process and its children may use.

    Args:
        proc: where the kernel's files on processes are.
        cgroups: where its control groups are.
    """
    found = proc / "meminfo"
    lines = dict(line.split(":", 1) for line in found.read_text().splitlines()) if found.is_file() else {}
    total, free = (int(lines.get(name, "0 kB").split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    machine = total
    for limit, left in _bounds(proc / "self/cgroup", cgroups):
        if limit < machine:
            total, free = min(total, limit), min(free, max(0, left))
    return HostMemory(total=total, free=free, bounded=total < machine)


def _bounds(own: Path, cgroups: Path) -> Iterator[tuple[int, int]]:
    """(limit, left) in bytes of each control group that bounds this process: its own and those above it."""
    for line in own.read_text().splitlines() if own.is_file() else ["0::/"]:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, files = (cgroups / "memory", VERSION_1) if controllers else (cgroups, VERSION_2)
        group = root / path.lstrip("/")
        for folder in [group, *group.parents]:
            if limit := _number(folder / files[0]):
                yield limit, limit - _number(folder / files[1]) + _cached(folder / "memory.stat", files[2])
            if folder == root:
                break


def _number(file: Path) -> int:
    """The number in a file of a control group; 0 where there is none, or no limit."""
    text = file.read_text().strip() if file.is_file() else ""
    return int(text) if text.isdecimal() else 0


def _cached(file: Path, name: str) -> int:
    lines = file.read_text().splitlines() if file.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)

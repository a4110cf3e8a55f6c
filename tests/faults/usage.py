"""What the processes of a run hold: memory, file handles and threads of each, from /proc."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.processes import TITLES, Family

# Whoever else belongs to a run -> a word of the command that tells it.
OTHERS = {"raylet": "raylet/raylet", "Ray's head": "gcs_server", "dashboard": "dashboard/dashboard.py"}
REST = "all others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a process holds, or several together."""

    memory: float  # MiB, its share of what is shared (PSS)
    resident: float  # MiB, all that is shared counted (RSS)
    files: int  # handles
    threads: int

    def with_(self, other: "Held") -> "Held":
        """Both together."""
        return Held(
            memory=self.memory + other.memory,
            resident=self.resident + other.resident,
            files=self.files + other.files,
            threads=self.threads + other.threads,
        )


def held_by(family: Family, driver: int) -> dict[str, Held]:
    """What each part of a run holds; those of a kind have numbers in the order of their start."""
    seen = dict[str, int]()
    found = dict[str, Held]()
    for each in sorted(family.living(), key=lambda each: each.process.began):
        kind = "driver" if each.process.pid == driver else kind_of(each.title)
        with suppress(FileNotFoundError, ProcessLookupError):
            held = _of(each.process.pid)
            seen[kind] = seen.get(kind, -1) + 1
            name = kind if kind not in TITLES else f"{kind} {seen[kind]}"
            found[name] = found[name].with_(held) if name in found else held
    return found


def kind_of(title: str) -> str:
    """The part that a process is, by what it calls itself."""
    parts = [part for part, start in TITLES.items() if title.startswith(start)]
    others = [name for name, word in OTHERS.items() if word in title]
    return (parts + others + [REST])[0]


def _of(pid: int) -> Held:
    folder = Path(f"/proc/{pid}")
    sizes = _fields((folder / "smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines()[1:])
    status = _fields((folder / "status").read_text(encoding="utf-8", errors="replace").splitlines())
    return Held(
        memory=int(sizes["Pss"].split()[0]) / 1024,
        resident=int(sizes["Rss"].split()[0]) / 1024,
        files=len(os.listdir(folder / "fd")),
        threads=int(status["Threads"]),
    )


def _fields(lines: Sequence[str]) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in pairs}

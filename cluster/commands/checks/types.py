"""What a check is and what it finds."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from cluster.commands.checks.gpus import Gpus


class State(StrEnum):
    """How it stands with what was looked at."""

    OK = "ok"
    NOTE = "note"  # runs work, some of them worse or not
    WRONG = "WRONG"  # no run works before this is mended
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found."""

    state: State
    said: str  # what was found, or why it was not looked for
    remedy: str = ""  # what to do, where there is something
    more: str = ""  # lines that are printed below as they are


def ok(said: str, more: str = "") -> Finding:
    return Finding(state=State.OK, said=said, more=more)


def note(said: str, remedy: str = "") -> Finding:
    return Finding(state=State.NOTE, said=said, remedy=remedy)


def wrong(said: str, remedy: str = "") -> Finding:
    return Finding(state=State.WRONG, said=said, remedy=remedy)


def skipped(why: str) -> Finding:
    return Finding(state=State.SKIPPED, said=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is looked at: this machine, and a run where one is named."""

    runs: Path  # the folder in which run folders are made
    gpus: Gpus  # that the machine has
    visible: int  # GPUs that a run would see
    run_file: Path | None = None
    items: tuple[str, ...] = ()  # settings that replace the run file's
    proc: Path = Path("/proc")
    cgroups: Path = Path("/sys/fs/cgroup")
    shared: Path = Path("/dev/shm")
    scratch: Path = Path("/tmp")  # where Ray keeps its session and what does not fit into its store

    @property
    def device(self) -> str:
        """Where a run would compute, in torch's words."""
        return "cuda" if self.visible else "cpu"


Told: TypeAlias = Callable[[str], None]  # hears what a check does next, for the case that it hangs there
Examine: TypeAlias = Callable[[Subject, Told], Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing to look at."""

    name: str
    seconds: float  # that it may take before it is killed
    examine: Examine

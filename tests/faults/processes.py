"""The processes of a run, found below its driver and remembered: whoever of them outlives it is found again."""

import os
import signal
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Part of a run -> how its process calls itself.
TITLES = {
    "generator": "ray::Generator",
    "engine": "VLLM::EngineCore",
    "verifier": "ray::Verifier",
    "filter": "ray::Filter",
    "rank": "ray::LearnerRank",
}
STOPPED, DEAD = "tT", "ZX"  # states in /proc


@dataclass(frozen=True, slots=True)
class Process:
    """A process that may have ended: its number alone could be another one's by now."""

    pid: int
    began: int  # clock ticks after the machine's start


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A process as it is now."""

    process: Process
    parent: int
    state: str
    title: str


class Family:
    """Everything that a process has started, and what they have started in turn."""

    def __init__(self) -> None:
        self._tops: set[Process] = set()
        self._known: set[Process] = set()

    def add(self, pid: int) -> None:
        """A process whose descendants belong to the family, with itself."""
        seen = _look(pid)
        if seen is not None:
            self._tops.add(seen.process)

    def living(self) -> list[Seen]:
        """All that have not ended; those that are stopped are among them."""
        everyone = {seen.process.pid: seen for seen in _everyone()}
        children = defaultdict(list)
        for seen in everyone.values():
            children[seen.parent].append(seen)
        queue = [s for s in everyone.values() if s.process in self._tops or s.process in self._known]
        found = dict[int, Seen]()
        while queue:
            seen = queue.pop()
            if seen.process.pid not in found:
                found[seen.process.pid] = seen
                queue += children[seen.process.pid]
        self._known |= {seen.process for seen in found.values()}
        return [seen for seen in found.values() if seen.state not in DEAD]

    def parts(self) -> dict[str, list[int]]:
        """Process ids of each part of `TITLES` that lives and is not stopped."""
        living = [seen for seen in self.living() if seen.state not in STOPPED]
        return {part: [s.process.pid for s in living if s.title.startswith(title)] for part, title in TITLES.items()}

    def kill(self) -> None:
        """Ends all of them."""
        for _ in range(3):  # one that is killed last may have started another
            for seen in self.living():
                send(seen.process.pid, signal.SIGKILL)


def send(pid: int, number: signal.Signals) -> None:
    """A signal, to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _everyone() -> list[Seen]:
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [seen for seen in map(_look, numbers) if seen is not None]


def _look(pid: int) -> Seen | None:
    folder = Path(f"/proc/{pid}")
    try:
        text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    name = text[text.index("(") + 1 : text.rindex(")")]
    process = Process(pid, int(fields[19]))
    return Seen(process=process, parent=int(fields[1]), state=fields[0], title=title or name)

"""CPU seconds and memory of a process and all below it, from /proc: what a figure of the benchmarks is made of. And a
process that is ended when its time is over."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.records import ROOT

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
GRACE = 20  # seconds that a process has to end its actors after its time is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What processes have used so far."""

    cpu: Mapping[str, float]  # name -> CPU seconds since each process of that name began
    memory: float  # resident memory of the top process, MiB

    @property
    def seconds(self) -> float:
        """CPU seconds of all of them."""
        return sum(self.cpu.values())

    def since(self, before: "Usage") -> dict[str, float]:
        """CPU seconds by name since then, the largest first; processes that ended between are left out."""
        spent = {name: seconds - before.cpu.get(name, 0.0) for name, seconds in self.cpu.items()}
        return dict(sorted(spent.items(), key=lambda item: -item[1]))


def usage(top: int) -> Usage:
    """Of the process `top` and its descendants; a process that ends while it is read does not count."""
    parents, stats = dict[int, int](), dict[int, tuple[str, float, float]]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                title = (entry / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            fields = text[text.rindex(")") + 2 :].split()
            number = int(entry.name)
            parents[number] = int(fields[1])
            spent, resident = (int(fields[11]) + int(fields[12])) / TICK, int(fields[21]) * PAGE / 2**20
            stats[number] = (_short(title) or text[text.index("(") + 1 : text.rindex(")")], spent, resident)
    cpu = dict[str, float]()
    for number, (name, seconds, _) in stats.items():
        if _below(number, top, parents):
            name = "driver" if number == top else name
            cpu[name] = cpu.get(name, 0.0) + seconds
    return Usage(cpu=cpu, memory=stats[top][2])


def in_time(command: Sequence[str], limit: float, env: Mapping[str, str] | None = None) -> tuple[str, str]:
    """What a command writes to its two streams.

    Args:
        command: run in the root of the repository.
        limit: seconds after which it is interrupted as by a person, so that Ray and its processes end too.
        env: environment variables, in place of those of this process.

    Raises:
        RuntimeError: it failed, or was interrupted.
    """
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=env, **streams) as process:
        try:
            out, said = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
            raise RuntimeError(f"ended after {limit / 60:.1f} minutes") from None
    if process.returncode:
        lines = said.strip().splitlines()
        raise RuntimeError(f"failed: {lines[-1] if lines else f'status {process.returncode}'}")
    return out, said


def descendants(top: int) -> list[int]:
    """Ids of the processes below a process."""
    parents = dict[int, int]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(text[text.rindex(")") + 2 :].split()[1])
    return [number for number in parents if number != top and _below(number, top, parents)]


def _below(number: int, top: int, parents: Mapping[int, int]) -> bool:
    while number > 1 and number != top:
        number = parents.get(number, 0)
    return number == top


def _short(title: str) -> str:
    """`ray::Filter` of "ray::Filter.offer", the file of a path."""
    return title.partition(" ")[0].split("/")[-1].split(".")[0]

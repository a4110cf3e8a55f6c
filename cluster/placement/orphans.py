"""Nothing that a driver started outlives it: a watcher process kills what is left, whatever ended the driver.

What a driver starts within `no_orphans`, Ray and all processes below it, has the variable DRIVER in its environment,
which says whose it is. The watcher waits at a pipe that closes with the driver, then kills whatever names it. Linux by
itself kills only the driver's children (PR_SET_PDEATHSIG, which Ray sets): two agents of a Ray node ask for a server
that is gone for another minute.

This file is also the watcher's program: it imports nothing but the standard library.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

DRIVER = "WINNOW_DRIVER"
# Without it, processes that write a title of their own, as Ray's and vLLM's do, write it over their environment.
KEPT_ENVIRONMENT = {"SPT_NOENV": "1"}
LOOK_SECONDS, SWEEP_SECONDS = 1.0, 25.0  # between two looks at the driver; that killing takes at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A process whose driver is gone."""

    pid: int
    title: str  # what `ps` shows, shortened
    driver: int  # process id that the driver had


@contextmanager
def no_orphans() -> Iterator[None]:
    """While it lasts, what this process starts names it as its driver. When it ends, or with this process, all of that
    is killed."""
    reading, writing = os.pipe()
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(reading), identity()],
        pass_fds=(reading,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C and the end of a terminal are not for it
        env={},
    )
    os.close(reading)
    ours = {DRIVER: identity()} | KEPT_ENVIRONMENT
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
        os.close(writing)
        with suppress(subprocess.TimeoutExpired):
            watcher.wait(timeout=SWEEP_SECONDS)


def orphans() -> list[Orphan]:
    """Processes on this machine that a driver started with `no_orphans` which is gone."""
    found = []
    for pid, driver in _driven():
        where, _, process = driver.rpartition("/")
        number, _, begun = process.partition("-")
        if where == _here() and _begun(int(number)) != begun:
            found.append(Orphan(pid=pid, title=_title(pid), driver=int(number)))
    return found


def named(found: list[Orphan]) -> str:
    """What a person is told of orphans, and how to end them."""
    drivers = sorted({str(each.driver) for each in found})
    listed = ", ".join(f"{each.pid} ({each.title})" for each in found)
    return (
        f"processes of an earlier run are still there, whose driver (process {', '.join(drivers)}) is gone: {listed}. "
        f"They may hold memory and GPUs. To end them: kill -9 {' '.join(str(each.pid) for each in found)}"
    )


def identity() -> str:
    """This process: the machine since it was started, the name space of process ids, the id and when it began."""
    return f"{_here()}/{os.getpid()}-{_begun(os.getpid())}"


def _here() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"


def _begun(pid: int) -> str:
    """When a process began, in ticks since the machine did; "" where it has ended, reaped or not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _driven() -> Iterator[tuple[int, str]]:
    """(process id, identity of its driver) of every process that names one and may be looked at."""
    beginning = f"{DRIVER}=".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):
            entries = (folder / "environ").read_bytes().split(b"\0")
            for entry in entries:
                if entry.startswith(beginning):
                    yield int(folder.name), entry.removeprefix(beginning).decode("utf-8", "replace")


def _title(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").split()
        return " ".join(Path(word).name for word in words[:3])[:40]
    return "ended meanwhile"


def watch(life: int, driver: str) -> None:
    """Waits until the other end of the pipe `life` is closed or the driver of this identity is gone, then kills
    whatever names it until nothing does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pid, _, begun = driver.rpartition("/")[2].partition("-")
    pipe = select.poll()
    pipe.register(life, select.POLLIN)
    while not pipe.poll(1000 * LOOK_SECONDS) and _begun(int(pid)) == begun:
        pass
    until = time.monotonic() + SWEEP_SECONDS
    while time.monotonic() < until:
        left = [each for each, its in _driven() if its == driver]
        if not left:
            return
        for each in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        time.sleep(0.1)


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.argv[2])

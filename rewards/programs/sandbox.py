"""One Python program in a bubblewrap sandbox: no network, no files but the interpreter's, hard limits, a deadline.

What holds inside:

- name spaces of its own (processes, network, IPC, host name, cgroup), no capabilities, an empty environment;
- a user without rights: root's programs run as a user that nobody else is, others in a user name space;
- files: the interpreter, /usr and /lib read-only, a size-limited folder in memory as its only writable place, and
  nothing else of the host; no /proc and no /sys either;
- the system calls of seccomp.py are refused, new processes and memory that no limit counts among them;
- hard limits on CPU seconds, memory, file sizes, descriptors, timers and threads;
- the number of files in its folder, which is looked at every 50 ms.

Without bubblewrap (`bare`) only the two before the last hold, and for root no limit on threads: the program reads and
writes what its user may.
"""

import marshal
import os
import platform
import select
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from signal import SIGKILL, SIGXCPU
from types import CodeType, TracebackType
from typing import IO, Any, Self

from rewards.programs.namespaces import namespace_remedy
from rewards.programs.seccomp import refusing_filter

_READY = b"ready\n"
_PATIENCE = 5.0  # seconds in which the kernel ends a killed program
_GLANCE = 0.05  # seconds between two looks at a running program's folder
_BOOT = """
import marshal, sys
with open(int(sys.argv[1]), "rb") as file:
    modules, job = marshal.load(file)
for name, code in modules:
    module = sys.modules[name] = type(sys)(name)
    exec(code, module.__dict__)
module.main(job)
"""
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}  # one seed: the same verdict always
_INSIDE = "/tmp"  # the program's own folder, as it sees it


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What one program may use."""

    cpu_seconds: int
    memory_mib: int = 1024  # of address space
    folder_mib: int = 16  # of its own folder, and of each file
    files: int = 2000  # in its own folder, each a KiB of the kernel's memory even where it is empty
    output_bytes: int = 2**20
    threads: int = 64
    descriptors: int = 64
    bare: bool = False  # no bubblewrap

    def limits(self) -> dict[str, int]:
        """The names of the kernel's limits without RLIMIT_, and their values."""
        names = {"CPU": self.cpu_seconds, "AS": self.memory_mib * 2**20, "FSIZE": self.folder_mib * 2**20}
        names |= {"NOFILE": self.descriptors, "NPROC": self.threads, "SIGPENDING": self.threads, "CORE": 0}
        return names | {"MEMLOCK": 0, "MSGQUEUE": 0}


class Program:
    """A running program; leaving its `with` block kills what still runs of it and waits until nothing does.

    Example: ``with Program(["inside", "inside_probe"], {}, Box(cpu_seconds=5)) as probe: ...``
    """

    def __init__(
        self, modules: Sequence[str], job: Mapping[str, Any], box: Box, stdin: bytes = b"", pipes: Sequence[int] = ()
    ) -> None:
        """Starts the program.

        Args:
            modules: its sources, names of files beside this one without .py, in the order of their imports; the
                program is `main(job)` of the last one.
            job: what `main` gets: plain values; what `confine` needs is added.
            box: what it may use.
            stdin: what it reads on its input.
            pipes: descriptors that it inherits.

        Raises:
            OSError: no process can be started.
        """
        self.said = bytearray()
        self.ended = False  # whether its output has ended, and with it the program
        self.flooded = False  # whether it was killed for printing more than it may
        self.excess = ""  # of what else it was killed for having too much; "" for nothing
        self._box = box
        self._used = 0.0  # CPU seconds, known once it has ended
        self._most = box.output_bytes + len(_READY)
        refusals = refusing_filter(platform.machine())
        with ExitStack() as kept, ExitStack() as passed:
            place = kept.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)) if box.bare else _INSIDE
            self._errors = kept.enter_context(_file(b""))
            boot = passed.enter_context(_file(b""))
            user = None if box.bare or not _can_change_user() else 10**9 + os.getpid() * 512 + boot.fileno() % 512
            job = {**job, "limits": box.limits(), "refusals": refusals if box.bare else None, "user": user}
            boot.write(marshal.dumps(([(f"rewards.programs.{name}", _compiled(name)) for name in modules], job)))
            boot.seek(0)
            seccomp = passed.enter_context(_file(refusals or b""))
            given = passed.enter_context(_file(stdin))
            again = passed.enter_context(_file(stdin)) if stdin and not box.bare else None
            command = [*_python(), "-c", _BOOT, str(boot.fileno())]
            if not box.bare:
                command = [*_bubblewrap(box, seccomp.fileno(), again.fileno() if again else None), *command]
            self._process = subprocess.Popen(
                command,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                pass_fds=[boot.fileno(), seccomp.fileno(), *([again.fileno()] if again else []), *pipes],
                env={**_ENVIRONMENT, "HOME": place, "TMPDIR": place},
                cwd=place if box.bare else "/",
                start_new_session=True,
            )
            self._kept = kept.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._kept:
            try:
                self.kill()
            finally:
                assert self._process.stdout is not None
                self._process.stdout.close()

    @property
    def started(self) -> bool:
        """Whether the program ran at all; where not, the sandbox or the interpreter failed before it."""
        return self.said.startswith(_READY)

    @property
    def output(self) -> bytes:
        """What the program printed."""
        return bytes(self.said[len(_READY) :])

    @property
    def errors(self) -> str:
        """What bubblewrap or the interpreter complained of before the program ran."""
        return os.pread(self._errors.fileno(), 2000, 0).decode(errors="replace").strip()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def read(self) -> None:
        """Takes what the program has written; kills it where that is more than it may."""
        part = os.read(self.fileno(), 2**16)
        self.ended = not part
        self.said += part
        if len(self.said) > self._most:
            self.flooded = True
            del self.said[self._most :]
            self.kill()

    def status(self) -> int:
        """How the program ended once `ended` holds: its exit status, or 128 and the number of the signal.

        SIGXCPU where its CPU seconds were used up, whatever signal the kernel took for that.
        """
        if not self._wait(_PATIENCE):  # it has closed its output and gone on
            self.kill()
            return 128 + SIGKILL
        found = self._process.returncode
        status = 128 - found if found < 0 else found
        return 128 + SIGXCPU if status == 128 + SIGKILL and self._used > 0.9 * self._box.cpu_seconds else status

    def _wait(self, seconds: float) -> bool:
        """Waits for the outer process's end; whether it came. Notes the CPU seconds of all that ran inside."""
        if self._process.returncode is None:
            handle = os.pidfd_open(self._process.pid)
            try:
                ends = select.poll()
                ends.register(handle, select.POLLIN)
                if not ends.poll(1000 * seconds):
                    return False
            finally:
                os.close(handle)
            _, status, used = os.wait4(self._process.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._used = used.ru_utime + used.ru_stime
        return True

    def kill(self) -> None:
        """Kills the program and waits until all of it is gone.

        Raises:
            RuntimeError: it does not end.
        """
        if not self._wait(0) and not self._box.bare:
            self._kill_inside()
        if not self._wait(0):
            os.killpg(self._process.pid, SIGKILL)  # bubblewrap's end is that of all that it started
            self._wait(_PATIENCE)
        deadline = time.monotonic() + _PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno(), selectors.EVENT_READ)
            while not self.ended:
                if not selector.select(deadline - time.monotonic()):
                    raise RuntimeError(f"a sandboxed program has not ended within {_PATIENCE:g} seconds of its kill")
                self.ended = not os.read(self.fileno(), 2**16)

    def look(self) -> None:
        """Kills the program where its folder holds more files than it may."""
        if self._box.bare or self.ended or not self.started:
            return
        inside = self._inside()
        try:
            folder = os.statvfs(f"/proc/{inside}/root{_INSIDE}")
        except OSError:  # it has ended, or /proc does not show it
            return
        if folder.f_files - folder.f_ffree > self._box.files:
            self.excess = f"more than {self._box.files} files in its folder"
            self.kill()

    def _inside(self) -> int:
        """The process inside bubblewrap's name space; 0 where there is none."""
        outer = self._process.pid
        try:
            with open(f"/proc/{outer}/task/{outer}/children", encoding="ascii") as file:
                return int((file.read().split() or ["0"])[0])
        except OSError:
            return 0

    def _kill_inside(self) -> None:
        """Kills what runs inside, so that bubblewrap waits for it and ends by itself: killed with it, it would leave
        its child to process 1, which in a container may never wait for it."""
        inside = self._inside()
        with suppress(OSError):  # it has ended meanwhile
            handle = os.pidfd_open(inside)
            try:
                if self._inside() == inside:  # bubblewrap has not waited for it, so the number is still its own
                    signal.pidfd_send_signal(handle, SIGKILL)
                    self._wait(_PATIENCE)
            finally:
                os.close(handle)


def follow(programs: Sequence[Program], until: Program, deadline: float) -> bool:
    """Reads what the programs write until one of them ends.

    Args:
        programs: those to read, `until` among them.
        until: the one whose end ends the wait.
        deadline: of time.monotonic(); in seconds.

    Returns:
        Whether it has ended by the deadline.
    """
    glance = time.monotonic() + _GLANCE
    with selectors.DefaultSelector() as selector:
        for program in programs:
            if not program.ended:
                selector.register(program, selectors.EVENT_READ, program)
        while not until.ended:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            ready = selector.select(min(left, _GLANCE))
            for key, _ in ready:
                key.data.read()
            if time.monotonic() >= glance:
                glance = time.monotonic() + _GLANCE
                for program in programs:
                    program.look()
            for key in list(selector.get_map().values()):
                if key.data.ended:
                    selector.unregister(key.fileobj)
    return True


@cache
def sandbox_problem() -> str:
    """Why no sandbox can be had on this machine and what to do; "" where it works. Tried once, by running one."""
    if refusing_filter(platform.machine()) is None:
        return f"there is no system call filter for {platform.machine()}, only for x86_64 and aarch64"
    if shutil.which("bwrap") is None:
        return "bubblewrap is missing; install it: apt install bubblewrap"
    try:
        with Program(["inside", "inside_probe"], {}, Box(cpu_seconds=5)) as probe:
            follow([probe], probe, time.monotonic() + 20)
            said, errors = probe.output.decode(errors="replace").strip(), probe.errors
            if probe.started and said == "confined":
                return ""
    except (OSError, RuntimeError) as failure:
        said, errors = "", str(failure)
    reason = (errors or said or "it says nothing").splitlines()[-1].rstrip(".")
    return f"bubblewrap does not work here: {reason}. {namespace_remedy()}"


@cache
def _compiled(module: str) -> CodeType:
    source = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    return compile(source, f"<{module}>", "exec", dont_inherit=True)


def _file(content: bytes) -> IO[bytes]:
    """A file in memory, at its start."""
    file = os.fdopen(os.memfd_create("winnow"), "w+b", buffering=0)
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]
    file.seek(0)
    return file


def _python() -> list[str]:
    """The interpreter itself, not that of an environment: no packages, no user's folder, UTF-8."""
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    return [python, "-P", "-s", "-S", "-B", "-X", "utf8"]


@cache
def _can_change_user() -> bool:
    """Whether programs can become a user of their own: this process is the machine's root with its rights.

    That is worth it for root alone, whom the kernel binds to no number of threads, not even in a user name space.
    """
    needed = 1 << 21 | 1 << 7 | 1 << 6  # CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    everybody = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    return os.geteuid() == 0 and everybody and int(status["CapEff"], 16) & needed == needed


def _bubblewrap(box: Box, refusals: int, stdin: int | None) -> list[str]:
    """The command in front of a program's own; `refusals` and `stdin` are descriptors of the filter and of what
    /dev/stdin holds."""
    words = [shutil.which("bwrap") or "bwrap", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words.append("--as-pid-1")  # bubblewrap's own process 1 would be left behind as a zombie where nobody waits for it
    if _can_change_user():  # the program takes another user itself, as its first act
        words += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        words += ["--unshare-all", "--unshare-user"]
    words += ["--perms", "0777", "--size", str(box.folder_mib * 2**20), "--tmpfs", _INSIDE]
    for place in ("/usr", "/lib", "/lib64", "/lib32"):
        if os.path.islink(place):
            words += ["--symlink", os.readlink(place), place]
        elif os.path.isdir(place):
            words += ["--ro-bind", place, place]
    words += [*_open_folders(Path("/etc/x")), "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for needed in (Path(sys.base_prefix).resolve(), Path(_python()[0])):
        if not needed.is_relative_to("/usr"):
            words += [*_open_folders(needed), "--ro-bind", str(needed), str(needed)]
    words += _open_folders(Path("/dev/x"))
    for device in ("/dev/null", "/dev/urandom"):  # not /dev/zero: shared mappings of it are memory that no limit counts
        words += ["--dev-bind", device, device]
    if stdin is not None:
        words += ["--perms", "0444", "--file", str(stdin), "/dev/stdin", "--perms", "0755", "--dir", "/dev/fd"]
        words += ["--symlink", "/dev/stdin", "/dev/fd/0"]
    return [*words, "--remount-ro", "/", "--chdir", _INSIDE, "--seccomp", str(refusals)]


def _open_folders(place: Path) -> list[str]:
    """Makes the folders above a place; bubblewrap's own would be closed to the user that root's programs become."""
    folders = list(reversed(place.parents))[1:]
    return [word for folder in folders for word in ("--perms", "0755", "--dir", str(folder))]

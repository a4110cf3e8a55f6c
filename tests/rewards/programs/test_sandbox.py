import ctypes
import os
import struct
import time
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from rewards.programs.inside import Gone, decode, encode
from rewards.programs.namespaces import namespace_remedy
from rewards.programs.sandbox import Box, Program, follow, sandbox_problem
from rewards.programs.seccomp import refusing_filter
from tests.tables import each

Point = namedtuple("Point", "x y")
confined = pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem() or "it works")


class Level(IntEnum):
    HIGH = 3


def ran(source: str, seconds: float = 60.0, **box: Any) -> Program:
    """The program after its end, or after its kill at the deadline."""
    with Program(("inside", "inside_program"), {"source": source}, Box(**{"cpu_seconds": 5, **box})) as program:
        follow((program,), program, time.monotonic() + seconds)
        return program


# ---- values ----


def no_reference(value: Any) -> list[Any]:
    raise LookupError(f"{value!r} has to be sent as a reference")


VALUES = [
    *(
        None,
        True,
        0,
        -1,
        2**63,
        -(2**63),
        10**3000,
        1.5,
        float("inf"),
        -0.0,
        1e-320,
        3 + 4j,
        "",
        "é\n",
        "\ud800",
        "a\0",
    ),
    *(b"\x00\xff", [], [1, [2, []]], (), (1, "x"), {1, "x"}, frozenset({(1, 2)}), {}, {1: "a", (2, 3): [4], None: {}}),
    *(range(3), range(9, 0, -2), Counter("aab"), OrderedDict(a=1, b=2), deque([1, 2]), [True, 1, 1.0]),
]


@each("value", VALUES)
def test_a_value_arrives_as_it_was_sent(value: Any) -> None:
    arrived = decode(encode(value, no_reference), no_reference)
    assert arrived == value
    assert type(arrived) is type(value)
    assert repr(arrived) == repr(value)


def test_nan_arrives_as_nan() -> None:
    arrived = decode(encode([float("nan")], no_reference), no_reference)
    assert arrived[0] != arrived[0]


@each(
    ("value", "plain"),
    [(Point(1, 2), (1, 2)), (Level.HIGH, 3), (defaultdict(int, a=1), {"a": 1}), (bytearray(b"x"), b"x")],
)
def test_a_subclass_with_the_equality_of_its_base_arrives_as_that(value: Any, plain: Any) -> None:
    arrived = decode(encode(value, no_reference), no_reference)
    assert (arrived, type(arrived)) == (plain, type(plain))


class Sly(int):
    __eq__ = lambda self, other: True  # noqa: E731
    __hash__ = int.__hash__


@each("value", [Sly(3), object(), iter([1]), len, int])
def test_what_is_no_plain_value_is_sent_as_a_reference(value: Any) -> None:
    assert encode([value], lambda held: ["object", id(held)]) == ["list", [["object", id(value)]]]


@each(
    "data",
    [
        {},
        [],
        ["list"],
        ["list", 3],
        ["set", [["list", []]]],
        ["dict", [[1]]],
        ["dict", [[["dict", []], 1]]],
        ["int", "xyz"],
        ["int", "f" * 300_000],
        ["bytes", "0"],
        ["range", 1, 2, 0],
        ["range", "a"],
        ["complex", "1", 2],
        ["os", "system"],
        ["__import__", ["os"]],
        [["list", []], []],
    ],
)
def test_what_is_no_value_is_refused(data: Any) -> None:
    def resolve(reference: list[Any]) -> Any:
        raise ValueError(reference)

    with pytest.raises(Gone, match="cannot be read"):
        decode(data, resolve)


# ---- the filter ----

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def answer(program: bytes, audit: int, number: int, *arguments: int) -> int:
    """What the kernel would answer, by the few instructions that the filter is made of."""
    steps = list(struct.iter_unpack("=HBBI", program))
    data = struct.pack("=IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    place, held = 0, 0
    while True:
        code, yes, no, operand = steps[place]
        place += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            (held,) = struct.unpack_from("=I", data, operand)
        elif code == 0x54:
            held &= operand
        else:
            place += yes if (held == operand if code == 0x15 else held > operand) else no


CLONE_THREAD = 0x003D0F00  # as the C library starts threads
CALLS = [
    *(("x86_64", number, 0, ALLOW) for number in (0, 1, 9, 53, 59, 60, 202, 231, 257, 318)),
    *(("x86_64", number, 0, EPERM) for number in (41, 57, 58, 62, 101, 165, 234, 272, 319, 321, 425)),
    *(("x86_64", number, 0, ENOSYS) for number in (435, 500, 0x40000000 + 57, 0xFFFFFFFF)),
    ("x86_64", 56, CLONE_THREAD, ALLOW),
    ("x86_64", 56, 17, EPERM),
    ("x86_64", 56, CLONE_THREAD | 0x10000000, EPERM),
    *(("aarch64", number, 0, ALLOW) for number in (56, 57, 62, 63, 93, 98, 199, 221, 222)),
    *(("aarch64", number, 0, EPERM) for number in (40, 97, 117, 129, 131, 198, 279, 280, 425)),
    ("aarch64", 220, CLONE_THREAD, ALLOW),
    ("aarch64", 220, 17, EPERM),
    ("aarch64", 435, 0, ENOSYS),
]


SHARED, PRIVATE, ANONYMOUS = 1, 2, 0x20
CALLS_WITH_ARGUMENTS = [
    *(("x86_64", 9, (0, 4096, 3, flags), EPERM) for flags in (SHARED | ANONYMOUS, 3 | ANONYMOUS, 0x40000 | 0x21)),
    *(("x86_64", 9, (0, 4096, 3, flags), ALLOW) for flags in (SHARED, PRIVATE, PRIVATE | ANONYMOUS, 0x20022)),
    ("aarch64", 222, (0, 4096, 3, SHARED | ANONYMOUS), EPERM),
    ("aarch64", 222, (0, 4096, 3, PRIVATE | ANONYMOUS), ALLOW),
    *(("x86_64", 72, (3, command), ALLOW) for command in (1, 3, 4, 1030, 1032)),
    ("x86_64", 72, (3, 1031), EPERM),
    ("aarch64", 25, (3, 1031), EPERM),
    ("x86_64", 56, (0x003D0B00,), EPERM),  # a thread with descriptors of its own
]


@each(("machine", "number", "arguments", "expected"), CALLS_WITH_ARGUMENTS)
def test_the_filter_looks_at_arguments(machine: str, number: int, arguments: tuple[int, ...], expected: int) -> None:
    program = refusing_filter(machine)
    assert program is not None
    assert answer(program, ARCH[machine], number, *arguments) == expected


@each(("machine", "number", "argument", "expected"), CALLS)
def test_the_filter_answers_a_call(machine: str, number: int, argument: int, expected: int) -> None:
    program = refusing_filter(machine)
    assert program is not None
    assert answer(program, ARCH[machine], number, argument) == expected


def test_the_filter_ends_calls_of_another_interface() -> None:
    program = refusing_filter("x86_64")
    assert program is not None
    assert answer(program, 0x40000003, 1) == KILL  # AUDIT_ARCH_I386


def test_there_is_no_filter_for_an_unknown_machine() -> None:
    assert refusing_filter("riscv64") is None


# ---- programs ----


@confined
def test_a_program_says_what_it_prints_and_how_it_ended() -> None:
    program = ran("print(6 * 7)\nraise SystemExit(3)")
    assert (program.started, program.ended, program.output, program.status()) == (True, True, b"42\n", 3)


@confined
def test_a_program_reads_its_input() -> None:
    source = "import sys\nprint(sum(map(int, sys.stdin)))"
    with Program(("inside", "inside_program"), {"source": source}, Box(cpu_seconds=5), b"1\n2\n39\n") as program:
        assert follow((program,), program, time.monotonic() + 60)
        assert program.output == b"42\n"


@confined
def test_a_program_writes_to_its_own_folder_only() -> None:
    source = """
import os, tempfile
open("a", "w").write("x")
open(os.path.join(os.environ["HOME"], "b"), "w").write("y")
tempfile.NamedTemporaryFile(delete=False).write(b"z")
print(sorted(os.listdir("."))[:2], len(os.listdir(".")))
for folder in ("/", "/usr", "/etc", "/dev", "/home", os.path.dirname(os.__file__)):
    try:
        open(os.path.join(folder, "x"), "w")
    except OSError:
        continue
    print("wrote to", folder)
"""
    assert ran(source).output == b"['a', 'b'] 3\n"


@confined
def test_a_program_sees_the_interpreter_and_little_else() -> None:
    source = "import os\nprint(*sorted(set(os.listdir('/')) - {'lib', 'lib32', 'lib64', 'usr'} ), os.listdir('/etc'))"
    seen = ran(source).output.decode()
    assert not {"proc", "sys", "run", "var", "mnt", "work"} & set(seen.split())
    assert seen.rstrip().endswith(("['ld.so.cache']", "[]"))


@confined
def test_threads_work_and_their_number_has_a_limit() -> None:
    source = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    print(sum(pool.map(abs, range(-5, 5))))
threading.stack_size(32768)
try:
    for count in range(1000):
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
except RuntimeError:
    print("some" if 10 < count < 64 else count)
"""
    assert ran(source).output == b"25\nsome\n"


@confined
def test_deep_recursion_in_a_thread_of_a_large_stack_works() -> None:
    source = """
import sys, threading
sys.setrecursionlimit(10**6)
threading.stack_size(2**27)
def depth(n): return n and 1 + depth(n - 1)
thread = threading.Thread(target=lambda: print(depth(10**5)))
thread.start()
"""
    assert ran(source).output == b"100000\n"


@confined
def test_too_much_output_ends_a_program() -> None:
    program = ran("while True: print('x' * 1000)", output_bytes=5000)
    assert (program.flooded, program.ended, len(program.output)) == (True, True, 5000)


@pytest.mark.slow
@confined
def test_too_much_cpu_time_ends_a_program_with_its_own_status() -> None:
    assert ran("while True: pass", cpu_seconds=1).status() == 128 + 24  # SIGXCPU


@confined
def test_too_much_memory_is_a_memory_error() -> None:
    source = "try:\n    held = bytearray(2**28)\nexcept MemoryError:\n    print('no')"
    assert ran(source, memory_mib=128).output == b"no\n"
    assert ran(source, memory_mib=1024).output == b""


@pytest.mark.slow
@confined
def test_the_deadline_ends_a_program_and_leaves_nothing_behind() -> None:
    files, before = len(os.listdir("/proc/self/fd")), children()
    program = ran("import time\nprint('here', flush=True)\ntime.sleep(1000)", seconds=5.0)
    assert (program.ended, program.output) == (True, b"here\n")
    assert len(os.listdir("/proc/self/fd")) == files
    assert children() <= before


@confined
@pytest.mark.parametrize("source", ["print(1)", "import time\nprint(1, flush=True)\ntime.sleep(100)"])
def test_nothing_is_left_to_a_process_that_waits_for_no_orphans(source: str) -> None:
    """This process takes the orphans meanwhile, as process 1 of a container does."""
    set_child_subreaper = 36
    libc = ctypes.CDLL(None)
    libc.prctl(set_child_subreaper, 1, 0, 0, 0)
    try:
        before = children()
        assert ran(source, seconds=2.0).output == b"1\n"
        assert children() <= before
    finally:
        libc.prctl(set_child_subreaper, 0, 0, 0, 0)


def children() -> set[str]:
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


HELD = {  # what would hold memory that no limit counts
    "a shared mapping": "import mmap\nmmap.mmap(-1, 2 ** 28)",
    "a mapping of zeros": "import mmap, os\nmmap.mmap(os.open('/dev/zero', os.O_RDWR), 2 ** 28)",
    "a file in memory": "import os\nos.memfd_create('x')",
    "a larger pipe": "import fcntl, os\nfcntl.fcntl(os.pipe()[1], 1031, 2 ** 20)",
    "a larger socket": "import socket\nsocket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 ** 24)",
    "a descriptor in flight": "import socket\nsocket.send_fds(socket.socketpair()[0], [b'x'], [0])",
    "an attribute of a file": "import os\nos.close(os.open('x', os.O_CREAT))\nos.setxattr('x', 'user.x', b'x')",
}


@confined
@each("name", HELD)
def test_memory_that_no_limit_counts_is_refused(name: str) -> None:
    source = "\n    ".join(["try:", *HELD[name].split("\n")]) + "\nexcept OSError: print('no')"
    assert ran(source).output == b"no\n"


@confined
@each("call", ["os.close(os.open(str(i), os.O_CREAT))", "os.mkdir(str(i))", "os.symlink('x', str(i))"])
def test_too_many_files_end_a_program(call: str) -> None:
    program = ran(f"import itertools, os\nfor i in itertools.count(): {call}")
    assert (program.excess, program.status()) == ("more than 2000 files in its folder", 128 + 9)


@confined
def test_mapping_the_input_and_private_memory_still_works() -> None:
    source = "import mmap\nm = mmap.mmap(0, 0, access=mmap.ACCESS_READ)\nprint(len(m[:]), len(bytearray(2 ** 26)))"
    with Program(("inside", "inside_program"), {"source": source}, Box(cpu_seconds=5), b"12345") as program:
        assert follow((program,), program, time.monotonic() + 60)
        assert program.output == b"5 67108864\n"


@confined
def test_an_error_leaves_nothing_behind_either() -> None:
    files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(KeyError), Program(("inside", "inside_program"), {"source": "1"}, Box(cpu_seconds=5)):
        raise KeyError
    assert len(os.listdir("/proc/self/fd")) == files


@confined
def test_programs_run_at_the_same_time_from_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda number: ran(f"print({number} ** 2)").output, range(8)))
    assert outputs == [b"%d\n" % number**2 for number in range(8)]


@confined
def test_text_has_one_order_in_sets_every_time() -> None:
    assert len({ran("print({'a', 'b', 'c', 'd', 'e', 'f', 'g'})").output for _ in range(3)}) == 1


@confined
def test_a_program_that_could_not_be_started_says_why() -> None:
    with Program(("inside",), {}, Box(cpu_seconds=5)) as program:
        follow((program,), program, time.monotonic() + 60)
        assert not program.started
        assert "has no attribute 'main'" in program.errors


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine without bubblewrap."""
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox_problem.cache_clear()
    yield
    sandbox_problem.cache_clear()


@pytest.mark.usefixtures("nowhere")
def test_a_machine_without_bubblewrap_is_told_what_to_do() -> None:
    assert sandbox_problem() == "bubblewrap is missing; install it: apt install bubblewrap"


@pytest.mark.usefixtures("nowhere")
def test_a_bubblewrap_that_fails_is_quoted(tmp_path: Path) -> None:
    failing = tmp_path / "bwrap"
    failing.write_text("#!/bin/sh\necho 'bwrap: Creating new namespace failed' >&2\nexit 1\n")
    failing.chmod(0o755)
    problem = sandbox_problem()
    assert problem == f"bubblewrap does not work here: bwrap: Creating new namespace failed. {namespace_remedy()}"


def test_without_bubblewrap_limits_and_refusals_hold() -> None:
    source = """
import os, socket
for attempt in (os.fork, socket.socket, lambda: os.kill(os.getppid(), 0), lambda: os.truncate(
        os.open("x", os.O_CREAT | os.O_WRONLY), 2**40)):
    try:
        attempt()
    except OSError:
        print("no")
print(sorted(os.environ), os.path.samefile(os.environ["HOME"], "."))
"""
    program = ran(source, bare=True)
    assert program.output.decode().splitlines()[:4] == ["no"] * 4
    assert "'HOME', 'LANG', 'PATH'" in program.output.decode()
    assert program.output.decode().endswith("True\n")

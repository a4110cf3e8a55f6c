"""Tools in processes of their own, whatever they do there."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.tools.bench import Bench
from actors.tools.functions import Function, away
from actors.tools.tool import Limits, Result
from actors.tools.worker import Work
from rewards.grading.below import below
from rewards.person_file import load_file

pytestmark = pytest.mark.slow  # each test starts processes

HOSTILE = """
import os, subprocess, sys, time

def fine(x: int) -> int:
    "Doubles."
    return 2 * x

def hangs():
    while True: pass

def waits():
    time.sleep(3600)

def dies():
    os._exit(7)

def exits():
    sys.exit(7)

def crashes():
    import ctypes; ctypes.string_at(0)

def eats():
    return len(bytearray(1 << 40))

def eats_slowly():
    held = []
    while True: held.append(bytearray(1 << 24))

def recurses():
    return recurses()

def raises():
    raise ValueError("no " + "x" * 10_000_000)

def floods():
    print("y" * 10_000_000)
    return "x" * 10_000_000

def gives_nothing():
    pass

def gives_an_object():
    return object()

def gives_itself():
    found = []
    found.append(found)
    return found

def surrogate():
    return "a\\udcffb"

def leaves():
    subprocess.Popen(["sleep", "3600"], start_new_session=True)
    subprocess.Popen(["sh", "-c", "sleep 3600 & exit"], start_new_session=True).wait()
    return os.getpid()
"""
LIMITS = Limits(seconds=60.0, memory_mib=1024, max_characters=100)
SHORT = replace(LIMITS, seconds=1.5)  # of what would take for ever


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench(calls=2)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tools") / "mine.py"
    file.write_text(HOSTILE)
    return file


def work(file: Path, name: str, **arguments: Any) -> Work:
    limits = SHORT if name in ("hangs", "waits") else LIMITS
    return Work(kind=Function(str(file), "", name), name=name, arguments=arguments, limits=limits)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hangs", "Error: hangs took longer than 1.5 s"),
        ("waits", "Error: waits took longer than 1.5 s"),
        ("dies", "Error: dies ended its own process"),
        ("exits", "Error: exits ended its own process"),
        ("crashes", "Error: crashes ended its own process"),
        ("eats", "Error: eats needed more than 1024 MiB of memory"),
        ("eats_slowly", "Error: eats_slowly needed more than 1024 MiB of memory"),
        ("recurses", "Error: recurses failed: RecursionError: maximum recursion depth exceeded"),
        ("raises", "Error: raises failed: ValueError: no xxx"),
        ("gives_nothing", "Error: the tool returned nothing"),
        ("gives_an_object", "Error: the tool returned no text, but an object of the type object"),
        ("gives_itself", "Error: the tool returned no text, but an object of the type list"),
    ],
)
def test_a_tool_that_fails_gives_a_short_text(name: str, said: str, bench: Bench, file: Path) -> None:
    found = bench.use(work(file, name))
    assert found.text.startswith(said)
    assert found.failed
    assert not found.broken
    assert len(found.text) < 200
    assert bench.use(work(file, "fine", x=4)) == Result(text="8")  # and nothing else is lost


def test_what_a_tool_raised_is_told_to_its_person_with_its_line(bench: Bench, file: Path) -> None:
    found = bench.use(work(file, "raises"))
    assert 'mine.py", line 34, in raises' in found.why
    assert len(found.why) <= 10_000


def test_megabytes_are_cut(bench: Bench, file: Path) -> None:
    assert bench.use(work(file, "floods")).text == "x" * 100 + "\n[the first 100 of 10000000 characters]"
    assert bench.use(work(file, "surrogate")).text == "a\udcffb"


def test_a_tool_that_cannot_be_used_is_no_failure_of_the_policy(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("import nowhere_to_be_found")
    found = bench.use(work(tmp_path / "odd.py", "f"))
    assert found.broken
    assert "nowhere_to_be_found" in found.why
    assert "there is no file" in bench.ready(Function(str(tmp_path / "gone.py"), "", "f"), 512).problem


def test_a_slow_tool_holds_up_no_other_and_processes_are_kept(file: Path) -> None:
    bench, found = Bench(calls=2), dict[str, Result]()
    slow = threading.Thread(target=lambda: found.update(slow=bench.use(work(file, "waits"))))
    try:
        bench.use(work(file, "fine", x=1))
        slow.start()
        for number in range(5):
            assert bench.use(work(file, "fine", x=number)).text == str(2 * number)
        assert not found
        slow.join()
        assert found["slow"].text == "Error: waits took longer than 1.5 s"
        assert len(bench._free) == 1
    finally:
        bench.close()


def test_there_are_no_more_processes_than_calls(file: Path) -> None:
    bench = Bench(calls=2)
    try:
        for name in ("fine", "gives_nothing", "surrogate", "raises"):
            bench.use(work(file, name, **({"x": 1} if name == "fine" else {})))
        assert [started.kind.name for started in bench._free] == ["surrogate", "raises"]  # type: ignore[attr-defined]
    finally:
        bench.close()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_what_a_tool_started_ends_with_the_bench_even_where_its_parent_has_ended(file: Path) -> None:
    bench = Bench()
    worker = int(bench.use(work(file, "leaves")).text)
    started = list(below(worker))
    assert len(started) == 2
    assert all(map(lives, started))
    bench.close()
    until = time.monotonic() + 30
    while any(map(lives, [worker, *started])):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_call_that_runs_when_the_bench_is_closed_fails(file: Path) -> None:
    bench, found = Bench(), list[Result]()
    running = threading.Thread(target=lambda: found.append(bench.use(work(file, "waits"))))
    running.start()
    until = time.monotonic() + 30
    while not any(started for started in bench._busy):
        assert time.monotonic() < until
        time.sleep(0.01)
    bench.close()
    running.join()
    assert found[0].failed
    assert not bench._free


def test_functions_that_belong_to_an_episode_stay_in_it(file: Path) -> None:
    own = load_file(str(file))

    def inside() -> str:
        return ""

    async def waits() -> str:
        return ""

    assert away(own.fine, str(file)) == Function(str(file), "", "fine")
    assert away(load_file, str(file)) == Function(str(file), "rewards.person_file", "load_file")
    with contextlib.chdir(file.parent):  # a relative name is the same file, run once
        assert away(load_file(file.name).fine, str(file)) == Function(str(file), "", "fine")
    for function in (inside, waits, file.exists, lambda: "", Path):
        assert away(function, str(file)) is None

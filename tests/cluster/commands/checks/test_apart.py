"""Checks in processes of their own: what is said of those that answer, fail, die, hang or are left no time."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.commands.checks import apart, table
from cluster.commands.checks.apart import Looked, look, processes_below
from cluster.commands.checks.gpus import Gpus
from cluster.commands.checks.types import Check, Finding, State, Subject, Told, ok

PATIENCE = 12  # seconds with a check that hangs, which has to load first
SUBJECT = Subject(runs=Path("runs"), gpus=Gpus(found=()), visible=0)


def examine(subject: Subject, told: Told) -> Finding:
    """Stands in the table; the process runs what SAYS holds."""
    return ok("")


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Check]:
    """Makes a check of Python code, which a plugin of the interpreter puts into the table of the check's process."""

    def made(name: str, code: str) -> Check:
        body = "".join(f"    {line}\n" for line in code.splitlines())
        (tmp_path / "sitecustomize.py").write_text(
            (tmp_path / "sitecustomize.py").read_text() if (tmp_path / "sitecustomize.py").exists() else _HOOK
        )
        (tmp_path / f"body_{name}.py").write_text(
            f"from cluster.commands.checks.types import *\n\n\ndef examine(subject, told):\n{body}"
        )
        return Check(name=name, seconds=600, examine=examine)

    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return made


_HOOK = """
import importlib, sys
if "cluster.commands.checks.apart" in " ".join(sys.orig_argv):
    from cluster.commands.checks import table
    from cluster.commands.checks.types import Check
    name = sys.orig_argv[-2]
    table.CHECKS[name] = Check(name=name, seconds=60, examine=importlib.import_module(f"body_{name}").examine)
"""


def only(check: Check, seconds: float = 600.0) -> Finding:
    (found,) = look([[check]], SUBJECT, seconds)
    assert found.check == check.name
    return found.finding


@pytest.mark.slow
def test_a_check_that_answers_is_believed_and_what_it_looks_at_is_what_it_was_given(
    says: Callable[[str, str], Check],
) -> None:
    check = says("good", "told('first')\nprint('noise')\nreturn ok(f'{subject.runs} on {subject.device}')")
    assert only(check) == ok("runs on cpu")


@pytest.mark.slow
def test_a_check_that_raises_is_wrong_with_the_last_lines_that_it_printed(says: Callable[[str, str], Check]) -> None:
    found = only(says("raises", "raise RuntimeError('no such device')"))
    assert found.state is State.WRONG
    assert found.said == "failed with status 1"
    assert found.remedy.endswith("RuntimeError: no such device")


@pytest.mark.slow
def test_a_check_that_is_killed_by_a_signal_is_wrong(says: Callable[[str, str], Check]) -> None:
    found = only(says("dies", "import os\nos.kill(os.getpid(), 11)"))
    assert (found.state, found.said) == (State.WRONG, "failed with status -11")


HANGS = "import os, time\ntold('the GPU is asked')\nif not os.fork():\n    os.setsid()\ntime.sleep(600)"


@pytest.mark.slow
def test_a_check_that_hangs_is_killed_with_all_that_it_started_and_says_where(
    says: Callable[[str, str], Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    kill = apart.kill_with_children
    monkeypatch.setattr(
        apart, "kill_with_children", lambda process: (seen.extend(processes_below(process.pid)), kill(process))
    )
    check = says("hangs", HANGS)
    found = only(Check(name="hangs", seconds=PATIENCE, examine=check.examine))
    assert found.state is State.WRONG
    assert found.said == f"has not ended within {PATIENCE} s while the GPU is asked, and was killed"
    assert len(seen) == 1
    assert all(map(apart._is_gone, seen))


@pytest.mark.slow
def test_a_check_that_the_others_left_no_time_for_is_no_verdict(says: Callable[[str, str], Check]) -> None:
    found = only(says("hangs", HANGS), seconds=PATIENCE)
    assert found.state is State.NOTE
    assert found.said.startswith(f"was killed while the GPU is asked after {PATIENCE} s, as the time of all checks is")


@pytest.mark.slow
def test_lanes_run_at_the_same_time_and_whoever_stops_listening_leaves_nothing_running(
    says: Callable[[str, str], Check],
) -> None:
    before = processes_below(os.getpid())
    lanes = [[says("hangs", HANGS)], [says("good", "return ok('')"), says("better", "return ok('')")]]
    found = look(lanes, SUBJECT, 600.0)
    assert [next(found).check, next(found).check] == ["good", "better"]
    found.close()
    assert [pid for pid in processes_below(os.getpid()) if pid not in before and not apart._is_gone(pid)] == []


def test_every_check_of_the_table_has_a_name_of_its_own_and_time_for_all_of_them_is_short_of_two_minutes() -> None:
    assert len(table.CHECKS) == len(table.LIGHT) + len(table.HEAVY) + 1
    assert table.TOTAL_SECONDS < 120
    assert isinstance(Looked(check="x", finding=ok(""), seconds=1.0).finding, Finding)

"""Fault injection: its table and its means, and its short form on a real run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import inside
from tests.faults.campaign import HUNG, LOST, RESUMED, WENT_ON, Outcome
from tests.faults.driver import ROOT, until
from tests.faults.faults import FAULTS
from tests.faults.processes import Family
from tests.faults.report import HEADINGS, table, write_report
from tests.faults.run import BEHIND, NODES, ON_POLICY, SHORT
from tests.runs import metrics_of


def test_the_full_form_has_a_hundred_faults_and_every_kind() -> None:
    plans = (ON_POLICY, BEHIND, NODES)
    assert sum(sum(plan.values()) for plan in plans) >= 100
    assert set().union(*plans) == set(FAULTS)
    assert set(SHORT) <= set(FAULTS)
    assert sum(ON_POLICY[name] for name in ON_POLICY if name.startswith("save cut")) == 20


def test_a_transfer_breaks_in_its_middle_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inside.FOLDER, str(tmp_path))
    assert list(inside.half_way(iter("abc"))) == ["a", "b", "c"]
    (tmp_path / inside.SYNC_ERROR).touch()
    came = list[str]()
    with pytest.raises(RuntimeError, match="injected"):
        came += inside.half_way(iter("abc"))
    assert list(inside.half_way(iter("abc"))) == ["a", "b", "c"]


def test_processes_are_found_again_when_their_parent_has_ended() -> None:
    script = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read()"
    top = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert top.stdin is not None
    assert top.stdout is not None
    below = int(top.stdout.readline())
    family = Family()
    family.add(top.pid)
    assert {seen.process.pid for seen in family.living()} == {top.pid, below}
    top.stdin.close()
    top.stdout.close()
    top.wait()
    assert [seen.process.pid for seen in family.living()] == [below]
    os.kill(below, signal.SIGSTOP)
    assert until(lambda: [seen.state for seen in family.living()] == ["T"], 10)
    family.kill()
    assert until(lambda: not family.living(), 10)


def test_the_table_counts_each_fault_and_all(tmp_path: Path) -> None:
    found = [
        Outcome(fault="rank killed", step=3, how=WENT_ON, seconds=9.0, whole=4.0),
        Outcome(fault="rank killed", step=8, how=HUNG, seconds=100.0, orphans=2, said="waiting"),
        Outcome(fault="driver killed", step=9, how=RESUMED, seconds=40.0, lost=1, twice=3, faults=("wrong",)),
        Outcome(fault="driver killed", step=9, how=LOST, seconds=7.0),
    ]
    rows = table(found)
    assert [len(row) for row in rows] == [len(HEADINGS)] * 3
    assert rows[0] == ["rank killed", "2", "1", "0", "1", "0", "54, 100", "4, 4", "2", "0", "0", "0"]
    assert rows[1] == ["driver killed", "2", "0", "1", "0", "1", "40, 40", "-", "0", "1", "3", "1"]
    assert rows[2][:6] == ["all", "4", "1", "1", "1", "1"]
    shown = write_report(tmp_path, {"short": found}, 60.0)
    assert shown.splitlines()[1].split() == [*rows[0][0].split(), *rows[0][1:6], "54,", "100", "4,", "4", *rows[0][8:]]
    assert [each["how"] for each in json.loads((tmp_path / "faults.json").read_text())["short"]] == [
        WENT_ON,
        HUNG,
        RESUMED,
        LOST,
    ]
    page = (tmp_path / "faults.md").read_text()
    assert "* short, rank killed, after step 8: hung. orphans 2; waiting" in page
    assert "after step 3" not in page


# The short form; that a run outlives its driver is in tests/cluster/running/test_resume.py.
HERE = sorted(SHORT.keys() - {"driver killed"})


@pytest.mark.ray
def test_a_run_lives_through_one_fault_of_many_kinds_and_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "faults"
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults.run", "--short", "--out", str(out), "--only", *HERE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    outcomes = json.loads((out / "faults.json").read_text())["short"]
    assert [each["how"] for each in outcomes if each["fault"] in HERE] == [WENT_ON] * len(HERE)
    assert outcomes[-1]["fault"] == "SIGTERM"
    (run,) = (out / "kept/short").iterdir()
    said = (run / "winnow.log").read_text()
    assert "the filter is replaced by a new one" in said
    restarts = [line["restarts"] for line in metrics_of(run)]
    assert max(restarts) == said.count("A new learner starts in") > 0
    assert restarts[0] == restarts[-1] == 0  # each driver counts its own

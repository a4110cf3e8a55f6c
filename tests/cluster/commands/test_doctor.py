"""What `winnow doctor` prints, in a terminal and for machines, and its exit status."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import cli
from cluster.commands import doctor
from cluster.commands.checks.apart import Looked
from cluster.commands.checks.gpus import Gpu, Gpus
from cluster.commands.checks.types import Finding, State, note, ok, skipped, wrong

GOOD = Looked(check="memory", finding=ok("19.5 GiB free"), seconds=0.2)
BAD = Looked(check="disk", finding=wrong("cannot write to /usr: no", "set run.folder to another"), seconds=0.1)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Looked]:
    """What the checks will have found; nothing is looked at."""
    what: list[Looked] = []

    def look(*_: object) -> Iterator[Looked]:
        yield from what

    monkeypatch.setattr(doctor, "look", look)
    monkeypatch.setattr(doctor, "this_machines_gpus", lambda: Gpus(found=()))
    return what


def test_each_check_has_a_line_and_a_problem_another_one_with_what_to_do(
    found: list[Looked], capsys: pytest.CaptureFixture[str]
) -> None:
    found += [GOOD, BAD]
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "ok       memory         19.5 GiB free",
        "WRONG    disk           cannot write to /usr: no",
        "                        -> set run.folder to another",
        "no run works here before what is marked WRONG (1) is mended",
    ]


def test_notes_and_skipped_checks_stop_nothing(found: list[Looked], capsys: pytest.CaptureFixture[str]) -> None:
    for finding in (note("no bubblewrap", "apt install bubblewrap"), skipped("no GPU")):
        found.append(Looked(check="x", finding=finding, seconds=0.0))
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "runs work here, on the CPU; 1 note above says what does not"


def test_a_line_for_machines_is_json(found: list[Looked], capsys: pytest.CaptureFixture[str]) -> None:
    found += [GOOD, BAD]
    assert cli.main(["doctor", "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["check"] for line in lines] == ["memory", "disk"]
    assert lines[1]["finding"]["state"] == "WRONG"


def test_a_terminal_gets_lines_that_fit_and_hang_together() -> None:
    finding = Finding(state=State.WRONG, said="one two three four " * 8, remedy="five six seven " * 6)
    lines = doctor.shown(Looked(check="NCCL", finding=finding, seconds=1.0), 80).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("WRONG    NCCL           one two")
    assert all(line.startswith(" " * 24) for line in lines[1:])


def test_what_is_printed_as_it_is_comes_last(found: list[Looked], capsys: pytest.CaptureFixture[str]) -> None:
    found += [Looked(check="run", finding=ok("my.toml can start here", more="a plan\n  of it"), seconds=1.0), GOOD]
    cli.main(["doctor"])
    assert capsys.readouterr().out.splitlines()[-4:] == ["runs work here, on the CPU", "", "a plan", "  of it"]


def test_what_a_check_found_cannot_steer_the_terminal(found: list[Looked], capsys: pytest.CaptureFixture[str]) -> None:
    found.append(Looked(check="run", finding=wrong("\x1b[2J gone"), seconds=0.0))
    cli.main(["doctor"])
    assert "\\x1b[2J gone" in capsys.readouterr().out


def test_a_run_file_says_where_its_runs_go_and_one_that_cannot_be_read_is_a_mistake(
    tmp_path: Path, found: list[Looked]
) -> None:
    file = tmp_path / "my.toml"
    file.write_text('[world]\nname = "addition"\n')
    assert doctor.subject_of(file, ["run.folder=/elsewhere"]).runs == Path("/elsewhere")
    assert cli.main(["doctor", str(file), "run.fodler=x"]) == 2
    copies = doctor.subject_of(file, ["run.folder=s3://mine/runs"]).runs
    assert (copies.is_absolute(), "s3:" in copies.parts) == (True, False)


@pytest.mark.parametrize(("shown", "visible"), [(None, 2), ("", 0), ("-1", 0), ("1", 1), ("0,1", 2), ("0,1,2,3", 2)])
def test_gpus_that_the_environment_hides_are_not_visible(
    shown: str | None, visible: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = tuple(Gpu(index=n, name="a GPU", driver="580", memory=0, used=0, capability="") for n in range(2))
    monkeypatch.setattr(doctor, "this_machines_gpus", lambda: Gpus(found=two))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert doctor.subject_of(None, []).visible == visible

from pathlib import Path

import pytest

from cluster.cli import main
from cluster.commands.look import cut, group_text
from cluster.report.trajectories import Trajectories
from cluster.showing import ENDS
from rewards import Outcome
from tests.run_folders import graded_group, run_folder

HOSTILE = "first line\nsecond \x1b[31mred\u202e"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    groups = {
        1: [graded_group(1, "a", ["wrong", "wrong"], why="answered 3, expected 2")],
        2: [graded_group(2, "a", ["correct", "error"], response=HOSTILE)],
    }
    return run_folder(tmp_path_factory.mktemp("runs") / "made", 2, groups=groups)


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def looked(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["look", *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["look", *words]) == 2
    return capsys.readouterr().err


def test_the_worst_groups_come_with_prompt_verdicts_and_why(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = looked(capsys, str(made), "--worst", "1")
    assert text.splitlines()[:4] == [
        "group 1, step 1, prompt a, trained on, 0 of 2 responses correct, mean score -1",
        "  prompt     1+1=",
        "  reference  2",
        "  wrong         -1  2  (answered 3, expected 2)",
    ]


def test_groups_are_chosen_by_outcome_step_and_change(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert looked(capsys, str(made), "--outcome", "error").startswith("group 2,")
    assert looked(capsys, str(made), "--step", "1", "--best").startswith("group 1,")
    flipped = looked(capsys, str(made), "--flipped")
    assert flipped.startswith("prompt a: 0 of 2 correct in step 1, 1 of 2 in step 2\ngroup 1,")


def test_every_line_fits_the_terminal_and_steers_nothing(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = looked(capsys, str(made), "--newest", "2").splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert any(r"first line⏎second \x1b[31mred\u202e" in line for line in lines)
    whole = looked(capsys, str(made), "--newest", "2", "--whole")
    assert "first line\nsecond \\x1b[31mred" in whole
    assert "\x1b" not in whole


def test_a_line_is_cut_by_what_it_takes_on_the_screen(made: Path) -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
    assert cut("数数数数", 6) in ("数数…", "数数 …")
    with Trajectories(made) as trajectories:
        (group,) = trajectories.groups([1])
    assert all(len(line) <= 40 for line in group_text(group, 40).splitlines())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--outcome", "late"], "no response ended as 'late'; outcomes here are correct, error, wrong"),
        (["--step", "9"], "there is no graded group with step 9"),
        (["--prompt", "x", "--step", "1"], "there is no graded group with step 1 and prompt x"),
        (["--worst", "0"], "--worst takes how many groups to show, at least 1, got 0"),
        (["--flipped", "--step", "1"], "leave --step, --outcome and --prompt out"),
    ],
)
def test_what_cannot_be_shown_is_said(
    made: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, str(made), *words)


def test_a_folder_without_groups_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not the folder of a run: it holds neither config.toml nor" in refused(capsys, str(tmp_path))
    (tmp_path / "config.toml").touch()
    assert "holds no graded group yet" in refused(capsys, str(tmp_path))
    assert "there is no folder" in refused(capsys, str(tmp_path / "none"))


def test_the_help_names_every_way_in_which_a_response_may_end() -> None:
    assert set(ENDS.replace(" or ", ", ").split(", ")) == set(Outcome)

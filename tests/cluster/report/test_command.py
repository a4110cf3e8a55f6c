"""`winnow report` as a person types it."""

from pathlib import Path

import pytest

from cluster.cli import main
from cluster.report import page as pages
from tests.cluster.comparing.test_comparison import two_methods
from tests.run_folders import run_folder


@pytest.fixture(autouse=True)
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "library", lambda: "window.winnowEmbed = null;")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run, in the current one."""
    monkeypatch.chdir(tmp_path)
    return run_folder(tmp_path / "runs/made")


def test_the_page_of_a_run_lies_in_its_folder(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "runs/made"]) == 0
    assert capsys.readouterr().out == "done: runs/made/report.html\n"
    assert "<h1>Run made</h1>" in (made / "report.html").read_text()


def test_the_page_of_several_lies_here_or_where_it_is_said(made: Path) -> None:
    run_folder(made.parent / "other", 3)
    assert main(["report", "runs/made", "runs/other", "runs/made"]) == 0
    assert "<h1>2 runs: made and other</h1>" in Path("report.html").read_text()
    assert main(["report", "runs/other", "--out", "page.html"]) == 0
    assert Path("page.html").is_file()
    assert not (made.parent / "other/report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs"], "runs is not the folder of a run"),
        (["runs/none"], "there is no folder runs/none"),
        (["runs/made", "--out", "runs"], "--out runs is a folder: name the file of the page, such as runs/report.html"),
        (["runs/made", "compared"], "compared is the folder of a comparison, whose page lies in it"),
        (["compared", "--out", "x.html"], "compared is the folder of a comparison, whose page lies in it"),
    ],
)
@pytest.mark.usefixtures("made")
def test_what_has_no_page_is_said(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("compared").mkdir()
    two_methods(Path("compared"))
    assert main(["report", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("made")
def test_a_page_that_cannot_be_written_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "runs/made", "--out", "no/where/page.html"]) == 1
    assert "No such file or directory" in capsys.readouterr().err

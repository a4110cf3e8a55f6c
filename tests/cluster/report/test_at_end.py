import logging
from pathlib import Path

import pytest

from actors.errors import BrokenPart, Stopped
from cluster.config.errors import ConfigError
from cluster.report import at_end
from cluster.report.at_end import report_at_end
from tests.run_folders import run_folder


@pytest.mark.slow
def test_a_run_that_ends_leaves_its_report_with_why_it_ended(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "made", 3, planned=60)
    with pytest.raises(BrokenPart), report_at_end(folder):
        raise BrokenPart("rank 0 died\nand more")
    text = (folder / "report.html").read_text()
    assert "This run ended early, after 3 steps of 60 in 27 s: rank 0 died." in text


@pytest.mark.slow
def test_a_report_that_fails_is_a_line_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), report_at_end(tmp_path):
        pass
    assert "the run has no report; what writes it: winnow report" in caplog.text
    assert "holds neither config.toml nor metrics.jsonl" in caplog.text


def test_whoever_wants_to_end_now_waits_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(at_end, "_write", lambda folder, why: written.append(why))
    for end in (KeyboardInterrupt(), ConfigError("no")):
        with pytest.raises(type(end)), report_at_end(tmp_path):
            raise end
    assert written == []
    with pytest.raises(Stopped), report_at_end(tmp_path):
        raise Stopped("the checkpoint is complete", 2)
    with report_at_end(tmp_path):
        pass
    assert written == ["it was asked to stop", ""]


def test_one_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(at_end, "SECONDS", 0.0)
    with caplog.at_level(logging.WARNING), report_at_end(tmp_path):
        pass
    assert "timed out" in caplog.text

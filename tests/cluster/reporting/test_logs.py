import logging
from pathlib import Path

import pytest

from cluster.cli import main, version
from cluster.reporting.logs import LOG_FILE, LOGGER, SHOWN, log_file, log_to_terminal


def test_the_file_of_a_run_holds_what_was_said_warnings_of_others_and_the_traceback(tmp_path: Path) -> None:
    def a_run_that_fails() -> None:
        with log_file(tmp_path):
            SHOWN.info("step 1 of 3")
            LOGGER.debug("version 1 is live")
            logging.getLogger("others").warning("half of it")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        a_run_that_fails()
    text = (tmp_path / LOG_FILE).read_text()
    for part in ("INFO winnow.shown: step 1 of 3", "DEBUG winnow: version 1", "WARNING others: half of it"):
        assert part in text
    assert "ZeroDivisionError" in text
    LOGGER.info("after it")
    assert (tmp_path / LOG_FILE).read_text() == text


@pytest.mark.parametrize(("verbose", "seen"), [(False, ["a warning"]), (True, ["a detail", "a warning"])])
def test_the_terminal_shows_warnings_and_with_verbose_the_details(
    capfd: pytest.CaptureFixture[str], verbose: bool, seen: list[str]
) -> None:
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    root.handlers.clear()
    try:
        log_to_terminal(verbose)
        LOGGER.debug("a detail")
        SHOWN.info("a line that the terminal shows anyway")
        LOGGER.warning("a warning")
    finally:
        root.handlers[:] = before
    assert [line.split(": ")[1] for line in capfd.readouterr().err.splitlines()] == seen


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"winnow {version()}\n"
    assert version()[0].isdigit()

"""The log: warnings on the terminal (everything with --verbose), and a file in each run's folder."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.reporting.terminal import plain

LOG_FILE = "winnow.log"
LOGGER = logging.getLogger("winnow")  # what winnow does; other packages have loggers of their own
SHOWN = logging.getLogger("winnow.shown")  # what the terminal shows anyway: for the file only


class PlainFormatter(logging.Formatter):
    """Lines that steer no terminal, not even that of a person who reads the file with `cat`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback where there is one."""
        return plain(super().format(record))


def log_to_terminal(verbose: bool) -> None:
    """Warnings of all packages on stderr; with `verbose` also what winnow says of its own work."""
    logging.basicConfig(level=logging.WARNING)
    terminal = logging.getLogger().handlers[0]
    terminal.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    terminal.setLevel(logging.DEBUG if verbose else logging.WARNING)
    terminal.addFilter(lambda record: record.name != SHOWN.name)
    LOGGER.setLevel(logging.DEBUG)
    # transformers loads DeepSpeed in the driver too, where no accelerator is used: that it found none is no news
    logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator" not in record.getMessage())


class LogFile(logging.FileHandler):
    """A log that loses lines where the disk is full, and is no reason to end a run."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the line is lost."""

    def close(self) -> None:
        """Closes the file."""
        with suppress(OSError):
            super().close()


@contextmanager
def log_file(folder: Path) -> Iterator[None]:
    """While it lasts, what winnow says and what other packages warn of goes to `winnow.log` in a run's folder, with the
    time and, where the run fails, the traceback."""
    handler = LogFile(folder / LOG_FILE, encoding="utf-8")
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    try:
        yield
    except BaseException:
        LOGGER.debug("the run ended early", exc_info=True)
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()

"""The report that every run leaves: written by a process of its own when the run has ended, so that nothing that goes
wrong there, and no time that it takes beyond SECONDS, is the run's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.errors import Stopped
from cluster.config.errors import ConfigError
from cluster.report.words import ASKED
from cluster.reporting.logs import LOGGER

SECONDS = 60.0  # for the report; it takes two or three
LONGEST_WHY = 500  # characters of why a run ended


@contextmanager
def report_at_end(folder: Path) -> Iterator[None]:
    """When what it stands around is over, by itself or by an error, the run's folder gets its report. Whoever
    interrupts a run twice wants it to end now, and a run that cannot start, or is interrupted before it trains, has
    nothing to tell: these get none."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as failure:
        _write(folder, ASKED if isinstance(failure, Stopped) else str(failure))
        raise
    _write(folder, "")


def _write(folder: Path, why: str) -> None:
    command = [sys.executable, "-m", "cluster.report", str(folder), why.partition("\n")[0][:LONGEST_WHY]]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as failure:
        problem = f"{type(failure).__name__}: {failure}" if isinstance(failure, OSError) else str(failure)
    else:
        problem = (
            "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        )
    if problem:
        LOGGER.warning("the run has no report; what writes it: winnow report %s. The reason: %s", folder, problem)

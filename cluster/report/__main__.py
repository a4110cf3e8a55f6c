"""Writes the report of a run that has just ended; `cluster.report.at_end` starts it."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from cluster.config.run_files import REPORT
from cluster.report.page import write_page
from cluster.report.run_data import read_run
from cluster.report.run_report import report_of


def main(folder: Path, why: str) -> None:
    """`why` the run ended early; "" where it did not, or was asked to."""
    with suppress(OSError):
        os.nice(10)
    write_page(report_of([read_run(folder, has_ended=True, why_ended=why)]), folder / REPORT)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

"""What a comparison shows: its tables, page and charts in its folder, and the table on the terminal."""

from pathlib import Path

from cluster.comparing.comparison import read_comparison
from cluster.comparing.page import write_comparison
from cluster.comparing.table import csv_table, latex_table, markdown_table, terminal_table
from cluster.config.run_files import REPORT
from cluster.reporting.terminal import console, plain


def write_results(folder: Path) -> None:
    """Writes table.md, table.csv, table.tex, report.html and charts/ of what has finished, or says that nothing has."""
    terminal = console()
    try:
        comparison = read_comparison(folder)
    except ValueError as nothing:
        terminal.print(plain(str(nothing)))
        return
    for ending, table in (("md", markdown_table), ("csv", csv_table), ("tex", latex_table)):
        (folder / f"table.{ending}").write_text(table(comparison), encoding="utf-8")
    write_comparison(comparison, folder)
    terminal.print(terminal_table(comparison, terminal.width))
    terminal.print(plain(f"page: {folder / REPORT}"))

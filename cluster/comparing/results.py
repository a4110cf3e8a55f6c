"""What a comparison leaves: a table and a page in its folder, and the table on the terminal."""

from pathlib import Path

from cluster.comparing.comparison import read_comparison
from cluster.comparing.page import write_page
from cluster.comparing.table import markdown_table, terminal_table
from cluster.reporting.terminal import console, plain


def write_results(folder: Path) -> None:
    """Writes table.md and report.html of what has finished; says so where nothing has."""
    terminal = console()
    try:
        comparison = read_comparison(folder)
    except ValueError as nothing:
        terminal.print(plain(str(nothing)))
        return
    (folder / "table.md").write_text(markdown_table(comparison), encoding="utf-8")
    write_page(comparison, folder / "report.html")
    terminal.print(terminal_table(comparison, terminal.width))
    terminal.print(plain(f"page: {folder / 'report.html'}"))

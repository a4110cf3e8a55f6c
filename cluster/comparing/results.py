"""What a comparison leaves: a table and a page in its folder, and the table on the terminal."""

import sys
from pathlib import Path

from rich.console import Console

from cluster.comparing.comparison import read_comparison
from cluster.comparing.page import write_page
from cluster.comparing.table import markdown_table, terminal_table


def write_results(folder: Path) -> None:
    """Writes table.md and report.html of what has finished; says so where nothing has."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    try:
        comparison = read_comparison(folder)
    except ValueError as nothing:
        console.print(str(nothing))
        return
    (folder / "table.md").write_text(markdown_table(comparison), encoding="utf-8")
    write_page(comparison, folder / "report.html")
    console.print(terminal_table(comparison, console.width))
    console.print(f"page: {folder / 'report.html'}")

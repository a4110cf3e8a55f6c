"""The notebook runs from its first cell to its last, and an interrupt of a kernel reaches what runs in a cell."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.runs import SHORT

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples/notebook.ipynb"
SETTINGS = ["run.name=notebook", *SHORT, "warmup.updates=60", "run.steps=2", "eval.every=2", "eval.prompts=8"]
INTERRUPTED = """
import asyncio, os, signal
from cluster.blocking import run_blocking
from cluster.running.signals import StopRequest

async def trains():
    request = StopRequest()
    with request.listening(print):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(request.asked.wait(), timeout=60)
    return request.signal.name

run_blocking(trains())
"""
Cell = dict[str, Any]


def executed(cells: list[Cell], folder: Path) -> dict[str, list[Cell]]:
    """The outputs of each cell by its id, when a kernel in a folder has run all of them."""
    from nbclient import NotebookClient
    from nbformat import from_dict

    tree = {**json.loads(NOTEBOOK.read_text(encoding="utf-8")), "cells": cells}
    client = NotebookClient(from_dict(tree), timeout=600, resources={"metadata": {"path": str(folder)}})
    done = client.execute(env=os.environ | {"PYTHONPATH": str(ROOT)})
    return {cell.id: cell.outputs for cell in done.cells if cell.cell_type == "code"}


def shown(outputs: list[Cell], kind: str = "") -> str:
    """What a cell printed on stdout, or what of one kind it displayed."""
    if not kind:
        return "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    return "".join(output["data"].get(kind, "") for output in outputs if "data" in output)


def cells_of(notebook: Path) -> list[Cell]:
    """The cells of a notebook."""
    cells: list[Cell] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return cells


def test_the_notebook_is_kept_without_outputs() -> None:
    code = [cell for cell in cells_of(NOTEBOOK) if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of Jupyter
def test_the_interrupt_of_a_kernel_asks_what_its_cell_runs_to_stop(tmp_path: Path) -> None:
    from nbformat.v4 import new_code_cell

    cell = new_code_cell(INTERRUPTED, id="a")
    assert shown(executed([cell], tmp_path)["a"], "text/plain") == "'SIGINT'"


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of Jupyter
def test_the_notebook_trains_and_reads_what_the_run_left(tmp_path: Path) -> None:
    cells = cells_of(NOTEBOOK)
    (parameters,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    parameters["source"] = f"SETTINGS = {SETTINGS!r}"
    outputs = executed(cells, tmp_path)
    said = shown(outputs["train"])
    assert "step 2/2: accuracy" in said
    assert "\x1b" not in said
    assert [output for output in outputs["train"] if output.get("name") != "stdout"] == []
    assert "groups_kept" in shown(outputs["metrics"], "text/plain")
    assert "accuracy [share]: Share of correct responses" in shown(outputs["meaning"])
    assert " dispatched = 16 trained + " in shown(outputs["ledger"])
    assert "trained on" in shown(outputs["responses"], "text/plain")
    assert "why: answered " in shown(outputs["group"])
    assert all("<svg" in shown(outputs[name], "image/svg+xml") for name in ("curve", "sections"))
    assert "**Ledger.** Of " in shown(outputs["sections"], "text/markdown")
    assert "vega" in shown(outputs["page"], "text/html")

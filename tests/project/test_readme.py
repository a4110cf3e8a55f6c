"""What the README shows is true: its example of a new algorithm works, and every algorithm is listed."""

import re
from pathlib import Path

import numpy as np
import pytest

from learner.methods import algorithms, credit
from learner.methods.algorithms import ALGORITHMS, algorithm_of
from learner.methods.formula import objective_line

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_every_algorithm_is_listed() -> None:
    assert [name for name in ALGORITHMS if f"`{name}`" not in README] == []


def test_the_example_of_a_new_algorithm_is_one_of_about_ten_lines_and_works(monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(# learner/methods/credit\.py\n.*?)```", README, re.S)
    function, entry = example.split("# learner/methods/algorithms.py, in ALGORITHMS\n")
    assert len([line for line in example.splitlines() if line and not line.startswith("#")]) <= 12
    monkeypatch.setattr(credit, "CREDITS", dict(credit.CREDITS))
    names = dict(vars(credit)) | dict(vars(algorithms))
    exec(function, names)
    table = eval("{" + entry + "}", names)
    (name,) = table
    monkeypatch.setitem(ALGORITHMS, name, table[name])
    chosen = algorithm_of(name)
    assert chosen.credit(np.array([1.0, -1.0, -1.0])).tolist() == [2.0, 0.0, 0.0]
    assert chosen.drop(np.array([1.0, 1.0])) == "all_correct"
    assert credit.CREDITS["above-median"] is chosen.credit
    assert "A = r - median r" in objective_line(chosen)
    assert "clip(s, 0.8, 1.28)" in objective_line(chosen)


def test_the_objective_that_the_readme_prints_is_the_one_that_is_printed() -> None:
    shown = " ".join(re.search(r"objective: (minimise .*?)\n```", README, re.S)[1].split())
    pieces = {"clip_high": 0.28, "kl_loss": 0.001, "mismatch": "mask"}
    assert objective_line(algorithm_of("reinforce-rej", pieces)) == shown

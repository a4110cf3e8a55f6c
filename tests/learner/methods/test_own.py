"""Algorithms of a person's own file: used by name everywhere, or refused with a sentence before anything starts."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ray import cloudpickle

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from learner.methods.algorithms import ALGORITHMS
from learner.methods.credit import CREDITS, raw
from learner.methods.own import known_algorithms
from tests.tables import each

HEAD = """
import numpy as np
from actors.filtering.rules import drop_both
from learner.methods.algorithms import Algorithm
from learner.methods.credit import credit, raw
from learner.methods.losses import loss
"""
MEDIAN = """
SHARE = 0.5
def middle(scores):
    return np.quantile(scores, SHARE)
@credit("r - median r", siblings=2)
def above_the_middle(scores):
    return scores - middle(scores)
ALGORITHMS = {"median": Algorithm(about="the median", drop=drop_both, credit=above_the_middle)}
"""


@pytest.fixture(autouse=True)
def pieces_stay_as_they_are() -> Iterator[None]:
    known = dict(CREDITS)
    yield
    CREDITS.clear()
    CREDITS.update(known)


def run_with(file: Path | str, algorithm: str, **objective: object):
    tree = {"world": {"name": "addition"}, "learner": {"file": str(file), "algorithm": algorithm}}
    return config_of(tree | {"objective": objective})


def test_an_algorithm_of_an_own_file_is_used_by_name_and_its_pieces_by_theirs(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(HEAD + MEDIAN)
    chosen = run_with(file, "median", clip_high=0.28).algorithm
    assert (chosen.about, chosen.clip_high, chosen.siblings) == ("the median", 0.28, 2)
    assert chosen.credit(np.array([1.0, -1.0, -1.0])).tolist() == [2.0, 0.0, 0.0]
    assert run_with(file, "grpo", credit="above-the-middle").algorithm.credit.formula == "r - median r"
    assert "median" not in ALGORITHMS
    assert list(known_algorithms(str(file)))[:-1] == list(ALGORITHMS)


def test_it_reaches_processes_that_do_not_know_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(HEAD + MEDIAN)
    sent = cloudpickle.dumps(run_with(file, "median").algorithm)
    file.unlink()
    assert pickle.loads(sent).credit(np.array([1.0, -1.0, -1.0])).tolist() == [2.0, 0.0, 0.0]


@each(
    ("source", "message"),
    [
        ("", "file must hold a dictionary ALGORITHMS"),
        ("ALGORITHMS = []", "ALGORITHMS is []"),
        ("ALGORITHMS = {}", "ALGORITHMS is {}"),
        ("ALGORITHM = 3", "ALGORITHMS is None"),
        (
            "import nowhere_to_be_found",
            "line 8: ModuleNotFoundError: No module named 'nowhere_to_be_found'. Mend",
        ),
        ("x = 1 / 0", "line 8: ZeroDivisionError: division by zero"),
        ("def broken(:", "line 8: SyntaxError"),
        ("raise SystemExit(1)", "line 8: SystemExit: 1"),
        ("ALGORITHMS = {'mine': 3}", "ALGORITHMS['mine']: must be a learner.methods.algorithms.Algorithm, got 3"),
        ("ALGORITHMS = {3: Algorithm(about='', credit=raw)}", "ALGORITHMS[3]: its name must be a text"),
        ("ALGORITHMS = {'grpo': Algorithm(about='', credit=raw)}", "winnow has an algorithm of that name: rename it"),
        (
            "ALGORITHMS = {'mine': Algorithm(about='', credit=np.mean)}",
            "or a function under @credit, got",
        ),
        (
            "ALGORITHMS = {'mine': Algorithm(about='', credit=raw, loss='clipped')}",
            "a function under @loss, got",
        ),
        (
            "ALGORITHMS = {'mine': Algorithm(about='', credit=raw, drop='both')}",
            "drop must be a function of",
        ),
        ("ALGORITHMS = {'mine': Algorithm(about='', credit=raw, drop=lambda s: True)}", "or the reason for dropping"),
        (
            "@credit('mean')\ndef average(scores):\n    return scores.mean()\n"
            "ALGORITHMS = {'mine': Algorithm(about='', credit=average)}",
            "its credit must give a number for each of the scores [1.0, -1.0, 1.0, -1.0], as an array; it gave",
        ),
        (
            "@credit('r / 0')\ndef endless(scores):\n    return scores * np.inf\n"
            "ALGORITHMS = {'mine': Algorithm(about='', credit=endless)}",
            "its credit must give a number for each",
        ),
        (
            "@credit('')\ndef missing(scores):\n    return scores.medain()\n"
            "ALGORITHMS = {'mine': Algorithm(about='', credit=missing)}",
            "its credit or drop fails on the scores [1.0, -1.0, 1.0, -1.0]: AttributeError",
        ),
        (
            "@credit('mine')\ndef raw(scores):\n    return scores\n"
            "ALGORITHMS = {'mine': Algorithm(about='', credit=raw)}",
            "defines a credit 'raw', and winnow has one of that name: rename it",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line_every_time(
    source: str, message: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("own") / "mine.py"
    file.write_text(HEAD + "\n" + source)
    for _ in range(2):
        with pytest.raises(ConfigError) as refused:
            run_with(file, "mine")
        assert "learner.file" in str(refused.value)
        assert message in str(refused.value), str(refused.value)
    assert CREDITS["raw"] is raw


def test_a_file_that_is_not_there_and_a_name_that_is_not_in_it_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"learner\.file: file must be .* and there is no file 'gone.py'"):
        run_with("gone.py", "mine")
    (tmp_path / "mine.py").write_text(HEAD + MEDIAN)
    with pytest.raises(ConfigError, match=r"learner\.algorithm must be one of raft, .*, median, got 'medain'"):
        run_with(tmp_path / "mine.py", "medain")

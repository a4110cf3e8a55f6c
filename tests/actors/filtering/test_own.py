"""A drop rule from a person's own file, chosen by its name or alone."""

from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from actors.filtering.rules import RULES
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from learner.methods.formula import objective_line
from tests.tables import failure_of

ONE = """
import numpy as np

LEAST = 0.1

def too_alike(scores):
    return "too_alike" if np.std(scores) < LEAST else ""

RULES = {"too-alike": too_alike}
"""
TWO = ONE + 'RULES["keep"] = lambda scores: ""\n'


def config(file: Path, drop: str = "") -> RunConfig:
    return config_of({"world": {"name": "addition"}, "filter": {"file": str(file), "drop": drop}})


def test_the_rule_of_a_file_is_the_runs_and_travels_to_processes_that_lack_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(ONE)
    rule = config(file).algorithm.drop
    travelled = cloudpickle.loads(cloudpickle.dumps(rule))
    for each in (rule, travelled, config(file, "too-alike").algorithm.drop):
        assert [each(np.array(scores)) for scores in ([1.0, 1.0], [1.0, -1.0])] == ["too_alike", ""]
    assert config(file, "both").algorithm.drop is RULES["both"]
    assert "groups dropped: too_alike" in objective_line(config(file).algorithm)


def test_of_several_rules_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(TWO)
    assert config(file, "keep").algorithm.drop(np.array([1.0, 1.0])) == ""
    with pytest.raises(ConfigError, match=r"filter\.drop must be one of too-alike, keep: filter\.file holds several"):
        config(file)


def test_a_rule_that_is_entered_into_the_table_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "mine", lambda scores: "because")
    tree = {"world": {"name": "addition"}, "filter": {"drop": "mine"}}
    assert config_of(tree).algorithm.drop(np.array([1.0])) == "because"


BROKEN = {
    "": r"filter\.file: file must hold a dictionary RULES",
    "RULES = {}": r"RULES is \{\}",
    "RULES = [1]": r"RULES is \[1\]",
    "RULES = {'mine': 3}": r"RULES\['mine'\]: must be a function of the scores, got 3",
    "RULES = {3: lambda scores: ''}": r"RULES\[3\]: its name must be a text",
    "RULES = {'both': lambda scores: ''}": r"winnow has a rule of that name",
    "RULES = {'mine': lambda scores: True}": r'must give "" or why .* gave True for the scores \[1\.0, -1\.0\]',
    "RULES = {'mine': lambda: ''}": r"fails on the scores \[1\.0, -1\.0\]: TypeError",
    "RULES = {'mine': lambda scores: '' if 1 / (len(scores) - 1) else ''}": r"\[0\.5\]: ZeroDivisionError",
    "import not_installed_anywhere": r"line 1: ModuleNotFoundError: .*not_installed_anywhere",
    "def drop(": r"line 1: SyntaxError",
    "raise SystemExit(3)": r"line 1: SystemExit: 3",
}


def test_a_file_that_holds_no_rule_is_refused_with_what_is_wrong_with_it(tmp_path: Path) -> None:
    def case(source: str, message: str, number: int) -> None:
        file = tmp_path / f"mine_{number}.py"
        file.write_text(source)
        with pytest.raises(ConfigError, match=message):
            config(file)

    cases = [{"source": s, "message": m, "number": n} for n, (s, m) in enumerate(BROKEN.items())]
    assert [failed for each in cases if (failed := failure_of(case, each, {}))] == []
    with pytest.raises(ConfigError, match=r"filter\.file: .*there is no file"):
        config(tmp_path / "none.py")
    with pytest.raises(ConfigError, match=r"filter\.drop must be one of none, all-wrong, .*got 'mixed-up'"):
        config_of({"world": {"name": "addition"}, "filter": {"drop": "mixed-up"}})

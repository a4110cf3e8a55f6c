"""What the benchmark of rounds, subsets and choices compares, and its arithmetic. The runs are those of the program."""

from pathlib import Path

import pytest

from tests.bench.kit import BENCHMARKS
from tests.bench.saving import METHODS, Spent, figures_of, plan_of


def test_every_method_is_a_run_with_the_same_budget_and_evaluation(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, quick=False, names=tuple(METHODS))
    assert list(plan.methods) == list(METHODS)
    assert {config.run.tokens for config in plan.methods.values()} == {180_000}
    assert plan.methods["rounds"].most_siblings == plan.methods["subset"].most_siblings == 8
    assert plan.methods["halves"].most_siblings is None
    paths = [plan.methods[name].data.path for name in ("chosen", "fresh-chosen")]
    assert paths == [str(tmp_path / folder / "prompts.jsonl") for folder in ("few", "many")]


def test_a_method_comes_with_what_it_is_measured_against(tmp_path: Path) -> None:
    assert list(plan_of(tmp_path, quick=True, names=("fresh-predicted", "rounds")).methods) == [
        "uniform",
        "rounds",
        "fresh",
        "fresh-predicted",
    ]


def test_the_figures_on_the_worked_example() -> None:
    uniform = Spent(tokens=1000, trained=300, kept=10, graded=40, start=0.25, end=0.5)
    chosen = Spent(tokens=1020, trained=700, kept=30, graded=40, start=0.25, end=0.625)
    found = figures_of({"uniform": uniform, "chosen": chosen})
    assert found["tokens per kept group, chosen / uniform"] == pytest.approx(34 / 100)
    assert found["accuracy at equal tokens, chosen - uniform"] == pytest.approx(0.125)
    assert found["chosen: learner tokens per sampled token"] == pytest.approx(700 / 1020)
    assert found["uniform: share of groups kept"] == 0.25
    assert set(BENCHMARKS["saving"].targets) <= set(found)

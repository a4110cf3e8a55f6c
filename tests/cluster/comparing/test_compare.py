"""`winnow compare`: what can be compared, and a small comparison with the real parts."""

import json
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.comparing.comparison import read_comparison
from cluster.comparing.plan import plan_comparison
from cluster.config.errors import ConfigError
from cluster.config.reading import load_config
from cluster.config.run_config import RunConfig

RUNS = Path(__file__).parents[3] / "deploy/runs"


def method(*overrides: str) -> RunConfig:
    return load_config(RUNS / "demo.toml", ["run.tokens=2000", "eval.every=1", "learner.lr_end=1", *overrides])


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            {"a": method(), "b": method("run.tokens=3000")},
            r"must share one budget .* got \[\(2000, 0\.0\), \(3000, 0\.0\)\]",
        ),
        ({"a": method("run.tokens=0")}, "a comparison needs a budget"),
        ({"a": method(), "b": method("eval.every=0")}, "set eval.every above 0 for b"),
        ({"a b": method(), "a/b": method()}, "names of their own"),
        ({"base": method()}, "other than base and starts, got base"),
        ({"a": method(), "b": method("eval.samples=9")}, "the methods must share eval, got"),
        ({"a": method(), "b": method("cluster.generators=2")}, "the methods must share cluster, got"),
        ({"a": method(), "b": method("learner.lr_end=0.5")}, r"learner\.lr_end must be 1 in a comparison, for b too"),
    ],
)
def test_what_cannot_be_compared_is_said(methods: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_comparison("x", "x", methods, 2)


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
def test_two_methods_and_two_seeds_end_in_a_table_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [
        str(RUNS / "demo.toml"),
        "learner.lr_end=1",
        "--each",
        "learner.algorithm=raft++,grpo",
        "--seeds",
        "2",
        "--name",
        "small",
    ]
    items += [f"run.folder={tmp_path}", "world.digits=1", "warmup.updates=80", "rollout.groups_per_step=6"]
    items += ["run.tokens=1200", "eval.every=2", "eval.prompts=16", "eval.samples=2", "cluster.device=cpu"]
    assert main(["compare", *items]) == 0
    folder = tmp_path / "small"
    comparison = read_comparison(folder)
    assert [one.name for one in comparison.methods] == ["base", "raft++", "grpo"]
    assert len(comparison.runs) == 4
    assert not comparison.failed
    assert not comparison.missing
    for run in comparison.runs:
        assert run.evals[-1]["tokens"] >= 1200
        assert run.evals[-2]["tokens"] < 1200 or len(run.evals) == 2
    for seed in (0, 1):  # the same model, the same prompts and seeds: the same start
        starts = {run.evals[0]["accuracy"] for run in comparison.runs if run.seed == seed}
        assert len(starts) == 1
    plan = json.loads((folder / "compare.json").read_text())
    assert plan["methods"][1]["changes"] == {"learner.algorithm": "raft++"}
    assert "| raft++ |" in (folder / "table.md").read_text()
    assert 'class="chart"' in (folder / "report.html").read_text()
    assert all((folder / name).is_file() for name in ("table.md", "table.csv", "table.tex", "charts/results.svg"))
    assert "4/4 grpo, seed 1: held-out accuracy" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
def test_a_method_that_starves_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    items = [
        str(RUNS / "demo.toml"),
        "learner.lr_end=1",
        "--each",
        "filter.drop=both,none",
        "--seeds",
        "1",
        "--name",
        "starving",
    ]
    items += [f"run.folder={tmp_path}", "world.digits=1", "warmup.updates=0", "rollout.groups_per_step=4"]
    items += ["run.tokens=900", "eval.every=2", "eval.prompts=4", "eval.samples=1", "filter.patience=12"]
    assert main(["compare", *items, "cluster.device=cpu"]) == 1
    comparison = read_comparison(tmp_path / "starving")
    (absent,) = comparison.failed
    assert (absent.method, absent.seed) == ("both", 0)
    assert "12 groups in a row" in absent.why
    assert [run.method for run in comparison.runs] == ["none"]

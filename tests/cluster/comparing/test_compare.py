"""`winnow compare`: what can be compared, and a small comparison with the real parts."""

import json
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.comparing.comparison import read_comparison
from cluster.comparing.plan import plan_comparison
from cluster.config.errors import ConfigError
from cluster.config.reading import load_config, to_toml
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
def test_two_methods_and_two_seeds_end_in_a_table_and_a_page_though_a_third_one_starves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "right.py").write_text("def reward(response, reference, prompt):\n    return 1.0\n")
    starving = ["reward.name=own", f"reward.own.file={tmp_path}/right.py", "filter.patience=12"]
    methods = {"starving": starving, "raft++": ["learner.algorithm=raft++"], "grpo": ["learner.algorithm=grpo"]}
    for name, settings in methods.items():
        (tmp_path / f"{name}.toml").write_text(to_toml(load_config(RUNS / "demo.toml", settings)))
    items = [*(f"{tmp_path}/{name}.toml" for name in methods), "learner.lr_end=1", "--seeds", "2", "--name", "small"]
    items += [f"run.folder={tmp_path}", "world.digits=1", "warmup.updates=80", "rollout.groups_per_step=6"]
    items += ["run.tokens=1200", "eval.every=2", "eval.prompts=16", "eval.samples=2", "cluster.device=cpu"]
    assert main(["compare", *items]) == 1
    folder = tmp_path / "small"
    comparison = read_comparison(folder)
    assert [(absent.method, absent.seed) for absent in comparison.failed] == [("starving", 0), ("starving", 1)]
    assert all("12 groups in a row" in absent.why for absent in comparison.failed)
    assert [one.name for one in comparison.methods] == ["base", *methods]
    trained = [(run.method, run.seed) for run in comparison.runs]
    assert trained == [("raft++", 0), ("raft++", 1), ("grpo", 0), ("grpo", 1)]
    assert not comparison.missing
    for run in comparison.runs:
        assert run.evals[-1]["tokens"] >= 1200
        assert run.evals[-2]["tokens"] < 1200 or len(run.evals) == 2
    for seed in (0, 1):  # the same model, the same prompts and seeds: the same start
        starts = {run.evals[0]["accuracy"] for run in comparison.runs if run.seed == seed}
        assert len(starts) == 1
    plan = json.loads((folder / "compare.json").read_text())
    assert plan["methods"][2]["changes"]["learner.algorithm"] == "raft++"
    assert "| raft++ |" in (folder / "table.md").read_text()
    assert 'class="chart"' in (folder / "report.html").read_text()
    assert all((folder / name).is_file() for name in ("table.md", "table.csv", "table.tex", "charts/results.svg"))
    assert "6/6 grpo, seed 1: held-out accuracy" in capsys.readouterr().out

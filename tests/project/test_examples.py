"""The examples work: each can be planned as its page says, its files are what its script writes, its reward grades."""

import json
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.comparing.plan import plan_comparison
from cluster.config.reading import load_methods
from examples.own_data.make_data import ROWS, write_data, write_model
from examples.own_reward.reward import MOST_FOR_WRONG, reward

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_reward_gives_one_for_right_results_and_a_little_for_right_digits() -> None:
    assert reward("8+7+0=15,5+6+1=12#125", "125", "58+67=") == 1.0
    assert reward("8+7+0=15,5+6+1=12#135", "125", "58+67=") == pytest.approx(MOST_FOR_WRONG * 2 / 3)
    assert reward("", "7", "4+3=") == 0.0


@pytest.mark.slow
def test_the_example_of_a_reward_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "examples/own_reward/run.toml", "--plan"]) == 0
    assert "64 groups x 8 responses = 512 responses a step" in capsys.readouterr().out


def test_the_example_of_a_reward_grades_its_cases_as_expected(tmp_path: Path) -> None:
    out = tmp_path / "graded.jsonl"
    settings = ["reward.name=own", "reward.own.file=examples/own_reward/reward.py"]
    assert main(["grade", "examples/own_reward/cases.jsonl", "--out", str(out), "--workers", "1", *settings]) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["outcome"] for row in rows] == [row["expected"] for row in rows]
    assert rows[1]["score"] == pytest.approx(2 * MOST_FOR_WRONG * 2 / 3 - 1)


def test_the_data_of_the_example_is_what_its_script_writes(tmp_path: Path) -> None:
    write_data(tmp_path)
    for name in ROWS:
        file = f"{name}.jsonl"
        assert (tmp_path / file).read_text(encoding="utf-8") == Path("examples/own_data", file).read_text("utf-8")


@pytest.mark.slow
def test_the_example_of_data_can_be_checked_and_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path / "model")
    model = f"model.path={tmp_path / 'model'}"
    assert main(["check", "examples/own_data/run.toml", model]) == 0
    assert "references graded as responses: 500 correct" in capsys.readouterr().out
    assert main(["train", "examples/own_data/run.toml", model, "--plan"]) == 0
    assert "500 prompts of at most 12 tokens" in capsys.readouterr().out


def test_the_example_of_a_comparison_is_a_fair_one() -> None:
    plan = plan_comparison("comparison", "", load_methods([Path("examples/comparison")], []), 1)
    methods = load_methods([Path("examples/comparison")], [])
    assert list(methods) == ["raft++", "reinforce-rej"]
    assert plan.seeds == (0,)
    assert plan.first.run.tokens == 20_000

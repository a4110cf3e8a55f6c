from pathlib import Path

import pytest

from cluster.cli import main
from cluster.config.reading import load_config, to_toml
from tests.run_folders import run_folder

RUNS = Path(__file__).parents[3] / "deploy/runs"
FILES = [str(RUNS / f"paper/{name}.toml") for name in ("reinforce", "grpo", "raft")]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["compare", *FILES, "--plan", *words]) == 0
    return capsys.readouterr().out


def test_the_plan_says_what_would_run_and_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "--seeds", "2", f"run.folder={tmp_path / 'runs'}")
    assert text.startswith("3 methods, each with 2 seeds (0 and 1): 6 runs, one after another\n")
    assert "reference: reinforce, which the others are compared with\n" in text
    assert "budget of a run: 150,000 tokens generated (run.tokens)" in text
    assert "time: not known from a budget of tokens alone" in text
    assert "  method     filter.drop  learner.algorithm\n  reinforce               reinforce\n" in text
    assert "\n  raft       none         raft\n" in text
    assert text.endswith("nothing was started\n")
    assert not (tmp_path / "runs").exists()


def test_methods_may_differ_in_their_rewards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("def reward(response, reference, prompt):\n    return 1.0\n")
    rewards = {"number": ["reward.name=number"], "mine": ["reward.name=own", f"reward.own.file={tmp_path}/mine.py"]}
    for name, settings in rewards.items():
        (tmp_path / f"{name}.toml").write_text(to_toml(load_config(RUNS / "demo.toml", settings)))
    items = [*(f"{tmp_path}/{name}.toml" for name in rewards), "learner.lr_end=1", "run.tokens=1000", "eval.every=2"]
    assert main(["compare", *items, "--plan"]) == 0
    text = capsys.readouterr().out
    own = f"{{'kind': 'own', 'file': '{tmp_path}/mine.py'}}"
    assert f"  method  reward.name  reward.own\n  number  number\n  mine    own          {own}\n" in text


def test_an_earlier_run_says_how_long_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = run_folder(tmp_path / "made", 10)  # 30,000 tokens in 9 s, ten times
    text = told(capsys, "--from", str(earlier), "run.tokens=100000")
    assert "time: about 4 min 30 s of training at the 3,333 tokens a second of" in text
    text = told(capsys, "--seeds", "1", "run.tokens=0", "run.seconds=120")
    assert "time: 6 min of training at most" in text


def test_what_is_no_plan_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *FILES, "--from", str(tmp_path)]) == 2
    assert "use it with --plan" in capsys.readouterr().err
    assert main(["compare", *FILES, "--plan", "--from", str(tmp_path)]) == 2
    assert "this run has no finished step" in capsys.readouterr().err


def test_a_setting_with_two_values_is_said_and_the_last_counts(capsys: pytest.CaptureFixture[str]) -> None:
    said = "note: run.tokens is set to 5000, 3000 here, and the last counts"
    assert main(["compare", *FILES, "--plan", "run.tokens=5000", "run.tokens=3000", "run.seed=1", "run.seed=1"]) == 0
    out, err = capsys.readouterr()
    assert "budget of a run: 3,000 tokens" in out
    assert said in err
    assert "run.seed" not in err

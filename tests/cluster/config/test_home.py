"""~ is the home folder in every setting that is a path, where no shell has put it in."""

from pathlib import Path

import pytest

from cluster.cli import main
from cluster.config.described import described
from cluster.config.reading import grading_config, load_config, to_toml
from cluster.config.run_config import GradingConfig, RunConfig
from tests.tables import each

RUNS = Path(__file__).parents[3] / "deploy" / "runs"
OWN = '[model]\npath = "~/m"\n[data]\npath = "~/d.jsonl"\n'


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")


def value_of(config: RunConfig | GradingConfig, name: str) -> object:
    found: object = config
    for key in name.split("."):
        found = getattr(found, key)
    return found


PATHS = [
    *("run.folder", "model.path", "data.path", "data.chat_template", "data.stored", "eval.path", "warmup.path"),
    *("learner.tuned_path", "learner.teacher_path"),
]


@each("name", PATHS)
def test_a_path_of_the_command_line_may_begin_at_home(name: str) -> None:
    config = load_config(RUNS / "gsm8k.toml", ["model.path=m", "data.path=d", f"{name}=~/there/x"])
    assert value_of(config, name) == "/home/me/there/x"
    assert '"/home/me/there/x"' in to_toml(config)


@each("name", ["model.path", "process.path", "judge.path", "judge.prompt", "own.file", "sql.databases"])
def test_a_path_of_a_reward_may_begin_at_home(name: str) -> None:
    config = grading_config([f"reward.{name}=~/x"])
    assert value_of(config, f"reward.{name}") == "/home/me/x"


def test_files_of_python_are_looked_for_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "play.py").write_text("async def play(task, talk):\n    await talk.say('hello')\n")
    (tmp_path / "rule.py").write_text(
        "from actors.filtering.rules import RULES as KNOWN\nRULES = {'mine': KNOWN['both']}\n"
    )
    (tmp_path / "own.py").write_text(
        "from learner.methods.algorithms import ALGORITHMS as KNOWN\nALGORITHMS = {'mine': KNOWN['rloo']}\n"
    )
    files = ["rollout.environment=~/play.py", "filter.file=~/rule.py", "learner.file=~/own.py"]
    config = load_config(RUNS / "gsm8k.toml", ["model.path=m", "data.path=d", "learner.algorithm=mine", *files])
    assert [config.rollout.environment, config.filter.file, config.learner.file] == [
        str(tmp_path / name) for name in ("play.py", "rule.py", "own.py")
    ]


def test_tables_of_files_and_what_a_run_file_extends_may_begin_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base.toml").write_text(OWN)
    (tmp_path / "here").mkdir()
    file = tmp_path / "here" / "run.toml"
    file.write_text(
        'extends = "~/base.toml"\n[data]\npath = {"~/a.jsonl" = 3, "b.jsonl" = 1}\n'
        '[eval]\npath = {one = "~/one.jsonl", two = {path = "~/two.jsonl"}}\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load_config(file)
    assert config.data.path == {f"{tmp_path}/a.jsonl": 3, "b.jsonl": 1}
    assert [one.path for one in config.eval.benchmarks.values()] == [f"{tmp_path}/{n}.jsonl" for n in ("one", "two")]
    assert config.model.path == f"{tmp_path}/m"


@each("path", ["hf://Qwen/Qwen2.5-7B", "s3://bucket/~/x", "Qwen/Qwen2.5-7B", "./~/x", "a/~b", "~nobody-is-called-so"])
def test_addresses_names_and_other_paths_stay(path: str) -> None:
    assert load_config(RUNS / "gsm8k.toml", [f"model.path={path}", "data.path=d"]).model.path == path


def test_the_table_above_holds_every_setting_that_is_a_path() -> None:
    named = [one.name for one in described() if one.key in ("path", "folder", "stored") or one.key.endswith("_path")]
    assert {name for name in named if not name.startswith("reward.")} <= {*PATHS}


def test_an_option_with_its_path_behind_a_sign_may_begin_at_home(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume=~/none"]) == 2
    assert "/home/me/none is not the folder of a run" in capsys.readouterr().err

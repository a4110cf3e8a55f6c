import json
import tomllib
from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of, load_config, to_toml
from cluster.evaluating.subject import EVERY_PROMPT, Subject, evaluation_config, find_subject
from cluster.evaluating.words import Words
from cluster.preparing.data import heldout_sets
from tests.runs import ROOT

NOTHING = Words.of(())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with complete checkpoints after steps 2 and 10, and one that was never finished."""
    folder = tmp_path / "run"
    tree = {"model": {"path": "/m"}, "data": {"path": "/train.jsonl", "answer_column": "solution"}}
    tree |= {"eval": {"path": "/held.jsonl", "prompts": 32, "rows": ":100", "every": 5}}
    for name, files in {"step-2": ["complete"], "step-10": ["complete"], "step-12": []}.items():
        (folder / "checkpoints" / name).mkdir(parents=True)
        for file in files:
            (folder / "checkpoints" / name / file).touch()
    (folder / "config.toml").write_text(to_toml(config_of(tree)))
    return folder


def found(what: Path | str, checkpoint: str = "") -> Subject:
    return find_subject(str(what), checkpoint, print)


def test_a_run_is_its_newest_complete_checkpoint_or_the_one_that_is_named(run: Path) -> None:
    checkpoints = run / "checkpoints"
    assert found(run).model == str(checkpoints / "step-10")
    assert {found(run, named).step for named in ("2", "step-2", f"{checkpoints}/step-2/")} == {2}
    assert found(checkpoints / "step-2").run == run
    assert found(run, "start").model == "/m"
    assert found(run, "start").step == 0
    (run / "config.toml").write_text((run / "config.toml").read_text().replace('"/m"', '"hf://me/tiny"'))
    assert found(run, "start").model == "hf://me/tiny"
    assert found(run, "step-2").folder(config_of({"model": {"path": "/m"}, "data": {"path": "/d"}})) == (
        run / "evaluations",
        "step-2",
    )


def test_a_run_of_a_built_in_world_may_have_moved_with_its_files(tmp_path: Path) -> None:
    config = load_config(ROOT / "deploy/runs/demo.toml")
    folder = tmp_path / "moved"
    (folder / "checkpoints" / "step-1").mkdir(parents=True)
    (folder / "checkpoints" / "step-1" / "complete").touch()
    (folder / "warmup").mkdir()
    (folder / "warmup" / "complete").touch()
    moved = {"model": config.model.model_copy(update={"path": "/old/world/model"})}
    moved |= {"data": config.data.model_copy(update={"path": "/old/world/prompts.jsonl"})}
    moved |= {"eval": config.eval.model_copy(update={"path": "/old/world/heldout.jsonl"})}
    (folder / "config.toml").write_text(to_toml(config.model_copy(update=moved)))
    settings = evaluation_config(found(folder), NOTHING, None)
    assert settings.eval.path == str(folder / "world" / "heldout.jsonl")
    assert settings.model.path == str(folder / "checkpoints" / "step-1")
    assert settings.world.name == ""
    assert found(folder, "start").model == str(folder / "warmup")


@pytest.mark.parametrize(
    ("make", "checkpoint", "message"),
    [
        (lambda run: run / "none", "", "there is no .*none: give the folder of a model or of a run"),
        (lambda run: run / "checkpoints", "", "is the folder of no model, which holds config.json, and of no run"),
        (lambda run: run, "step-12", "holds no complete checkpoint step-12; there are step-2, step-10, and start"),
        (lambda run: run, "best", "holds no complete checkpoint best"),
        (lambda run: run / "checkpoints" / "step-2", "step-10", "is a checkpoint already: leave --checkpoint step-10"),
    ],
)
def test_what_cannot_be_evaluated_is_a_sentence(run: Path, make: object, checkpoint: str, message: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=message):
        found(make(run), checkpoint)


def test_a_run_without_a_checkpoint_and_a_model_with_one_are_refused(tmp_path: Path, run: Path) -> None:
    for path in (run / "checkpoints").glob("*/complete"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"holds no complete checkpoint .* --checkpoint start"):
        found(run)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps({}))
    with pytest.raises(ConfigError, match=r"--checkpoint step-1 is of a run, and .* is a model"):
        found(tmp_path / "m", "step-1")


def test_a_runs_own_held_out_prompts_are_those_of_its_training(run: Path) -> None:
    config = evaluation_config(found(run), NOTHING, 16)
    assert (config.eval.path, config.eval.rows, config.eval.prompts) == ("/held.jsonl", ":100", 32)
    assert config.eval.samples == 16
    assert config.data.answer_column == "solution"


def test_a_benchmark_may_have_no_answers_where_the_runs_data_has_some(run: Path) -> None:
    words = Words.of(['eval.path={a="/a.jsonl", b={path="/b.jsonl", answer_column=""}}'])
    config = evaluation_config(found(run), words, None)
    for again in (config, config_of(tomllib.loads(to_toml(config)))):
        columns = {name: data.answer_column for name, data in heldout_sets(again).items()}
        assert columns == {"a": "solution", "b": ""}
    with pytest.raises(ConfigError, match=r"eval\.path\.b\.answer_column must name a column, got \(\)"):
        evaluation_config(found(run), Words.of(['eval.path={b={path="/b.jsonl", answer_column=[]}}']), None)


def test_data_that_is_named_is_evaluated_whole_by_the_runs_columns(run: Path, tmp_path: Path) -> None:
    config = evaluation_config(found(run), Words.of(["a=/a.jsonl", "/b.jsonl", "rollout.temperature=0.6"]), None)
    sets = heldout_sets(config)
    assert {name: data.path for name, data in sets.items()} == {"a": "/a.jsonl", "b": "/b.jsonl"}
    assert {data.answer_column for data in sets.values()} == {"solution"}
    assert (config.eval.rows, config.eval.prompts, config.rollout.temperature) == ("", EVERY_PROMPT, 0.6)
    (tmp_path / "mine.toml").write_text(
        "[eval]\nsamples = 16\nprompts = 7\n[eval.path]\neasy = '/e.jsonl'\n"
        "hard = {path = '/h.jsonl', answer_column = 'final', rows = '5:'}\n"
    )
    config = evaluation_config(found(run), Words.of([str(tmp_path / "mine.toml")]), None)
    easy, hard = heldout_sets(config).values()
    assert (easy.path, easy.answer_column, easy.rows) == ("/e.jsonl", "solution", "")
    assert (hard.path, hard.answer_column, hard.rows) == ("/h.jsonl", "final", "5:")
    assert (config.eval.samples, config.eval.prompts) == (16, 7)
    assert config_of(json.loads(config.model_dump_json())) == config


def test_without_data_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    subject = Subject(model="/m", run=None, step=None, settings={"model": {"path": "/m"}})
    with pytest.raises(ConfigError, match="nothing says what is evaluated: name a file of prompts and answers"):
        evaluation_config(subject, NOTHING, None)
    config = evaluation_config(subject, Words.of(["/a.jsonl"]), None)
    assert config.data.path == "/a.jsonl"
    assert subject.folder(config) == (Path("runs"), "eval-m")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ({"a b": "/a.jsonl"}, "must have names of letters, digits, - and _, got 'a b'"),
        ({"a": {"path": ""}}, "eval.path.a.path"),
        ({"a": {"path": "/a", "rows": "x"}}, "must be start:end"),
        ({"a": {"path": "/a", "template": "x"}}, "must contain {prompt}"),
        ({"a": {"path": "/a", "colum": "x"}}, "colum"),
        (3, "eval.path must be a text, a table, got 3"),
    ],
)
def test_a_benchmark_that_cannot_be_is_named(path: object, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        config_of({"model": {"path": "/m"}, "data": {"path": "/d"}, "eval": {"path": path}})
    assert message in str(failure.value)

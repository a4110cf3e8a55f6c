"""The run of a reward model before Ray starts: its settings, its rows, its model folder, its layout."""

import json
from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.config.reading import load_settings
from cluster.placement.layout import plan_layout
from cluster.placement.node import Node
from cluster.placement.session import wanted_of
from cluster.reward_models.config import RewardModelConfig
from cluster.reward_models.preparing import prepare_reward_model
from learner.models.tiny import write_tiny_model
from learner.reward_models.types import RewardModelKind, Rows

PAIRS = [{"prompt": f"{n}+1=", "chosen": f"{n + 1}", "rejected": [f"{n}", f"{n + 2}"]} for n in range(6)]
STEPS = [
    {"prompt": "1+1=", "steps": ["1\n\n", "2"], "labels": [1, 0]},
    {"prompt": "1+1=", "steps": ["1", "2"], "labels": [1, 0]},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet="0123456789+=", seed=0)
    return folder


def file_of(folder: Path, rows: list[dict]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def config_of(folder: Path, model: Path, rows: list[dict], *items: str) -> RewardModelConfig:
    run = folder / "run.toml"
    run.write_text(f'[model]\npath = "{model}"\n[data]\npath = "{file_of(folder, rows)}"\n')
    return load_settings(RewardModelConfig, run, items)


def test_pairs_make_a_model_of_whole_responses(tmp_path: Path, model: Path) -> None:
    config = config_of(tmp_path, model, PAIRS, "data.rows=:-2", "eval.rows=-2:", "eval.every=1", "learner.batch=3")
    found = prepare_reward_model(config, print)
    path = str(tmp_path / "rows.jsonl")
    assert found.task.kind is RewardModelKind.OUTCOME
    assert (found.task.train, found.task.heldout) == (Rows(path=path, end=-2), Rows(path=path, start=-2))
    assert found.about[:2] == ("4 rows to train on: 8 pairs", "2 rows held out: 4 pairs")


def test_system_messages_of_the_run_and_of_rows_are_a_part_of_what_is_trained_on(tmp_path: Path, model: Path) -> None:
    rows = [row | {"s": "1+"} for row in PAIRS]
    items = ((), ("data.system=2+",), ("data.system_column=s",), ("data.system=2+", "data.system_column=s"))
    plain, of_run, of_rows, both = (
        prepare_reward_model(config_of(tmp_path, model, rows, *each), print) for each in items
    )
    assert (both.task.system_column, both.task.system) == ("s", "2+")
    assert len({plain.digest, of_run.digest, of_rows.digest}) == 3
    assert both.digest == of_rows.digest
    config = config_of(tmp_path, model, rows, *items[-1])
    config.write(tmp_path)
    again = load_settings(RewardModelConfig, tmp_path / "config.toml")
    assert (again.data.system_column, again.data.system) == ("s", "2+")


def test_steps_that_the_reward_would_not_find_are_said(tmp_path: Path, model: Path) -> None:
    found = prepare_reward_model(config_of(tmp_path, model, STEPS), print)
    assert found.task.kind is RewardModelKind.PROCESS
    assert found.about[-1].startswith("1 of 2 responses have other steps than reward.process would find")


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        (("learner.algorithm=grpo",), "learner.algorithm means nothing in the training of a reward model"),
        (("rollout.group_size=4",), "unknown setting rollout"),
        (("eval.every=2",), "eval.path must be set"),
        (("model.path=",), "model.path must be set"),
        (("run.folder=s3://bucket/runs",), "run.folder must be a folder"),
        (("learner.batch=0",), "learner.batch must be at least 1"),
    ],
)
def test_settings_without_meaning_are_refused(
    tmp_path: Path, model: Path, items: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        config_of(tmp_path, model, PAIRS, *items)


def test_a_bad_row_is_named_before_ray_starts(tmp_path: Path, model: Path) -> None:
    config = config_of(tmp_path, model, [PAIRS[0], {"prompt": "1+1=", "chosen": "2", "rejected": 3}])
    with pytest.raises(ConfigError, match=r"rows\.jsonl:2 has '3' in column 'rejected', expected a response"):
        prepare_reward_model(config, print)


def test_one_text_to_the_model_is_no_pair(tmp_path: Path, model: Path) -> None:
    rows = [PAIRS[0], {"prompt": "1+1=", "chosen": "2" * 3000, "rejected": "3" + "2" * 2999}]
    with pytest.raises(
        ConfigError, match=r"rows\.jsonl:2 has a chosen and a rejected response that are the same 2048 tok"
    ):
        prepare_reward_model(config_of(tmp_path, model, rows), print)
    rows[1]["rejected"] = "2" * 3000
    with pytest.raises(ConfigError, match=r"rows\.jsonl:2 has one text both in 'chosen' and in 'rejected'"):
        prepare_reward_model(config_of(tmp_path, model, rows), print)


def test_steps_of_one_label_teach_nothing(tmp_path: Path, model: Path) -> None:
    rows = [{**row, "labels": [1, None]} for row in STEPS]
    with pytest.raises(
        ConfigError, match=r"all steps in .*rows\.jsonl \(data\.path\) have the label 1, and a model learns"
    ):
        prepare_reward_model(config_of(tmp_path, model, rows), print)


def test_rows_that_are_trained_on_and_held_out_are_said(tmp_path: Path, model: Path) -> None:
    found = prepare_reward_model(config_of(tmp_path, model, PAIRS, "eval.rows=-2:", "eval.every=1"), print)
    assert found.about[-1].startswith("2 of the 2 held-out rows are trained on too")


def test_what_is_written_is_read_again(tmp_path: Path, model: Path) -> None:
    config = config_of(tmp_path, model, PAIRS, "learner.adapter.rank=4", "run.steps=7")
    config.write(tmp_path)
    again = load_settings(RewardModelConfig, tmp_path / "config.toml")
    assert (again.run.steps, again.learner.adapter.rank, again.learner.batch) == (7, 4, 64)


def test_the_layout_has_ranks_alone(tmp_path: Path, model: Path) -> None:
    run = config_of(tmp_path, model, PAIRS, "cluster.learner_ranks=2").as_run.without_sampling()
    layout = plan_layout(wanted_of(run, on_gpu=True), {"a": Node.unused({"CPU": 4.0, "GPU": 2.0})})
    assert [bundle.actors for bundle in layout.bundles] == [("learner-rank-0", "learner-rank-1")]
    assert layout.verifiers == 0

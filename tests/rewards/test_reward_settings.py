"""The section [reward]: rewards by name, each with the settings of its kind."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rewards import RewardSettings
from rewards.models.scoring import ModelSettings
from rewards.queries.sql import SqlSettings
from tests.tables import each

TWO_MODELS: dict[str, Any] = {
    "name": "total",
    "total": {"kind": "sum", "weights": {"safe": 0.3, "helpful": 0.7}},
    "safe": {"kind": "model", "path": "/models/safe"},
    "helpful": {"kind": "model", "path": "/models/helpful"},
}


def test_two_rewards_of_one_kind_are_in_a_run() -> None:
    settings = RewardSettings.model_validate(TWO_MODELS)
    assert settings.leaves("total") == {
        "safe": ModelSettings(kind="model", path="/models/safe"),
        "helpful": ModelSettings(kind="model", path="/models/helpful"),
    }
    assert settings.leaves("safe") == {"safe": ModelSettings(kind="model", path="/models/safe")}
    assert settings.names[-3:] == ("total", "safe", "helpful")


def test_a_section_with_the_name_of_a_kind_is_of_that_kind_and_a_kind_needs_none() -> None:
    settings = RewardSettings.model_validate({"sql": {"databases": "/data"}})
    assert settings.of("sql") == SqlSettings(kind="sql", databases="/data")
    assert settings.of("math").kind == "math"
    with pytest.raises(KeyError):
        settings.of("maths")


def test_settings_travel_and_are_written_as_they_were_read() -> None:
    settings = RewardSettings.model_validate(TWO_MODELS)
    assert pickle.loads(pickle.dumps(settings)) == settings
    written = settings.model_dump(mode="json")
    assert written["safe"] == {"kind": "model", "path": "/models/safe", "device": "auto"}
    assert RewardSettings.model_validate(written) == settings


@each(
    ("tree", "message"),
    [
        ({"safe": {"kind": "modl"}}, "reward.safe.kind must be one of exact, choice"),
        ({"safe": {"kind": "modl"}}, "got 'modl'"),
        ({"safe": {"path": "x"}}, "reward.safe needs a kind, because 'safe' is none"),
        ({"name": "x", "x": {"kind": "mean"}}, "sum, product, shaped, consistent, got 'mean'"),
        (
            {"sql": {"kind": "model"}},
            "reward.sql has the name of a kind and must be of it, got reward.sql.kind = 'model'",
        ),
        ({"seconds": {"kind": "model"}}, "reward.seconds is a setting of all rewards and cannot name one"),
        ({"name": "safe"}, "reward.name must be one of exact, choice"),
        ({"name": "total", "total": {"kind": "sum", "weights": {"sage": 1.0}}}, "'sage', which is no reward"),
        (
            TWO_MODELS | {"name": "all", "all": {"kind": "sum", "weights": {"total": 1.0}}},
            "names 'total': a combination cannot be a part",
        ),
        (TWO_MODELS | {"wrong": 0.0}, "reward.wrong must be minus reward.correct"),
        ({"math": {"partial": 0.1}, "wrong": 0.0}, "reward.wrong must be minus reward.correct"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused_with_its_name_and_value(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        RewardSettings.model_validate(tree)
    assert message in str(refusal.value)


def test_a_reward_wants_groups_where_its_file_compares_them_alone_or_in_a_combination(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def reward_group(responses, reference, prompt):\n    return [1] * len(responses)\n")
    tree = {"mine": {"kind": "own", "file": str(file)}, "both": {"kind": "sum", "weights": {"mine": 1, "number": 1}}}
    settings = RewardSettings.model_validate(tree)
    assert [settings.wants_group(name) for name in ("mine", "both", "number")] == [True, True, False]
    plain = tmp_path / "plain.py"
    plain.write_text("def reward(response, reference, prompt):\n    return reward_group\n")
    assert not RewardSettings.model_validate({"own": {"file": str(plain)}}).wants_group("own")
    assert not RewardSettings.model_validate({"own": {"file": "none.py"}}).wants_group("own")


def test_a_reward_tells_whether_it_gives_span_rewards() -> None:
    assert not RewardSettings.model_validate(TWO_MODELS).gives_spans
    assert RewardSettings.model_validate({"name": "process", "process": {"path": "x"}}).gives_spans

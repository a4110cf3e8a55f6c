"""Settings that may change when a run goes on, and those that may not."""

import pytest

from cluster.config.changes import CHANGEABLE, REASONS, Change, changes
from cluster.config.described import settings
from cluster.config.reading import config_of, load_run, to_toml
from cluster.config.run_config import RunConfig

BASE = {"model": {"path": "m"}, "data": {"path": "d.jsonl"}}


def changed(**sections: dict) -> dict[str, Change]:
    tree = {name: BASE.get(name, {}) | section for name, section in (BASE | sections).items()}
    return {change.name: change for change in changes(config_of(BASE), config_of(tree))}


def test_without_a_change_nothing_is_said() -> None:
    assert changed() == {}


def test_how_long_and_where_a_run_runs_may_change_and_is_said_in_a_line() -> None:
    found = changed(run={"steps": 300}, cluster={"verifiers": 3}, learner={"lr": 1e-5})
    assert all(change.allowed for change in found.values())
    assert [change.line for change in found.values()] == [
        "cluster.verifiers: unset → 3",
        "learner.lr: 1e-06 → 1e-05",
        "run.steps: 100 → 300",
    ]


@pytest.mark.parametrize(
    ("section", "value", "refusal"),
    [
        ("model", {"path": "other"}, r"model\.path: 'm' → 'other' cannot change .*: weights, optimizer"),
        ("learner", {"algorithm": "grpo"}, r"learner\.algorithm: .* trained by it"),
        ("learner", {"zero_stage": 3}, r"learner\.zero_stage: 2 → 3 cannot change .* as this stage shares it out"),
        ("objective", {"clip_high": 0.3}, r"objective\.clip_high: unset → 0\.3 cannot change"),
        ("rollout", {"group_size": 4}, r"rollout\.group_size: 8 → 4 cannot change"),
        ("rollout", {"max_staleness": 1}, r"rollout\.max_staleness: .* were admitted by it"),
        ("run", {"seed": 7}, r"run\.seed: .* which prompts come next"),
        ("run", {"name": "x"}, r"run\.name: .* stays in its folder"),
        ("reward", {"name": "math"}, r"reward\.name: .* cannot change"),
    ],
)
def test_what_training_came_about_by_cannot_change(section: str, value: dict, refusal: str) -> None:
    import re

    (change,) = changed(**{section: value}).values()
    assert not change.allowed
    assert re.search(refusal, change.refusal)


def test_data_files_may_move_and_keep_their_shares() -> None:
    def of(path: object) -> dict[str, Change]:
        tree = BASE | {"data": {"path": path}}
        before = config_of(BASE | {"data": {"path": {"a.jsonl": 3, "b.jsonl": 1}}})
        return {change.name: change for change in changes(before, config_of(tree))}

    assert all(change.allowed for change in of({"moved/a.jsonl": 6, "moved/b.jsonl": 2}).values())
    changed = [change for change in of({"a.jsonl": 1, "b.jsonl": 1}).values() if not change.allowed]
    assert [change.refusal for change in changed] == [
        "data.path, as shares: [0.75, 0.25] → [0.5, 0.5] cannot change in a run that goes on: the run goes on in the "
        "order of its own prompts"
    ]


def test_every_pattern_and_every_reason_is_of_a_setting_that_there_is() -> None:
    names = [f"{section}{'' if section.endswith('.') else '.'}{key}" for section, _, key, _ in settings()]
    for pattern in CHANGEABLE:
        assert any(name.startswith(pattern.partition("*")[0].rstrip(".")) for name in names), pattern
    for beginning in REASONS:
        assert any(name.startswith(beginning) for name in names), beginning


def test_the_settings_of_a_run_in_a_built_in_world_are_read_back_without_what_the_world_set(tmp_path) -> None:
    config = config_of({"world": {"name": "addition"}, "run": {"steps": 3}})
    written = config.model_copy(
        update={
            "model": config.model.model_copy(update={"path": "w/model", "control_tokens": ("a", "b")}),
            "data": config.data.model_copy(update={"path": "w/prompts.jsonl"}),
            "eval": config.eval.model_copy(update={"path": "w/heldout.jsonl"}),
        }
    )
    (tmp_path / "config.toml").write_text(to_toml(written))
    before, now = load_run(tmp_path, ["run.steps=5"])
    assert isinstance(before, RunConfig)
    assert before == config
    assert [change.line for change in changes(before, now)] == ["run.steps: 3 → 5"]

from pathlib import Path

import pytest

from cluster.config import ConfigError, config_of, load_config, to_toml

RUNS = Path(__file__).parents[1] / "deploy" / "runs"
WORLD = {"world": {"name": "addition"}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"learner": {"algoritm": "grpo"}}, "unknown setting learner.algoritm, did you mean learner.algorithm?"),
        ({"lerner": {}}, "unknown setting lerner, did you mean learner?"),
        ({"learner": {"algorithm": "grop"}}, "learner.algorithm must be one of raft, raft++, reinforce"),
        ({"rollout": {"group_size": 1}}, "rollout.group_size must be at least 2 for learner.algorithm"),
        ({"rollout": {"group_size": "many"}}, "rollout.group_size: input should be a valid integer"),
        ({"rollout": {"groups_per_step": 0}}, "rollout.groups_per_step must be at least 1, got 0"),
        ({"rollout": {"top_p": 0.9}}, "rollout.top_p must stay 1 for training, got 0.9"),
        ({"rollout": {"top_k": 5}}, "rollout.top_k must stay 0 for training, got 5"),
        ({"rollout": {"min_p": 0.1}}, "rollout.min_p must stay 0 for training, got 0.1"),
        ({"reward": {"name": "vibes"}}, "reward.name must be one of exact, number, got 'vibes'"),
        ({"data": {"template": "no place"}}, "data.template must contain {prompt}, got 'no place'"),
        ({"data": {"path": "x.jsonl"}}, "world.name = 'addition' brings its own data and model"),
        ({"world": {"name": ""}}, "model.path must be set"),
        ({"world": {"name": ""}, "model": {"path": "m"}}, "data.path must be set"),
        ({"learner": {"updates_per_step": 65}}, "learner.updates_per_step must be at most"),
        ({"cluster": {"learner_ranks": 65}}, "cluster.learner_ranks x learner.updates_per_step must be at most"),
        ({"cluster": {"colocate": True, "generators": 2}}, "cluster.colocate needs one single-GPU generator"),
        ({"run": {"name": "a/b"}}, "run.name must be a plain folder name, got 'a/b'"),
    ],
)
def test_a_mistake_is_named_with_its_value(tree: dict, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        config_of(WORLD | tree)
    assert message in str(failure.value)


def test_an_override_is_read_like_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[world]\nname = "addition"\n')
    config = load_config(file, ["rollout.group_size=4", "learner.lr=3e-4", "run.name=night", "cluster.colocate=false"])
    assert (config.rollout.group_size, config.learner.lr, config.run.name) == (4, 3e-4, "night")


@pytest.mark.parametrize("override", ["group_size=4", "rollout.group_size", "=3", "rollout.=3"])
def test_an_override_of_another_form_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_config(RUNS / "demo.toml", [override])


def test_a_missing_or_broken_run_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no run file .*none\.toml"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[run\n")
    with pytest.raises(ConfigError, match=r"bad\.toml is not TOML"):
        load_config(tmp_path / "bad.toml")


@pytest.mark.parametrize("path", sorted(RUNS.glob("**/[!_]*.toml")), ids=lambda path: path.name)
def test_every_run_file_is_valid_and_the_resolved_config_reads_back_equal(path: Path, tmp_path: Path) -> None:
    inputs = (
        []
        if path.name == "demo.toml" or path.parent.name == "paper"
        else ["model.path=somewhere", "data.path=train.jsonl"]
    )
    config = load_config(path, inputs)
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert load_config(tmp_path / "config.toml") == config


def test_there_are_at_most_eighty_settings_beside_the_pieces_of_the_objective() -> None:
    sections = dict(type(load_config(RUNS / "demo.toml")).model_fields)
    del sections["objective"]
    assert sum(len(section.annotation.model_fields) for section in sections.values()) <= 80

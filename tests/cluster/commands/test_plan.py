"""Plans for clusters that are not here."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.commands.plan import plan_on
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.placement.imagined import ImaginedCluster
from tests.tables import each

TINY = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def run(folder: Path, sections: Mapping[str, object] | None = None, **cluster: object) -> RunConfig:
    (folder / "config.json").write_text(json.dumps(TINY))
    return config_of(
        {
            "model": {"path": str(folder)},
            "data": {"path": "not-there.jsonl"},
            "rollout": {"max_new_tokens": 64},
            "learner": {"micro_batch_tokens": 256},
            "cluster": cluster,
            **(sections or {}),
        }
    )


def test_a_config_json_is_enough_to_plan_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    said = plan_on(run(tmp_path, learner_ranks=2, generators=2), ImaginedCluster.of("2x2x80"))
    assert said.startswith("on 2 nodes, each with 2 GPUs of 80 GiB and 32 CPUs; nothing of it is looked at\n")
    assert "prompts are not read: 192 tokens are counted for each, and 64 for its response" in said
    assert (
        "learner and generators compute in bfloat16, on GPUs; attention by varlen, activations computed again" in said
    )
    assert "memory of a learner rank, GiB (a GPU has 80.0 GiB):" in said
    assert "memory of an engine on each of its GPUs, GiB (it may have 0.85 of a GPU = 68.0 GiB):" in said


MINE = {"file": "mine.py"}
BOTH = {"kind": "sum", "weights": {"number": 1, "own": 1}}


@each(
    ("sections", "said", "unused"),
    [
        ({}, "number", ()),
        ({"reward": {"own": MINE}}, "number", ("own",)),
        ({"reward": {"name": "own", "own": MINE}}, "own (mine.py)", ()),
        ({"reward": {"name": "both", "both": BOTH, "own": MINE}}, "both of number, own (mine.py)", ()),
        ({"reward": {"both": BOTH, "own": MINE, "model": {"path": "/m"}}}, "number", ("both", "own")),
        (
            {"reward": {"own": MINE}, "data": {"path": "not-there.jsonl", "reward_column": "kind"}},
            "that column 'kind' of each row names",
            (),
        ),
    ],
)
def test_a_plan_says_what_grades_and_warns_of_a_section_that_does_not(
    tmp_path: Path, sections: Mapping[str, object], said: str, unused: tuple[str, ...]
) -> None:
    told = plan_on(run(tmp_path, sections), ImaginedCluster.of("2x80")).splitlines()
    assert f"graded by the reward {said}" in told
    warned = [line for line in told if line.startswith("warning")]
    assert [line.partition(" grades nothing: ")[0] for line in warned] == [
        f"warning: [reward.{name}]" for name in unused
    ]


def test_a_cluster_that_is_too_small_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no room for"):
        plan_on(run(tmp_path, learner_ranks=2, generators=2), ImaginedCluster.of("3x80"))
    with pytest.raises(ConfigError, match=r"a learner rank needs about .* and a GPU has 2\.5 GiB"):
        plan_on(run(tmp_path), ImaginedCluster.of("2x2.5"))


def test_a_described_cluster_is_only_for_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.toml").write_text(f'model.path = "{tmp_path}"\ndata.path = "x.jsonl"\n')
    assert main(["train", str(tmp_path / "run.toml"), "--on", "8x80"]) == 2
    assert "use it with --plan" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="built-in world"):
        plan_on(config_of({"world": {"name": "addition"}}), ImaginedCluster.of("8x80"))

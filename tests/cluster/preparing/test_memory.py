from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.preparing.memory import GIB, Memory, check_memory, learner_bytes


def config(tmp_path: Path, **learner: object) -> RunConfig:
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    save_file({"weight": np.zeros((5, 100), np.float32)}, model / "model.safetensors")
    (model / "consolidated.safetensors").write_bytes(b"the same weights again, as some folders have them")
    tree = {"model": {"path": str(model), "dtype": "bfloat16"}, "data": {"path": "x"}, "learner": learner}
    return config_of(tree | {"cluster": {"learner_ranks": 4}, "rollout": {"groups_per_step": 8}})


@pytest.mark.parametrize(
    ("algorithm", "stage", "expected"),
    [
        # 500 parameters in bfloat16: 2 + 2 + 12 bytes each trained, 2 frozen, and a fifth more for the rest
        ("reinforce-rej", 0, 1.2 * 500 * (16 + 2)),
        ("reinforce-rej", 1, 1.2 * 500 * (2 + 2 + 12 / 4 + 2)),
        ("reinforce-rej", 3, 1.2 * 500 * (16 + 2) / 4),
        ("ppo", 0, 1.2 * 500 * (2 * 16 + 2)),
    ],
)
def test_the_estimate_counts_models_and_what_zero_shards(
    algorithm: str, stage: int, expected: float, tmp_path: Path
) -> None:
    assert learner_bytes(config(tmp_path, algorithm=algorithm, zero_stage=stage), 1000) == pytest.approx(
        expected, abs=2
    )


def test_a_critic_too_many_is_a_sentence_and_not_a_killed_process(tmp_path: Path) -> None:
    small = Memory(where="a GPU", size=12_000)
    check_memory(config(tmp_path, zero_stage=0), small)
    with pytest.raises(ConfigError, match=r"'ppo' needs about .* \(policy, critic, starting policy\), and a GPU has"):
        check_memory(config(tmp_path, algorithm="ppo", zero_stage=0), small)
    check_memory(config(tmp_path, algorithm="ppo", zero_stage=0), Memory(where="a GPU", size=GIB))
    check_memory(config(tmp_path, algorithm="ppo", zero_stage=0), Memory(where="this machine", size=0))

from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.evaluating.words import Words, cluster_address


def test_data_run_files_and_settings_are_told_apart() -> None:
    words = Words.of(
        [
            "/data/a=b/math500.jsonl",
            "hard=/x.toml.jsonl",
            "more.toml",
            "rollout.temperature=0.6",
            "reward.my-own.file=a.py",
            "hf://datasets/openai/gsm8k/main/test-*.parquet",
        ]
    )
    assert words.files == (Path("more.toml"),)
    assert words.overrides == ("rollout.temperature=0.6", "reward.my-own.file=a.py")
    assert words.benchmarks == {
        "math500": "/data/a=b/math500.jsonl",
        "hard": "/x.toml.jsonl",
        "test": "hf://datasets/openai/gsm8k/main/test-*.parquet",
    }


def test_two_benchmarks_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"two benchmarks would be called 'test', a/test\.jsonl and b/test\.jsonl"):
        Words.of(["a/test.jsonl", "b/test.jsonl"])
    assert set(Words.of(["a/test.jsonl", "other=b/test.jsonl"]).benchmarks) == {"test", "other"}


def test_the_cluster_that_an_evaluation_joins_is_known_beforehand(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[cluster]\naddress = "ray://there"\n')
    (tmp_path / "mine.toml").write_text('[cluster]\naddress = "ray://mine"\n')
    nothing = Words.of(())
    assert cluster_address(str(tmp_path), nothing) == "ray://there"
    assert cluster_address(str(tmp_path / "checkpoints" / "step-4"), nothing) == "ray://there"
    assert cluster_address(str(tmp_path), Words.of([str(tmp_path / "mine.toml")])) == "ray://mine"
    assert cluster_address(str(tmp_path), Words.of(["cluster.address="])) == ""
    assert cluster_address("hf://a/b", nothing) == ""

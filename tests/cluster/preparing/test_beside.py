"""Frozen models beside the policy that say nothing of its tokens are refused before Ray starts."""

import json
from pathlib import Path

import pytest

from actors.data.world import ALPHABET, write_addition
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.preparing.preflight import prepare
from learner.models.tiny import write_tiny_model
from tests.teachers import served


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_addition(folder, digits=2, prompts=20, worked=5, seed=0)
    write_tiny_model(folder / "model", alphabet=ALPHABET, seed=0)
    write_tiny_model(folder / "larger", alphabet=ALPHABET, heads=8, seed=0)
    write_tiny_model(folder / "reversed", alphabet=ALPHABET[::-1], seed=0)
    write_tiny_model(folder / "without", alphabet=ALPHABET.replace("7", ""), seed=0)
    return folder


def config(world: Path, teacher: Path, algorithm: str = "distill") -> RunConfig:
    path = {"distill": "teacher_path", "rto": "tuned_path"}[algorithm]
    return config_of(
        {
            "model": {"path": str(world / "model")},
            "data": {"path": str(world / "prompts.jsonl")},
            "rollout": {"max_new_tokens": 32},
            "learner": {"algorithm": algorithm, path: str(teacher)},
        }
    )


def test_a_larger_model_of_the_same_vocabulary_may_teach_and_its_memory_is_counted(world: Path) -> None:
    plan = prepare(config(world, world / "larger")).memory
    assert plan is not None
    sizes = {term.name: term.size for term in plan.learner.terms}
    assert sizes["teacher"] > sizes["weights"]


@pytest.mark.parametrize("algorithm", ["distill", "rto"])
@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("reversed", f"{ALPHABET[0]!r} is token 0 there and token {len(ALPHABET) - 1} here"),
        ("without", "'7' is token"),
        ("nowhere", "there is no model folder"),
    ],
)
def test_other_vocabularies_are_refused(world: Path, folder: str, message: str, algorithm: str) -> None:
    with pytest.raises(ConfigError) as failure:
        prepare(config(world, world / folder, algorithm))
    assert message in str(failure.value)
    assert str(world / folder) in str(failure.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_position_embeddings": 16}, "holds 16 tokens, and a prompt and its response may have 65"),
        ({"vocab_size": 40}, "has logits for 40 tokens and the policy for 64"),
    ],
)
def test_a_model_that_cannot_hold_what_the_policy_says_is_refused(
    world: Path, tmp_path: Path, change: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.preparing.preflight.check_policy", lambda *_: None)  # the weights have other shapes
    for file in (world / "model").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    read = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(read | change))
    with pytest.raises(ConfigError) as failure:
        prepare(config(world, tmp_path))
    assert message in str(failure.value)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("larger", ""),
        ("reversed", "has another vocabulary than model.path"),
        ("without", "has another vocabulary than model.path"),
    ],
)
def test_a_teacher_at_an_endpoint_is_asked_what_it_makes_of_a_text(
    world: Path, folder: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(world / folder, monkeypatch) as server:
        asked = config(world, Path("nowhere")).model_dump(exclude_unset=True)
        asked["learner"]["teacher_path"] = server.url
        if not message:
            memory = prepare(config_of(asked)).memory
            assert memory is not None
            assert "teacher" not in {term.name for term in memory.learner.terms}
            return
        with pytest.raises(ConfigError, match=message):
            prepare(config_of(asked))


@pytest.mark.parametrize(
    ("holds", "names", "logits", "message"),
    [
        (
            65,
            ["m"],
            64,
            "holds 65 tokens, and is asked about a prompt and its response, 65 at most, and one token more",
        ),
        (66, ["m"], 40, "does not take token 63, which the policy may sample"),
        (66, ["a", "b"], 64, "serves a, b: name one of them"),
    ],
)
def test_a_teacher_at_an_endpoint_that_cannot_serve_is_refused(
    world: Path, holds: int, names: list, logits: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(world, Path("nowhere")).model_dump(exclude_unset=True)
    with served(world / "model", monkeypatch) as server:
        server.holds, server.names, server.lm.config.vocab_size = holds, names, logits
        asked["learner"]["teacher_path"] = server.url
        with pytest.raises(ConfigError, match=message):
            prepare(config_of(asked))


def test_a_teacher_at_an_endpoint_knows_no_other_temperature(world: Path) -> None:
    asked = config(world, Path("nowhere")).model_dump(exclude_unset=True)
    asked["learner"]["teacher_path"] = "http://127.0.0.1:1/v1"
    asked["rollout"]["temperature"] = 0.7
    with pytest.raises(ConfigError, match=r"rollout.temperature must be 1 where learner.teacher_path is an endpoint"):
        config_of(asked)

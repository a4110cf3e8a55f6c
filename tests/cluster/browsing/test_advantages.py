"""Advantages are those of the run's algorithm where they follow from the scores, and else are not made up."""

from pathlib import Path

import numpy as np
import pytest

from cluster.browsing.advantages import advantages_of, crediting_of
from cluster.browsing.folder import RunFolder
from learner.methods.algorithms import ALGORITHMS
from tests.builders import group, in_sets

SETTINGS = {
    "learner": {"algorithm": "grpo", "lr": 1e-6, "of another version": 1},
    "reward": {"wrong": -1.0, "correct": 1.0},
    "rollout": {"max_new_tokens": 64},
}


def crediting(algorithm: str = "grpo", **sections: dict[str, object]) -> RunFolder:
    return RunFolder(path=Path(), settings={**SETTINGS, "learner": {"algorithm": algorithm}, **sections})


def test_a_response_that_was_trained_on_has_the_advantage_that_the_driver_plans() -> None:
    found = advantages_of(group([1.0, -1.0, None, -1.0]), [""] * 4, crediting_of(crediting()))
    assert found.values == pytest.approx((1.1547, -0.5774, None, -0.5774), abs=1e-4)
    assert "as grpo does" in found.why
    raw = advantages_of(group([1.0, -1.0]), [""] * 2, crediting_of(crediting("reinforce-rej")))
    assert raw.values == (1.0, -1.0)


def test_what_a_run_replaces_of_its_algorithm_counts() -> None:
    run = crediting(objective={"credit": "leave-one-out"})
    assert advantages_of(group([1.0, -1.0]), [""] * 2, crediting_of(run)).values == (2.0, -2.0)


def test_sets_of_siblings_have_their_own_and_those_that_were_refused_none() -> None:
    sets = in_sets(group([1.0, -1.0, 1.0, 1.0]), "aabb")
    found = advantages_of(sets, ["", "", "all_correct", "all_correct"], crediting_of(crediting()))
    assert found.values == pytest.approx((np.sqrt(0.5), -np.sqrt(0.5), None, None))


def test_the_others_have_their_advantage_among_all_where_one_is_spare() -> None:
    found = advantages_of(group([1.0, -1.0, -1.0, -1.0]), ["", "", "", "spare"], crediting_of(crediting()))
    assert found.values == pytest.approx((1.5, -0.5, -0.5, None))


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (RunFolder(path=Path(), settings={}), "there is no config.toml with learner.algorithm"),
        (crediting("ppo"), "ppo makes them on the learner's ranks"),
        (crediting("of-tomorrow"), "this version of winnow does not know the run's settings"),
        (crediting(objective={"of tomorrow": 1}), "this version of winnow does not know the run's settings"),
        (crediting(learner={"algorithm": "mine", "file": "mine.py"}), "mine.py (learner.file), which this page does"),
        (crediting(rollout={}), "this version of winnow does not know the run's settings"),
    ],
)
def test_where_they_are_not_known_it_is_said_why(run: RunFolder, why: str) -> None:
    found = advantages_of(group([1.0, -1.0]), ["", ""], crediting_of(run))
    assert found.values == (None, None)
    assert why in found.why


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_has_advantages_or_a_reason(name: str) -> None:
    found = advantages_of(group([1.0, -1.0, 1.0]), [""] * 3, crediting_of(crediting(name)))
    assert found.why.endswith(".")
    assert (found.values == (None,) * 3) == (ALGORITHMS[name].credits_on_rank or name == "rae")

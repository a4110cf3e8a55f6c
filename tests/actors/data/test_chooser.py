"""The posterior over pass rates, and what choosing by it saves where pass rates are skewed."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.data.chooser import DECAY, PRIOR, Chooser
from actors.data.source import PromptSource
from actors.filtering.rules import drop_both
from actors.rollouts.rollout import decided
from actors.settings import RolloutSettings
from tests.builders import prompt, summary

COUNTS = st.integers(0, 60)


def beta(a: float, b: float) -> float:
    return math.exp(math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))


@given(COUNTS, COUNTS, st.integers(1, 16))
def test_the_chance_of_a_mixed_group_is_the_sum_over_its_counts(correct: int, wrong: int, size: int) -> None:
    chooser = Chooser(group_size=size)
    chooser.observe("a", correct, wrong, version=3)
    a, b = PRIOR + correct, PRIOR + wrong
    ways = (math.comb(size, k) * beta(a + k, b + size - k) / beta(a, b) for k in range(1, size))
    assert chooser.chance("a") == pytest.approx(sum(ways) if size > 1 else 0.0, abs=1e-9)


def test_the_undecided_come_before_the_unseen_and_these_before_the_solved_and_the_failed() -> None:
    chooser = Chooser(group_size=8)
    chooser.observe("undecided", 4, 4, version=0)
    chooser.observe("solved", 8, 0, version=0)
    chooser.observe("failed", 0, 8, version=0)
    chances = [chooser.chance(name) for name in ("undecided", "unseen", "solved", "failed")]
    assert chances == pytest.approx([0.955, 0.607, 0.287, 0.287], abs=1e-3)


def test_verdicts_fade_as_the_policy_moves_on_until_a_retired_prompt_counts_as_unseen() -> None:
    chooser = Chooser(group_size=8)
    chooser.observe("solved", 16, 0, version=0)
    chances = []
    for version in (0, 10, 40, 400):
        chooser.observe("other", 1, 1, version=version)
        chances.append(chooser.chance("solved"))
    assert chances == sorted(chances)
    assert chances[0] < 0.2
    assert chances[-1] == pytest.approx(chooser.chance("unseen"), abs=1e-6)
    chooser.observe("solved", 0, 8, version=400)
    fresh = Chooser(group_size=8)
    fresh.observe("solved", 16 * DECAY**400, 8, version=0)
    assert chooser.chance("solved") == pytest.approx(fresh.chance("solved"))


def test_a_prompt_is_passed_over_the_more_often_the_likelier_it_is_alike_and_never_for_certain() -> None:
    chooser = Chooser(group_size=8, skips=True)
    chooser.observe("undecided", 4, 4, version=0)
    chooser.observe("once", 8, 0, version=0)
    chooser.observe("twice", 0, 16, version=0)
    chooser.observe("always", 8000, 0, version=0)
    kept = [chooser.keeps(name) for name in ("unseen", "undecided", "once", "twice")]
    assert kept == pytest.approx([1.0, 1.0, 0.473, 0.299], abs=1e-3)
    assert 0 < chooser.keeps("always") < 0.001
    assert Chooser(group_size=1, skips=True).keeps("any") == 1.0  # a group of one is never mixed


def test_a_prompt_rests_until_as_many_versions_as_the_cooldown_have_passed() -> None:
    chooser = Chooser(group_size=8, cooldown=2)
    rests = []
    for version in range(4):
        chooser.observe("a" if version == 0 else "b", 4, 4, version)
        rests.append((chooser.rests("a"), chooser.rests("never seen")))
    assert rests == [(True, False), (True, False), (False, False), (False, False)]
    chooser = Chooser(group_size=8)
    chooser.observe("a", 4, 4, version=0)
    assert not chooser.rests("a")


def test_the_settings_say_which_chooser_there_is() -> None:
    assert Chooser.of(RolloutSettings(), [prompt()]) is None
    found = {
        choose: Chooser.of(RolloutSettings(choose=choose, cooldown=1), [prompt("a")])
        for choose in ("likely-mixed", "predicted-mixed", "skip-alike")
    }
    for chooser in found.values():
        chooser.observe("a", 1, 1, version=0)
        assert chooser.rests("a")
    assert {name: (one.skips, bool(one.save().weights)) for name, one in found.items()} == {
        "likely-mixed": (False, False),
        "predicted-mixed": (False, True),
        "skip-alike": (True, False),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Answers right with a probability that follows from the prompt's difficulty and rises with the steps."""

    difficulties: tuple[float, ...]

    def score(self, prompt_id: str, step: int, draw: random.Random) -> float:
        rate = 1 / (1 + math.exp(self.difficulties[int(prompt_id)] - 0.1 * step))
        return 1.0 if draw.random() < rate else -1.0


def responses_per_kept_group(seed: int, rollout: RolloutSettings, steps: int = 40, wanted: int = 16) -> float:
    """Of a training run in miniature on prompts most of which are solved or out of reach; their token says which."""
    draw = random.Random(seed)
    policy = Policy(difficulties=tuple(draw.gauss(0, 6) for _ in range(256)))
    prompts = [prompt(str(n), [50 + round(difficulty)]) for n, difficulty in enumerate(policy.difficulties)]
    source = PromptSource(prompts, seed, Chooser.of(rollout, prompts))
    responses = 0
    for step in range(steps):
        kept = 0
        while kept < wanted:
            for one, _ in source.take(wanted - kept):
                scores = in_rounds(rollout, partial(policy.score, one.id, step, draw))
                responses += len(scores)
                kept += len(set(scores)) == 2
                source.graded(replace(summary(scores), prompt_id=one.id, oldest_version=step))
    return responses / (steps * wanted)


def in_rounds(rollout: RolloutSettings, answer: Callable[[], float]) -> list[float]:
    """The scores of a group, as a generator would have them."""
    scores: list[float] = []
    for _ in range(rollout.rounds.most if rollout.rounds.size else 0):
        scores += [answer() for _ in range(rollout.rounds.size)]
        if not decided(scores, drop_both, rollout.rounds.enough):
            break
    if scores and decided(scores, drop_both):
        return scores
    return scores + [answer() for _ in range(rollout.group_size - len(scores))]


HALVES = {"size": 4}


@cache
def uniform() -> float:
    return sum(responses_per_kept_group(seed, RolloutSettings()) for seed in range(2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({"choose": "likely-mixed", "rounds": HALVES}, 0.6),
        ({"choose": "predicted-mixed", "rounds": HALVES}, 0.6),
        ({"choose": "skip-alike"}, 0.9),
        ({"rounds": HALVES}, 0.95),
    ],
)
def test_choices_and_rounds_spare_responses_where_pass_rates_are_skewed(settings: dict, most: float) -> None:
    spared = sum(responses_per_kept_group(seed, RolloutSettings(**settings)) for seed in range(2))
    assert spared <= most * uniform()

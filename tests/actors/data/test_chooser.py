"""The posterior over pass rates, and what choosing by it saves where pass rates are skewed."""

import math
import random
from dataclasses import dataclass, replace

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

    def right(self, prompt_id: str, step: int, draw: random.Random) -> bool:
        return draw.random() < 1 / (1 + math.exp(self.difficulties[int(prompt_id)] - 0.1 * step))


def responses_per_kept_group(seed: int, *, chosen: bool, steps: int = 40, wanted: int = 16, size: int = 8) -> float:
    """Of a training run in miniature on prompts most of which are solved or out of reach."""
    draw = random.Random(seed)
    policy = Policy(difficulties=tuple(draw.gauss(0, 6) for _ in range(256)))
    prompts = [prompt(str(number)) for number in range(256)]
    source = PromptSource(prompts, seed, chooser=Chooser(group_size=size) if chosen else None)
    responses = 0
    for step in range(steps):
        kept = 0
        while kept < wanted:
            for one, _ in source.take(wanted - kept):
                scores = [1.0 if policy.right(one.id, step, draw) else -1.0 for _ in range(size)]
                if chosen and decided(scores[:4], drop_both):
                    scores = scores[:4]
                responses += len(scores)
                kept += len(set(scores)) == 2
                source.graded(replace(summary(scores), prompt_id=one.id, oldest_version=step))
    return responses / (steps * wanted)


@pytest.mark.slow
def test_choosing_and_two_stages_spare_two_responses_of_five_where_pass_rates_are_skewed() -> None:
    uniform, chosen = (sum(responses_per_kept_group(s, chosen=c) for s in range(4)) for c in (False, True))
    assert chosen <= 0.6 * uniform

import json
from collections import Counter
from dataclasses import asdict, replace

import pytest

from actors.data.chooser import Chooser
from actors.data.source import PromptSource
from actors.settings import RolloutSettings
from actors.types import PromptVisit, Summary
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from tests.builders import prompt, summary


def test_every_pass_deals_every_prompt_once_in_an_order_of_its_own() -> None:
    source = PromptSource([prompt(str(number)) for number in range(7)], seed=1)
    dealt = source.take(5) + source.take(9)
    assert Counter(one.id for one, _ in dealt) == {str(number): 2 for number in range(7)}
    assert [visit for _, visit in dealt] == [0] * 7 + [1] * 7
    assert [one.id for one, _ in dealt[:7]] != [one.id for one, _ in dealt[7:]]


def test_a_source_goes_on_where_another_stopped() -> None:
    prompts = [prompt(str(number)) for number in range(5)]
    whole = [one.id for one, _ in PromptSource(prompts, seed=2).take(12)]
    first = PromptSource(prompts, seed=2)
    ids = [one.id for one, _ in first.take(4)]
    following = PromptSource(prompts, seed=2)
    following.restore(first.save())
    ids += [one.id for one, _ in following.take(8)]
    assert ids == whole


def test_prompts_of_interrupted_groups_are_dealt_again_first_with_their_visits() -> None:
    prompts = [prompt(str(number)) for number in range(3)]
    first, following = PromptSource(prompts, seed=2), PromptSource(prompts, seed=2)
    dealt = first.take(5)
    interrupted = [PromptVisit(prompt_id=one.id, visit=visit) for one, visit in (dealt[1], dealt[4])]
    following.restore(first.save(), interrupted)
    (again,) = following.take(1)
    assert (again[0].id, again[1]) == (dealt[1][0].id, 0)
    third = PromptSource(prompts, seed=2)
    third.restore(following.save())  # before the second of them was dealt again
    names = [(one.id, visit) for one, visit in third.take(3)]
    assert names == [(dealt[4][0].id, 1), *((one.id, visit) for one, visit in first.take(2))]


@pytest.mark.parametrize("skips", [False, True])
def test_a_source_with_a_chooser_goes_on_with_what_the_other_one_had_seen(skips: bool) -> None:
    prompts = [prompt(str(number)) for number in range(16)]
    first, following = (PromptSource(prompts, 3, Chooser(group_size=4, skips=skips, cooldown=1)) for _ in range(2))
    for step in range(3):
        for number, (one, _) in enumerate(first.take(4)):
            first.graded(replace(graded(one.id, 1.0, 1.0 if number % 2 else -1.0), oldest_version=step))
    following.restore(first.save())
    assert following.save() == first.save()
    for _ in range(4):
        assert [(one.id, visit) for one, visit in following.take(4)] == [(o.id, v) for o, v in first.take(4)]
    json.dumps(asdict(first.save()))  # plain values


def graded(prompt_id: str, *scores: float) -> Summary:
    return replace(summary(scores), prompt_id=prompt_id, oldest_version=0)


def test_a_chooser_deals_the_likely_mixed_of_the_prompts_that_come_next() -> None:
    prompts = [prompt(str(number)) for number in range(8)]
    plain = PromptSource(prompts, seed=3)
    passes = [[one.id for one, _ in plain.take(8)] for _ in range(2)]
    source = PromptSource(prompts, seed=3, chooser=Chooser(group_size=4))
    assert [one.id for one, _ in source.take(2)] == passes[0][:2]  # nothing is known of any
    for name in passes[0][:2]:
        source.graded(graded(name, 1.0, 1.0, 1.0, 1.0))
    for name in passes[0][4:6]:
        source.graded(graded(name, 1.0, -1.0, 1.0, -1.0))
    source.graded(graded(passes[0][7]))  # without a verdict nothing is learned
    dealt = source.take(2)
    assert [one.id for one, _ in dealt] == [name for name in passes[1] if name in passes[0][4:6]]
    assert [visit for _, visit in dealt] == [1, 1]  # so a prompt that comes again is sampled anew
    assert source.save().position == 16
    assert len({one.id for one, _ in source.take(8)}) == 8  # where all are wanted, none is passed over


def test_a_chooser_that_skips_deals_each_prompt_in_as_many_passes_as_it_says() -> None:
    chooser = Chooser(group_size=8, skips=True)
    source = PromptSource([prompt(name) for name in "abcd"], 3, chooser)
    chooser.observe("a", 8, 0, version=0)
    chooser.observe("b", 0, 16, version=0)
    passes, dealt = 1000, Counter[str]()
    while (one := source.take(1)[0])[1] < passes:
        dealt[one[0].id] += 1
    assert (dealt["c"], dealt["d"]) == (passes, passes)
    assert dealt["a"] / passes == pytest.approx(chooser.keeps("a"), abs=0.07)
    assert dealt["b"] / passes == pytest.approx(chooser.keeps("b"), abs=0.07)


def test_who_is_skipped_does_not_depend_on_how_many_are_taken_at_a_time() -> None:
    def dealt(at_a_time: int) -> list[tuple[str, int]]:
        chooser = Chooser(group_size=8, skips=True)
        for number in range(12):
            chooser.observe(str(number), 16, 0, version=0)
        source = PromptSource([prompt(str(number)) for number in range(12)], 5, chooser)
        return [(one.id, visit) for _ in range(24 // at_a_time) for one, visit in source.take(at_a_time)]

    assert dealt(1) == dealt(2) == dealt(3)


@pytest.mark.parametrize("skips", [False, True])
def test_prompts_that_rest_come_behind_all_others_and_are_dealt_where_there_are_no_others(skips: bool) -> None:
    chooser = Chooser(group_size=4, skips=skips, cooldown=2)
    source = PromptSource([prompt(name) for name in "abc"], 3, chooser)
    source.graded(graded("a", 1.0, -1.0, 1.0, -1.0))  # the likeliest mixed
    assert {one.id for _ in range(8) for one, _ in source.take(1)} == {"b", "c"}
    for name in "bc":
        source.graded(graded(name, 1.0, -1.0, 1.0, -1.0))
    assert len(source.take(2)) == 2
    source.graded(replace(graded("b", 1.0, -1.0), oldest_version=2))
    assert "a" in {one.id for one, _ in source.take(3)}


def test_a_model_of_difficulty_tells_apart_prompts_that_nobody_has_seen_and_goes_on_in_another_run() -> None:
    kinds = {"hard": 1, "open": 2, "easy": 3}  # the tokens of each prompt
    prompts = [prompt(f"{kind}-{number}", [token] * 4) for kind, token in kinds.items() for number in range(40)]
    verdicts = {"hard": [-1.0, -1.0], "open": [1.0, -1.0], "easy": [1.0, 1.0]}
    settings = RolloutSettings(group_size=4, choose="predicted-mixed")
    source, following = (PromptSource(prompts, 3, Chooser.of(settings, prompts)) for _ in range(2))
    for number in range(10):
        for kind, scores in verdicts.items():
            source.graded(graded(f"{kind}-{number}", *scores))
    following.restore(source.save())
    assert following.save() == source.save()
    json.dumps(asdict(source.save()))  # plain values

    candidates = [one.id for one, _ in PromptSource(prompts, 3).take(32)]
    open_ones = [name for name in candidates if name.startswith("open")]
    dealt = [one.id for one, _ in source.take(8)]
    assert [one.id for one, _ in following.take(8)] == dealt
    assert sum(name in open_ones for name in dealt) == min(8, len(open_ones))
    assert any(int(name.partition("-")[2]) >= 10 for name in dealt)  # which nobody has seen


def test_prompts_that_nobody_chooses_have_no_cooldown() -> None:
    with pytest.raises(ConfigError, match=r'rollout\.cooldown must be 0 with rollout\.choose = "uniform", got 2'):
        config_of({"world": {"name": "addition"}, "rollout": {"cooldown": 2}})


def test_parts_are_dealt_by_their_weights_and_passed_over_each_by_itself() -> None:
    prompts = [prompt(str(number)) for number in range(25)]
    shares = ((5, 3.0), (0, 5.0), (20, 1.0))  # of a part without a usable prompt nothing is dealt
    source = PromptSource(prompts, seed=1, shares=shares)
    dealt = [(int(one.id), visit) for one, visit in source.take(1000)]
    assert sum(number < 5 for number, _ in dealt) == 750
    assert Counter(number for number, _ in dealt if number < 5) == dict.fromkeys(range(5), 150)
    assert Counter(number for number, visit in dealt if number >= 5 and visit < 12) == dict.fromkeys(range(5, 25), 12)
    shares_of_tens = [sum(number < 5 for number, _ in dealt[at : at + 100]) for at in range(0, 1000, 100)]
    assert min(shares_of_tens) > 55  # spread, not one part after the other
    following = PromptSource(prompts, seed=1, shares=shares)
    following.take(333)
    third = PromptSource(prompts, seed=1, shares=shares)
    third.restore(following.save())
    assert [(int(one.id), visit) for one, visit in third.take(100)] == dealt[333:433]


def test_a_part_of_a_tiny_weight_still_has_its_turn() -> None:
    prompts = [prompt(str(number)) for number in range(4)]
    dealt = PromptSource(prompts, seed=1, shares=((2, 1.0), (2, 0.0004))).take(1001)
    assert sum(int(one.id) >= 2 for one, _ in dealt) == 1


def test_one_part_with_any_weight_is_dealt_like_plain_data() -> None:
    prompts = [prompt(str(number)) for number in range(9)]
    plain, weighed = PromptSource(prompts, seed=4), PromptSource(prompts, seed=4, shares=((9, 0.2),))
    assert [one.id for one, _ in plain.take(30)] == [one.id for one, _ in weighed.take(30)]

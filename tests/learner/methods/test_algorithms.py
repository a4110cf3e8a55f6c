"""The table of algorithms: what each makes of the papers' worked groups, and what must hold between them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.filtering.rules import RULES
from actors.types import Group
from learner.methods.algorithms import ALGORITHMS, algorithm_of, likelihood
from learner.methods.choices import Anchor
from learner.methods.losses import LOSSES, Clip
from tests.builders import group, samples_of, terms, token_gradients

WORKED = [np.array(scores, float) for scores in ([1, 1, 1, 1], [-1, -1, -1, -1], [1, -1, -1, -1])]
RIGHT, WRONG = [1.0] * 4, [-1.0] * 4
ZERO_ONE = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=4), min_size=1, max_size=4)
OFFERED = st.lists(st.lists(st.sampled_from([-1.0, 1.0]), min_size=3, max_size=3), min_size=1, max_size=5)


def groups_of(offered: Sequence[Sequence[float]], first: int = 0) -> list[Group]:
    """Groups with these scores; every response is another text."""
    return [group(s, range(5, 5 + len(s)), id=first + number, seed=4) for number, s in enumerate(offered)]


def kept(name: str, groups: Sequence[Group]) -> list[Group]:
    return [one for one in groups if not ALGORITHMS[name].drop(np.array([v.score for v in one.verdicts]))]


def assert_same(found: dict, expected: dict, factor: float = 1.0) -> None:
    """The same gradients up to a factor; a response that one side does not train on has gradient 0."""
    for response in found.keys() | expected.keys():
        wanted = factor * np.asarray(expected.get(response, 0.0))
        np.testing.assert_allclose(found.get(response, 0.0), wanted, rtol=1e-5, atol=1e-9)


# -------------------------------------------------------------------------------------------- worked examples


@pytest.mark.parametrize(
    ("ratio", "advantage", "value"),
    [(1.4, 1.0, -1.2), (0.8, 1.0, -0.8), (1.4, -1.0, 1.4), (0.7, -1.0, 0.8), (1.0, 1.0, -1.0)],
)
@pytest.mark.parametrize("name", ["raft++", "reinforce", "reinforce-rej", "grpo", "ppo", "loop"])
def test_algorithms_with_a_ratio_clip_it_to_a_fifth(name: str, ratio: float, advantage: float, value: float) -> None:
    algorithm = ALGORITHMS[name]
    assert algorithm.loss(terms([ratio], advantage), algorithm.clip).tolist() == pytest.approx([value])


@pytest.mark.parametrize(
    ("name", "pieces", "advantage", "value"),
    [
        ("raft++", {}, 1.0, -1.0),
        ("raft++", {"clip_high": 0.28}, 1.0, -1.04),
        ("dapo", {}, 1.0, -1.04),
        ("reinforce", {}, -1.0, 1.1),
        ("loop", {}, 0.6667, -0.6667),
    ],
)
def test_algorithms_on_the_worked_response(name: str, pieces: dict, advantage: float, value: float) -> None:
    algorithm = algorithm_of(name, pieces)
    assert algorithm.loss(terms([1.4, 0.8], advantage), algorithm.clip).mean().item() == pytest.approx(value)


def test_the_plain_likelihood_ignores_the_ratio() -> None:
    algorithm = ALGORITHMS["raft"]
    assert algorithm.loss is likelihood
    assert algorithm.loss(terms([1.4], 2.0), algorithm.clip).tolist() == pytest.approx([-2.0 * (-1.0 + math.log(1.4))])


@pytest.mark.parametrize(
    ("name", "keeps", "credits"),
    [
        ("raft", [True, False, True], [[1] * 4, [0] * 4, [1, 0, 0, 0]]),
        ("raft++", [True, False, True], [[1] * 4, [0] * 4, [1, 0, 0, 0]]),
        ("reinforce", [True, True, True], [[1] * 4, [-1] * 4, [1, -1, -1, -1]]),
        ("reinforce-drop-all-wrong", [True, False, True], [[1] * 4, [-1] * 4, [1, -1, -1, -1]]),
        ("reinforce-drop-all-correct", [False, True, True], [[1] * 4, [-1] * 4, [1, -1, -1, -1]]),
        ("reinforce-rej", [False, False, True], [[1] * 4, [-1] * 4, [1, -1, -1, -1]]),
        ("reinforce-rej-std", [False, False, True], [[0] * 4, [0] * 4, [1, -1, -1, -1]]),
        ("reinforce-mean", [True, True, True], [[0] * 4, [0] * 4, [1.5, -0.5, -0.5, -0.5]]),
        ("grpo", [True, True, True], [[0] * 4, [0] * 4, [1.5, -0.5, -0.5, -0.5]]),
        ("dr-grpo", [True, True, True], [[0] * 4, [0] * 4, [1.5, -0.5, -0.5, -0.5]]),
        ("dapo", [False, False, True], [[0] * 4, [0] * 4, [1.5, -0.5, -0.5, -0.5]]),
        ("maxrl", [True, True, True], [[0] * 4, [0] * 4, [3, -1, -1, -1]]),
        ("rloo", [True, True, True], [[0] * 4, [0] * 4, [2, -2 / 3, -2 / 3, -2 / 3]]),
        ("topr", [True, True, True], [[1] * 4, [-1] * 4, [1, -1, -1, -1]]),
        ("iterative-dpo", [False, False, True], [[0] * 4, [0] * 4, [1, -1, 0, 0]]),
    ],
)
def test_each_algorithm_on_the_three_groups_of_the_worked_example(name: str, keeps: list[bool], credits) -> None:
    algorithm = ALGORITHMS[name]
    assert [algorithm.drop(scores) == "" for scores in WORKED] == keeps
    assert [algorithm.credit(scores).tolist() for scores in WORKED] == [pytest.approx(credit) for credit in credits]


@pytest.mark.parametrize(
    ("name", "loss", "ratio", "clip", "aggregate"),
    [
        ("raft", "likelihood", "token", None, "seq-mean-token-mean"),
        ("raft++", "clipped", "token", (0.2, 0.2), "seq-mean-token-mean"),
        ("reinforce-rej", "clipped", "token", (0.2, 0.2), "seq-mean-token-mean"),
        ("grpo", "clipped", "token", (0.2, 0.2), "seq-mean-token-mean"),
        ("dr-grpo", "clipped", "token", (0.2, 0.2), "constant"),
        ("dapo", "clipped", "token", (0.2, 0.28), "token-mean"),
        ("rloo", "likelihood", "token", None, "seq-mean-token-sum"),
        ("loop", "clipped", "token", (0.2, 0.2), "seq-mean-token-mean"),
        ("topr", "tapered", "product", None, "seq-mean-token-mean"),
        ("gspo", "clipped", "sequence", (3e-4, 4e-4), "seq-mean-token-mean"),
        ("cispo", "detached", "token", (1.0, 0.28), "token-mean"),
        ("ppo", "clipped", "token", (0.2, 0.2), "token-mean"),
        ("prime", "clipped", "token", (0.2, 0.2), "token-mean"),
        ("self-critical", "likelihood", "token", None, "seq-mean-token-sum"),
        ("stable-reinforce", "preclipped", "token", (0.2, 0.2), "seq-mean-token-mean"),
        ("quark", "likelihood", "token", None, "token-mean"),
    ],
)
def test_the_pieces_of_an_algorithm_are_those_of_its_paper(
    name: str, loss: str, ratio: str, clip, aggregate: str
) -> None:
    algorithm = ALGORITHMS[name]
    assert (algorithm.loss, algorithm.ratio, algorithm.aggregate) == (LOSSES[loss], ratio, aggregate)
    assert clip is None or algorithm.clip == Clip(low=clip[0], high=clip[1], dual=0.0)
    assert algorithm.anchor is (Anchor.SAMPLER if name == "topr" else Anchor.STEP)


@pytest.mark.parametrize(("ddof", "size"), [(0, 1.1547), (1, 1.0)])
def test_scores_over_their_deviation(ddof: int, size: float) -> None:
    credit = algorithm_of("reinforce-rej-std", {"std_ddof": ddof}).credit
    assert credit(WORKED[2]) == pytest.approx([size, -size, -size, -size], abs=1e-4)


@pytest.mark.parametrize(
    ("correct", "of", "reason"),
    [(0, 4, "all_wrong"), (1, 4, ""), (3, 4, ""), (4, 4, "all_correct"), (1, 8, "out_of_band"), (7, 8, "out_of_band")],
)
def test_the_band_rule_keeps_a_share_correct_of_a_fifth_to_four_fifths(correct: int, of: int, reason: str) -> None:
    assert RULES["out-of-band"](np.array([1.0] * correct + [-1.0] * (of - correct))) == reason


@pytest.mark.parametrize(("correct", "of"), [(1, 5), (4, 5), (2, 10)])
def test_the_ends_of_the_band_are_in_it(correct: int, of: int) -> None:
    assert RULES["out-of-band"](np.array([1.0] * correct + [0.0] * (of - correct))) == ""


@pytest.mark.parametrize(
    ("scores", "ddof", "expected"),
    [
        ([1, -1, -1, -1], 0, [1.7321, -0.5774, -0.5774, -0.5774]),
        ([1, 1, -1, -1], 0, [1, 1, -1, -1]),
        ([1, 1, -1, -1], 1, [0.8660, 0.8660, -0.8660, -0.8660]),
        ([1, 1, 1, -1], 1, [0.5, 0.5, 0.5, -1.5]),
        ([0, 0, 1, 1], 1, [-0.8660, -0.8660, 0.8660, 0.8660]),
    ],
)
def test_group_normalisation(scores: list[float], ddof: int, expected: list[float]) -> None:
    chosen = algorithm_of("grpo", {"std_ddof": ddof}).credit
    assert chosen(np.array(scores, float)) == pytest.approx(expected, abs=1e-4)


def test_each_pass_has_its_own_threshold() -> None:
    algorithm, scores = ALGORITHMS["rest"], np.array([0.0, 0.3, 0.7, 1.0])
    assert [algorithm.at_pass(number).credit(scores).tolist() for number in range(algorithm.passes)] == [
        [0, 1, 1, 1],
        [0, 0, 1, 1],
        [0, 0, 0, 1],
    ]


# ---------------------------------------------------------------------------------------------- between algorithms


@pytest.mark.parametrize("name", sorted(ALGORITHMS.keys() - {"iterative-dpo"}))
def test_on_policy_every_algorithm_has_the_policy_gradient(name: str) -> None:
    algorithm, groups = ALGORITHMS[name].at_pass(0), groups_of([[1.0, -1.0, -1.0], [1.0, 1.0, -1.0]])
    found = token_gradients(algorithm, groups, distance=0.0, moved=0.0)
    share = 1.0 - algorithm.imitation  # of the rewards, where worked answers have the rest
    for sample in samples_of(algorithm, groups)[0]:
        response = tuple(sample.tokens.tolist())
        assert found[response] == pytest.approx([-sample.advantage * sample.weight * share] * len(found[response]))
    assert any(gradient.any() for gradient in found.values())


@given(ZERO_ONE)
@settings(deadline=None, max_examples=25)
def test_with_scores_of_zero_and_one_reinforce_is_raft_plus_plus_but_for_a_constant(scores: list[list[float]]) -> None:
    groups, correct = groups_of(scores), sum(map(sum, scores))
    factor = correct / (4 * len(scores))  # the one counts all responses, the other those it imitates
    found = token_gradients(ALGORITHMS["reinforce"], groups)
    assert_same(found, token_gradients(ALGORITHMS["raft++"], groups) if correct else {}, factor)


@given(ZERO_ONE)
@settings(deadline=None, max_examples=25)
def test_with_scores_of_zero_and_one_reinforce_rej_is_raft_plus_plus_without_solved_groups(
    scores: list[list[float]],
) -> None:
    groups = kept("reinforce-rej", groups_of(scores))
    mixed = [one for one in scores if 0 < sum(one) < 4]
    assert kept("raft++", groups) == groups
    assert len(groups) == len(mixed)
    if mixed:
        factor = sum(map(sum, mixed)) / (4 * len(mixed))
        found = token_gradients(ALGORITHMS["reinforce-rej"], groups)
        assert_same(found, token_gradients(ALGORITHMS["raft++"], groups), factor)


@given(OFFERED)
@settings(deadline=None, max_examples=15)
def test_topr_is_reinforce_on_policy(scores: list[list[float]]) -> None:
    on_policy = [
        token_gradients(ALGORITHMS[name], groups_of(scores), distance=0, moved=0) for name in ("topr", "reinforce")
    ]
    assert_same(*on_policy)


@pytest.mark.parametrize("name", ["reinforce-rej", "grpo", "gspo", "cispo", "ppo"])
def test_the_decoupled_objective_is_ppo_where_the_sampler_is_the_policy_of_the_step(name: str) -> None:
    groups = groups_of([[1.0, -1.0, -1.0], [1.0, 1.0, -1.0]])
    variants = [algorithm_of(name, pieces) for pieces in ({}, {"mismatch": "none"}, {"anchor": "sampler"})]
    decoupled, plain, at_sampler = (token_gradients(algorithm, groups, distance=0.0) for algorithm in variants)
    assert_same(decoupled, plain)
    assert_same(decoupled, at_sampler)
    apart = [token_gradients(algorithm, groups) for algorithm in variants[:2]]
    assert any(not np.allclose(apart[0][response], apart[1][response]) for response in apart[0])


@given(
    OFFERED, st.sampled_from(["raft", "raft++", "reinforce-drop-all-wrong", "reinforce-rej", "dapo", "iterative-dpo"])
)
@settings(deadline=None, max_examples=40)
def test_groups_that_were_dropped_change_nothing_for_those_that_were_kept(scores: list[list[float]], name: str) -> None:
    offered = groups_of([[1.0, -1.0, -1.0], *scores])
    dropped = groups_of([[-1.0] * 3, *([[1.0] * 3] if kept(name, groups_of([[1.0] * 3])) == [] else [])], first=20)
    among_others = kept(name, [dropped[0], *offered, *dropped[1:]])
    assert among_others == kept(name, offered)
    alone = token_gradients(ALGORITHMS[name], kept(name, offered))
    assert_same(token_gradients(ALGORITHMS[name], among_others), alone)


@pytest.mark.parametrize("name", ["raft", "raft++", "iterative-dpo"])
def test_groups_of_wrong_answers_that_slip_in_weigh_nothing_where_only_credit_counts(name: str) -> None:
    good, bad = groups_of([[1.0, -1.0, 1.0], WRONG])
    assert_same(token_gradients(ALGORITHMS[name], [good, bad]), token_gradients(ALGORITHMS[name], [good]))


@pytest.mark.parametrize(
    ("name", "factor"), [("grpo", 3 / 7), ("gspo", 3 / 7), ("dr-grpo", 3 / 7), ("dapo", 18 / (18 + 26))]
)
def test_equal_groups_teach_nothing_but_stand_in_the_denominators(name: str, factor: float) -> None:
    algorithm = replace(ALGORITHMS[name], overlong=0.0)
    good, equal = groups_of([[1.0, -1.0, 1.0], RIGHT])
    alone, together = token_gradients(algorithm, [good]), token_gradients(algorithm, [good, equal])
    assert not any(together[tuple(t.tokens.tolist())].any() for t in equal.trajectories)
    assert_same({response: together[response] for response in alone}, alone, factor)


def test_pieces_that_a_run_does_not_choose_stay_as_the_table_has_them() -> None:
    assert algorithm_of("raft++", {"clip_high": None, "aggregate": "", "thresholds": ()}) == ALGORITHMS["raft++"]
    assert algorithm_of("raft++", {"clip_high": 0.0}).clip_high == 0.0
    assert algorithm_of("raft", drop="both").drop is RULES["both"]

"""What a run may replace of an algorithm, what is refused, and the line that says what is minimised."""

from collections.abc import Iterable
from dataclasses import fields

import pytest
from pydantic import ValidationError

from actors.filtering.rules import RULES
from learner.methods.algorithms import ALGORITHMS, Algorithm, algorithm_of
from learner.methods.choices import Aggregation, Anchor, KlEstimator, Mismatch, Need, Ratio, SideModelKind
from learner.methods.credit import CREDITS
from learner.methods.formula import objective_line
from learner.methods.losses import LOSSES
from learner.settings import LearnerSettings, ObjectiveSettings, chosen_algorithm

# (algorithm, piece, value, what the line says of it)
OVERRIDES = [
    ("reinforce", "credit", "centred", "A = r - mean r"),
    ("reinforce", "loss", "unclipped", "of w (-s A)"),
    ("reinforce", "aggregate", "constant", "minimise constant of"),
    ("grpo", "ratio", "sequence", "s = p/p_step geometric mean over the response"),
    ("grpo", "clip_low", 0.3, "clip(s, 0.7, 1.2)"),
    ("grpo", "clip_high", 0.28, "clip(s, 0.8, 1.28)"),
    ("grpo", "clip_dual", 3.0, "-3 A where A < 0"),
    ("grpo", "anchor", "sampler", "s = p/p_sampler of the token"),
    ("grpo", "mismatch", "mask-response", "w = prod q [prod q <= 2]"),
    ("grpo", "mismatch_cap", 5.0, "w = min(q, 5)"),
    ("quark", "kl_estimator", "k3", "0.05 (exp(-d) + d - 1)"),
    ("grpo", "kl_reward", 0.04, "r_t = -0.04 d"),
    ("grpo", "kl_loss", 0.001, "+ 0.001 (exp(-d) + d - 1)"),
    ("grpo", "entropy", 0.01, "- 0.01 entropy"),
    ("reinforce-mean", "advantage_normalisation", "whiten", "A = r - mean r, whitened"),
    ("self-critical", "imitation", 0.1, "0.9 (w (-A log p)) + 0.1 (-log p of worked answers)"),
    ("grpo", "passes", 2, "2 passes"),
    ("rest", "thresholds", (0.1, 0.2, 0.3), "3 passes, thresholds 0.1, 0.2, 0.3"),
    ("grpo", "std_ddof", 0, "A = (r - mean r) / std r, ddof 0"),
    ("ppo", "gamma", 0.9, "GAE(r, V; gamma 0.9, lambda 1)"),
    ("ppo", "lam", 0.95, "GAE(r, V; gamma 1, lambda 0.95)"),
    ("ppo", "value_clip", 0.5, "V clipped at +-0.5"),
    ("grpo", "overlong", 0.25, "r falls by 1 over the last 0.25 of the length"),
]


def chosen(algorithm: str, **pieces: object) -> Algorithm:
    return chosen_algorithm(LearnerSettings(algorithm=algorithm), ObjectiveSettings(**pieces))


# ----------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(("name", "piece", "value", "text"), OVERRIDES, ids=[line[1] for line in OVERRIDES])
def test_a_piece_that_a_run_replaces_reaches_the_algorithm_and_the_line(
    name: str, piece: str, value: object, text: str
) -> None:
    algorithm = chosen(name, **{piece: value})
    wanted = {"credit": CREDITS, "loss": LOSSES}.get(piece, {value: value})[value]
    assert getattr(algorithm, piece) == wanted
    assert getattr(ALGORITHMS[name], piece) != wanted
    assert text in objective_line(algorithm)
    assert text not in objective_line(ALGORITHMS[name])


def test_every_setting_of_the_objective_is_a_piece_of_the_algorithm_and_is_tried_here() -> None:
    assert set(ObjectiveSettings.model_fields) == {piece for _, piece, _, _ in OVERRIDES}
    assert set(ObjectiveSettings.model_fields) <= {field.name for field in fields(Algorithm)}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_passes_its_own_checks_and_stays_as_it_is_without_settings(name: str) -> None:
    algorithm = chosen(name)
    assert objective_line(algorithm) == objective_line(ALGORITHMS[name])
    assert algorithm.drop is ALGORITHMS[name].drop


def test_another_rule_for_groups_can_be_chosen() -> None:
    algorithm = chosen_algorithm(LearnerSettings(algorithm="raft"), ObjectiveSettings(), drop="both")
    assert algorithm.drop is RULES["both"]
    assert objective_line(algorithm).endswith("groups dropped: both")


def test_unknown_algorithms_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError) as refused:
        LearnerSettings(algorithm="grpoo")
    assert "'grpoo'" in str(refused.value)
    assert ", ".join(ALGORITHMS) in str(refused.value)


@pytest.mark.parametrize(
    ("piece", "known"), [("credit", CREDITS), ("loss", LOSSES), ("aggregate", Aggregation), ("mismatch", Mismatch)]
)
def test_unknown_pieces_are_refused_with_the_known_ones(piece: str, known: Iterable[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        ObjectiveSettings(**{piece: "nothing"})
    assert f"must be one of {', '.join(known)}, got 'nothing'" in str(refused.value)
    for name in known:
        assert getattr(ObjectiveSettings(**{piece: name}), piece) == name


@pytest.mark.parametrize(
    ("piece", "known"),
    [("ratio", Ratio), ("kl_estimator", KlEstimator), ("anchor", Anchor), ("std_ddof", (0, 1))],
)
def test_unknown_words_of_closed_sets_are_refused_with_the_known_ones(piece: str, known: Iterable) -> None:
    with pytest.raises(ValidationError) as refused:
        ObjectiveSettings(**{piece: "nothing"})
    assert all(repr(getattr(word, "value", word)) in str(refused.value) for word in known)
    for word in known:
        assert getattr(ObjectiveSettings(**{piece: word}), piece) == word


def test_an_unknown_setting_of_the_objective_is_refused() -> None:
    with pytest.raises(ValidationError, match="clip_hi"):
        ObjectiveSettings(clip_hi=0.2)


@pytest.mark.parametrize(
    "pieces",
    [
        {"clip_low": 0.0},
        {"clip_low": 1.1},
        {"clip_high": -0.1},
        {"clip_dual": -1.0},
        {"mismatch_cap": 0.5},
        {"kl_reward": -0.1},
        {"kl_loss": float("nan")},
        {"imitation": 1.0},
        {"passes": 0},
        {"gamma": 0.0},
        {"lam": 1.1},
        {"value_clip": 0.0},
        {"overlong": 1.0},
    ],
    ids=str,
)
def test_numbers_out_of_their_range_are_refused(pieces: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(pieces))):
        ObjectiveSettings(**pieces)


@pytest.mark.parametrize(
    ("algorithm", "pieces", "message"),
    [
        ("rloo", {"kl_loss": 0.01}, r"kl_reward = 0\.03 and objective\.kl_loss = 0\.01 would charge the KL twice"),
        ("quark", {"kl_reward": 0.2}, r"kl_reward = 0\.2 and objective\.kl_loss = 0\.05 would charge the KL twice"),
        ("grpo", {"kl_reward": 0.2, "kl_loss": 0.1}, "twice: set one of them to 0"),
        (
            "grpo",
            {"kl_loss": 0.1, "kl_estimator": "k1"},
            '"k1" has no gradient in expectation as a loss: use "k2" or "k3"',
        ),
        ("self-critical", {"credit": "relative"}, "takes a baseline off them first"),
        ("rest", {"passes": 2}, "one threshold for each of the 2 passes, got 3"),
        ("rest", {"thresholds": (0.1, 0.2)}, "one threshold for each of the 3 passes, got 2"),
        ("raft", {"credit": "above", "thresholds": (0.1, 0.2)}, "each of the 1 passes, got 2: set objective.passes"),
    ],
)
def test_pieces_that_do_not_go_together_are_refused(algorithm: str, pieces: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen(algorithm, **pieces)


def test_the_kl_can_be_moved_from_the_reward_to_the_loss() -> None:
    algorithm = chosen("rloo", kl_reward=0.0, kl_loss=0.01)
    assert (algorithm.kl_reward, algorithm.kl_loss, algorithm.kl, algorithm.reads_reference) == (0.0, 0.01, "k3", True)
    assert chosen("rloo").kl == "k1"
    assert not chosen("rloo", kl_reward=0.0).reads_reference


@pytest.mark.parametrize(
    ("algorithm", "pieces", "reads"),
    [
        ("grpo", {}, True),
        ("raft", {}, False),
        ("topr", {"mismatch": "none"}, True),
        ("grpo", {"mismatch": "none"}, False),
    ],
)
def test_an_algorithm_reads_the_sampler_where_a_weight_or_its_ratio_is_against_it(
    algorithm: str, pieces: dict, reads
) -> None:
    assert chosen(algorithm, **pieces).reads_sampler is reads


# ----------------------------------------------------------------------------------------------------- the line


def test_the_line_of_the_default_algorithm() -> None:
    assert objective_line(ALGORITHMS["reinforce-rej"]) == (
        "minimise seq-mean-token-mean of w (-min(s A, clip(s, 0.8, 1.2) A)); A = r; s = p/p_step of the token; "
        "w = min(q, 2), q = p_step/p_sampler; groups dropped: both"
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_a_line_is_one_line_of_ascii(algorithm: Algorithm) -> None:
    line = objective_line(algorithm)
    assert line.isascii()
    assert line.isprintable()
    assert "?" not in line
    assert algorithm.needs <= set(Need)
    assert set(algorithm.side_models) <= set(SideModelKind)


def test_algorithms_that_differ_have_lines_that_differ() -> None:
    lines = {name: objective_line(algorithm) for name, algorithm in ALGORITHMS.items()}
    assert len(set(lines.values())) == len(ALGORITHMS)


@pytest.mark.parametrize("piece", ["credit", "loss", "aggregate", "mismatch"])
def test_every_piece_of_a_table_has_a_line_of_its_own(piece: str) -> None:
    tables = {"credit": CREDITS, "loss": LOSSES, "aggregate": Aggregation, "mismatch": Mismatch}
    lines = {objective_line(algorithm_of("reinforce", {piece: name})) for name in tables[piece]}
    assert len(lines) == len(tables[piece])


@pytest.mark.parametrize(
    ("credit", "advantage"),
    [("", "A = log p_teacher - log p_step;"), ("centred", "A = r - mean r + log p_teacher - log p_step;")],
)
def test_a_teacher_stands_in_the_line_beside_the_credit(credit: str, advantage: str) -> None:
    assert advantage in objective_line(chosen("distill", credit=credit))


def test_a_baseline_is_taken_off_every_score_in_the_line() -> None:
    line = objective_line(algorithm_of("self-critical", {"credit": "leave-one-out"}))
    assert "A = (r - r greedy) - mean of siblings' (r - r greedy)" in line

import pytest

from rewards.combine import COMBINATIONS, check_combination, combine
from rewards.verdict import Outcome, RewardResult, SpanReward

KNOWN = {kind: kind for kind in ("number", "format", "model", "judge", *COMBINATIONS)}


def valued(
    value: float, parts: dict[str, float] | None = None, span_rewards: tuple[SpanReward, ...] = ()
) -> RewardResult:
    outcome = Outcome.CORRECT if value > 0.5 else Outcome.WRONG
    return RewardResult(outcome=outcome, why="so it is", reward=value, parts=parts or {}, span_rewards=span_rewards)


def combined(name: str, **parts: tuple[float, RewardResult]) -> RewardResult:
    weights = {part: weight for part, (weight, _) in parts.items()}
    results = {part: result for part, (_, result) in parts.items()}
    check_combination(name, name, weights, KNOWN)
    return combine(name, weights, results)


def test_a_sum_is_weighted_and_divided_by_its_weights() -> None:
    whole = combined("sum", number=(0.85, valued(1.0)), format=(0.15, valued(0.0)))
    assert (whole.reward, whole.outcome) == (pytest.approx(0.85), Outcome.CORRECT)
    assert combined("sum", number=(3.0, valued(0.2)), format=(1.0, valued(1.0))).reward == pytest.approx(0.4)


def test_a_product_is_the_one_of_wizard_math() -> None:
    whole = combined("product", judge=(1.0, valued(0.8)), model=(1.0, valued(0.5)))
    assert (whole.reward, whole.outcome) == (pytest.approx(0.4), Outcome.WRONG)


def test_a_weight_is_an_exponent_in_a_product() -> None:
    assert combined("product", judge=(2.0, valued(0.9)), model=(0.5, valued(0.64))).reward == pytest.approx(0.648)


@pytest.mark.parametrize(
    ("raw", "verified", "score"), [(2, 1, 0.73106), (2, 0, -0.26894), (-2, 1, 0.26894), (-2, 0, -0.73106)]
)
def test_shaped_gives_the_numbers_of_qwen_math_as_scores(raw: float, verified: float, score: float) -> None:
    liked = valued(0.9 if raw > 0 else 0.1, parts={"raw": raw})
    whole = combined("shaped", number=(1.0, valued(verified)), model=(1.0, liked))
    assert whole.reward is not None
    assert 2 * whole.reward - 1 == pytest.approx(score, abs=5e-6)
    assert (whole.outcome is Outcome.CORRECT) == bool(verified)


@pytest.mark.parametrize("raw", [-1e9, 0.0, 1e9])
@pytest.mark.parametrize("verified", [0.0, 1.0])
def test_shaped_is_correct_exactly_when_the_verifier_says_so(raw: float, verified: float) -> None:
    whole = combined("shaped", number=(1.0, valued(verified)), model=(1.0, valued(0.5, parts={"raw": raw})))
    assert (whole.outcome is Outcome.CORRECT) == bool(verified)


def test_shaped_takes_a_value_where_there_is_no_raw_score_and_weighs_it() -> None:
    plain = combined("shaped", number=(1.0, valued(0.3)), judge=(4.0, valued(1.0)))
    assert plain.reward == pytest.approx(0.880797 / 2, abs=1e-6)  # sigmoid(0.5 * 4 * 1); 0.3 of a verifier is wrong


def test_shaped_gives_least_where_the_model_found_nothing_to_score() -> None:
    empty = RewardResult(outcome=Outcome.UNPARSABLE, why="the response is empty")
    assert combined("shaped", number=(1.0, empty), model=(1.0, empty)).reward == 0.0


@pytest.mark.parametrize(
    ("accuracy", "consistency", "form", "reward"),
    [(1, 1, 1, 2.0), (1, 0, 1, 1.5), (1, 1, 0, 1.5), (1, 0, 0, 1.0), (0, 1, 1, 0.5), (0, 1, 0, 0.0)],
)
def test_consistent_is_the_reward_of_stable_reinforce_on_a_scale_from_nought_to_one(
    accuracy: float, consistency: float, form: float, reward: float
) -> None:
    parts = {"number": accuracy, "judge": consistency, "format": form}
    whole = combined("consistent", **{part: (1.0, valued(value)) for part, value in parts.items()})
    assert whole.reward is not None
    assert 2.5 * whole.reward - 0.5 == pytest.approx(reward)
    assert (whole.outcome is Outcome.CORRECT) == bool(accuracy)


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.ERROR])
@pytest.mark.parametrize("name", ["sum", "product", "shaped"])
def test_a_part_without_verdict_leaves_the_whole_without_one(name: str, outcome: Outcome) -> None:
    lost = RewardResult(outcome=outcome, why="no answer in 5 s")
    whole = combined(name, number=(1.0, valued(1.0)), judge=(1.0, lost))
    assert (whole.outcome, whole.reward, whole.why) == (outcome, None, "judge: no answer in 5 s")


def test_a_part_that_finds_no_answer_makes_a_low_whole_unparsable_and_not_a_high_one() -> None:
    empty = RewardResult(outcome=Outcome.UNPARSABLE, why="no number found")
    assert combined("sum", number=(1.0, empty), format=(0.5, valued(1.0))).outcome is Outcome.UNPARSABLE
    assert combined("sum", number=(0.5, empty), format=(1.0, valued(1.0))).outcome is Outcome.CORRECT


def test_parts_keep_their_own_parts_under_their_name() -> None:
    whole = combined("sum", number=(1.0, valued(1.0)), model=(1.0, valued(0.2, parts={"raw": -1.5})))
    assert whole.parts == {"number": 1.0, "model": 0.2, "model.raw": -1.5}


def test_span_rewards_of_all_parts_come_together_times_their_weights() -> None:
    one, two = SpanReward(start=0, end=3, value=1.0), SpanReward(start=2, end=5, value=-1.0)
    whole = combined(
        "sum", number=(1.0, valued(1.0, span_rewards=(one,))), judge=(0.5, valued(1.0, span_rewards=(two, one)))
    )
    assert whole.span_rewards == (
        SpanReward(start=0, end=3, value=1.0),
        SpanReward(start=2, end=5, value=-0.5),
        SpanReward(start=0, end=3, value=0.5),
    )


@pytest.mark.parametrize(
    ("name", "parts", "message"),
    [
        ("sum", {}, r"reward\.sum\.weights is empty"),
        ("sum", {"nubmer": 1.0}, "'nubmer', which is no reward"),
        ("sum", {"product": 1.0}, "a combination cannot be a part"),
        ("sum", {"number": 0.0}, "above 0, got 0.0"),
        ("product", {"number": -1.0}, "above 0, got -1.0"),
        ("shaped", {"number": 1.0}, "takes 2 parts, verifier, model"),
        ("shaped", {"number": 1.0, "model": 1.0, "format": 1.0}, "takes 2 parts"),
        ("shaped", {"number": 0.5, "model": 1.0}, "'number' must weigh 1, got 0.5"),
        ("consistent", {"number": 1.0, "judge": 1.0}, "accuracy, consistency, form"),
        ("consistent", {"number": 1.0, "judge": 1.0, "format": 0.5}, "'format' must weigh 1"),
    ],
)
def test_a_combination_that_makes_no_sense_is_refused_with_a_reason(
    name: str, parts: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_combination(name, name, parts, KNOWN)

"""Rewards made of other rewards: weighted sums and products, and two shapes of the literature.

Where one of its parts has no verdict, a combination has no verdict: a reward from the other parts would be another
reward.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from pydantic import Field

from rewards.settings import KindSettings
from rewards.shaping import qwen_math, stable_reinforce_consistency
from rewards.verdict import Outcome, RewardResult

Weights = Mapping[str, float]  # by the name of a part
Results = Mapping[str, RewardResult]  # the same keys; all are scored


class CombinationSettings(KindSettings):
    """[reward.sum], [reward.product], [reward.shaped], [reward.consistent]."""

    weights: dict[str, float] = Field(default_factory=dict)  # of the parts, by the names of their rewards, in order


def combine(kind: str, weights: Weights, results: Results) -> RewardResult:
    """One result from the results of all parts.

    - "sum": sum_i w_i * v_i / sum_i w_i.
    - "product": prod_i v_i ^ w_i; with weights of 1 the r_I * r_A of WizardMath, arXiv 2308.09583.
    - "shaped": (1 + s) / 2 with s = sigmoid(0.5 * w * r_m) + r_v - 1 in [-1, 1], arXiv 2409.12122 (Qwen2.5-Math). The
      first part is the verifier, r_v = 1 when it says correct, else 0. The second part is a model of weight w; r_m is
      its part "raw", its reward where it has no such part, and minus infinity where it found nothing to score. Correct
      exactly when the verifier says so.
    - "consistent": (R + 0.5) / 2.5 with R = r_acc * (1 + 0.5 * r_cons) + 0.5 * r_form in [0, 2], arXiv 2505.02835
      (StableReinforce). The parts are, in this order, accuracy, consistency and form; each counts 1 when it says
      correct, else 0. Correct exactly when accuracy is.

    v_i is a part's reward in [0, 1]. The result is correct when its reward is above one half; else it is unparsable
    where a part found no answer, and wrong where every part found one.

    Args:
        kind: a key of COMBINATIONS.
        weights: by part, in the order of the run file; checked by `check_combination`.
        results: one of each part.

    Returns:
        The result. Its parts are the reward of each part by name and each part's own parts as "part.key"; its span
        rewards are the span rewards of all parts times the weights of the parts.
    """
    rewards: dict[str, float] = {}
    for part in weights:
        result = results[part]
        if result.reward is None:
            return RewardResult(outcome=result.outcome, why=f"{part}: {result.why}")
        rewards[part] = result.reward
    reward = min(1.0, max(0.0, COMBINATIONS[kind](weights, rewards, results)))
    said = "; ".join(f"{part} {rewards[part]:.3g} ({results[part].why[:80]})" for part in weights)
    inner = {f"{part}.{key}": value for part in weights for key, value in results[part].parts.items()}
    return RewardResult(
        outcome=_outcome(reward, weights, results),
        why=f"{kind} {reward:.3g} of {said}",
        reward=reward,
        parts=rewards | inner,
        span_rewards=tuple(
            replace(span, value=weight * span.value)
            for part, weight in weights.items()
            for span in results[part].span_rewards
        ),
    )


def check_combination(name: str, kind: str, weights: Weights, kinds: Mapping[str, str]) -> None:
    """Whether rewards can be combined so.

    Args:
        name: of the combination in the run file.
        kind: a key of COMBINATIONS.
        weights: of its parts.
        kinds: of all rewards that there are, by name.

    Raises:
        ValueError: they cannot be; the message says what to write instead.
    """
    setting = f"reward.{name}.weights"
    if not weights:
        raise ValueError(f"{setting} is empty: {kind!r} needs weights by name, such as {{number = 1.0}}")
    for part, weight in weights.items():
        if kinds.get(part) in COMBINATIONS:
            raise ValueError(f"{setting} names {part!r}: a combination cannot be a part; list its parts instead")
        if part not in kinds:
            there = ", ".join(sorted(name for name, of in kinds.items() if of not in COMBINATIONS))
            raise ValueError(f"{setting} names {part!r}, which is no reward; there are {there}")
        if not (weight > 0 and math.isfinite(weight)):
            raise ValueError(f"the weight of {part!r} in {setting} must be a number above 0, got {weight}")
    for number, (part, role) in enumerate(zip(weights, _ROLES.get(kind, ()), strict=False)):
        if role != "model" and weights[part] != 1:
            raise ValueError(
                f"part {number + 1} of {kind!r} is its {role}: {part!r} must weigh 1, got {weights[part]:g} ({setting})"
            )
    roles = _ROLES.get(kind, tuple(weights))
    if len(weights) != len(roles):
        raise ValueError(
            f"{kind!r} takes {len(roles)} parts, {', '.join(roles)}, in this order; {setting} has {', '.join(weights)}"
        )


def _sum(weights: Weights, rewards: Weights, results: Results) -> float:
    return math.fsum(weight * rewards[part] for part, weight in weights.items()) / math.fsum(weights.values())


def _product(weights: Weights, rewards: Weights, results: Results) -> float:
    return math.prod(rewards[part] ** weight for part, weight in weights.items())


def _shaped(weights: Weights, rewards: Weights, results: Results) -> float:
    verifier, model = weights
    right = _right(results[verifier])
    nothing = results[model].outcome is Outcome.UNPARSABLE
    raw = -math.inf if nothing else results[model].parts.get("raw", rewards[model])
    reward = (1.0 + qwen_math(weights[model] * raw, right)) / 2.0
    return max(reward, math.nextafter(0.5, 1.0)) if right else reward  # far below 0 a sigmoid rounds to 0


def _consistent(weights: Weights, rewards: Weights, results: Results) -> float:
    accuracy, consistency, form = (_right(results[part]) for part in weights)
    return (stable_reinforce_consistency(accuracy, consistency, form) + 0.5) / 2.5


# Each takes the weights, the rewards and the results of the parts.
COMBINATIONS: dict[str, Callable[[Weights, Weights, Results], float]] = {
    "sum": _sum,
    "product": _product,
    "shaped": _shaped,
    "consistent": _consistent,
}
_ROLES = {"shaped": ("verifier", "model"), "consistent": ("accuracy", "consistency", "form")}


def _right(result: RewardResult) -> float:
    return float(result.outcome is Outcome.CORRECT)


def _outcome(reward: float, weights: Weights, results: Results) -> Outcome:
    if reward > 0.5:
        return Outcome.CORRECT
    unparsable = any(results[part].outcome is Outcome.UNPARSABLE for part in weights)
    return Outcome.UNPARSABLE if unparsable else Outcome.WRONG

"""Rewards made of other rewards: weighted sums and products, and two shapes of the literature.

A combination of which any part has no verdict has none either: a score from the rest would be a different reward.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from rewards.settings import RewardSettings
from rewards.shaping import qwen_math, stable_reinforce_consistency
from rewards.verdict import Outcome, RewardResult

Weights = Mapping[str, float]
Judgements = Mapping[str, RewardResult]


def combine(name: str, weights: Weights, results: Judgements, settings: RewardSettings) -> RewardResult:
    """One result from those of all parts.

    - "sum": sum_i w_i * v_i / sum_i w_i.
    - "product": prod_i v_i ^ w_i; with weights of 1 the r_I * r_A of WizardMath, arXiv 2308.09583.
    - "shaped": (1 + s) / 2 with s = sigmoid(0.5 * w * r_m) + r_v - 1 in [-1, 1], arXiv 2409.12122 (Qwen2.5-Math). The
      first part is the verifier, r_v = 1 when it says correct, else 0; the second a model of weight w, with r_m its
      part "raw", its value where it has none, and minus infinity where it found nothing to score. Correct exactly when
      the verifier says so.
    - "consistent": (R + 0.5) / 2.5 with R = r_acc * (1 + 0.5 * r_cons) + 0.5 * r_form in [0, 2], arXiv 2505.02835
      (StableReinforce). The parts are, in this order, accuracy, consistency and form; each counts 1 when it says
      correct, else 0. Correct exactly when accuracy is.

    v_i is a part's value in [0, 1]. The result is correct when it is above one half; else it is unparsable where a part
    found no answer, and wrong where all did.

    Args:
        name: a key of COMBINATIONS.
        weights: by part, in the order of the run file; checked by `check_combination`.
        results: one of each part.
        settings: of the combination; all of its parts were judged by them.

    Returns:
        The result; its parts are the value of each part by name and each part's own parts as "part.key", its
        span rewards those of all parts times their weights.
    """
    lost = next((part for part in weights if not results[part].outcome.scored), None)
    if lost is not None:
        return RewardResult(outcome=results[lost].outcome, why=f"{lost}: {results[lost].why}")
    value = min(1.0, max(0.0, COMBINATIONS[name](weights, results)))
    said = "; ".join(f"{part} {results[part].worth:.3g} ({results[part].why[:80]})" for part in weights)
    return RewardResult(
        outcome=_outcome(value, weights, results),
        why=f"{name} {value:.3g} of {said}",
        value=value,
        parts=_named(weights, results),
        span_rewards=tuple(
            replace(mark, value=weight * mark.value)
            for part, weight in weights.items()
            for mark in results[part].span_rewards
        ),
    )


def check_combination(name: str, settings: RewardSettings, known: Collection[str]) -> None:
    """Whether reward.parts can be combined so.

    Args:
        name: of the combination.
        settings: with its parts.
        known: the names of the rewards that are none.

    Raises:
        ValueError: they cannot be; the message says what to write instead.
    """
    parts = settings.parts
    if name not in COMBINATIONS:
        raise ValueError(f"a combination is one of {', '.join(COMBINATIONS)}, got {name!r}")
    if not parts:
        raise ValueError(f"reward.parts is empty: {name!r} needs weights by name, such as {{'number': 1.0}}")
    for part, weight in parts.items():
        if part in COMBINATIONS:
            raise ValueError(f"reward.parts names {part!r}: a combination cannot be a part; list its parts instead")
        if part not in known:
            raise ValueError(f"reward.parts names {part!r}, which is no reward; there are {', '.join(sorted(known))}")
        if not (weight > 0 and math.isfinite(weight)):
            raise ValueError(f"the weight of {part!r} in reward.parts must be a number above 0, got {weight}")
    for number, (part, role) in enumerate(zip(parts, _ROLES.get(name, ()), strict=False)):
        if role != "model" and parts[part] != 1:
            raise ValueError(f"part {number + 1} of {name!r} is its {role}: {part!r} must weigh 1, got {parts[part]:g}")
    roles = _ROLES.get(name, tuple(parts))
    if len(parts) != len(roles):
        raise ValueError(
            f"{name!r} takes {len(roles)} parts, {', '.join(roles)}, in this order; got {', '.join(parts)}"
        )


def _sum(weights: Weights, results: Judgements) -> float:
    return math.fsum(w * results[part].worth for part, w in weights.items()) / math.fsum(weights.values())


def _product(weights: Weights, results: Judgements) -> float:
    return math.prod(results[part].worth ** w for part, w in weights.items())


def _shaped(weights: Weights, results: Judgements) -> float:
    verifier, model = weights
    right = _right(results[verifier])
    nothing = results[model].outcome is Outcome.UNPARSABLE
    raw = -math.inf if nothing else results[model].parts.get("raw", results[model].worth)
    value = (1.0 + qwen_math(weights[model] * raw, right)) / 2.0
    return max(value, math.nextafter(0.5, 1.0)) if right else value  # far below 0 a sigmoid rounds to 0


def _consistent(weights: Weights, results: Judgements) -> float:
    accuracy, consistency, form = (_right(results[part]) for part in weights)
    return (stable_reinforce_consistency(accuracy, consistency, form) + 0.5) / 2.5


COMBINATIONS: dict[str, Callable[[Weights, Judgements], float]] = {
    "sum": _sum,
    "product": _product,
    "shaped": _shaped,
    "consistent": _consistent,
}
_ROLES = {"shaped": ("verifier", "model"), "consistent": ("accuracy", "consistency", "form")}


def _right(result: RewardResult) -> float:
    return float(result.outcome is Outcome.CORRECT)


def _outcome(value: float, weights: Weights, results: Judgements) -> Outcome:
    if value > 0.5:
        return Outcome.CORRECT
    unparsable = any(results[part].outcome is Outcome.UNPARSABLE for part in weights)
    return Outcome.UNPARSABLE if unparsable else Outcome.WRONG


def _named(weights: Weights, results: Judgements) -> dict[str, float]:
    values = {part: results[part].worth for part in weights}
    inner = {f"{part}.{key}": value for part in weights for key, value in results[part].parts.items()}
    return values | inner

"""How sure an accuracy is."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Z = 1.959964  # 97.5 % quantile of the normal distribution


def accuracy_interval(line: Mapping[str, Any]) -> "tuple[float, float] | None":
    """The 95 % interval of an evaluation's accuracy: Wilson's score interval for as many independent responses as the
    evaluation is worth. Responses to one prompt resemble each other, so these are fewer than all: as many as explain
    how much prompts differ, or where the line does not say how each prompt went, or all went alike, one for each
    prompt.

    Args:
        line: of evals.jsonl.

    Returns:
        Its ends, or None where nothing was judged.
    """
    responses, prompts = int(line.get("responses") or 0), int(line.get("prompts") or 0)
    if not responses or line.get("accuracy") is None:
        return None
    by_prompt = line.get("by_prompt")
    independent = _independent(by_prompt) if by_prompt else float(min(responses, prompts or responses))
    return wilson(float(line["accuracy"]), independent)


def wilson(share: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share that was seen in so many independent trials, more than 0.

    Example: wilson(0.5, 100) is about (0.404, 0.596)
    """
    middle = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _independent(by_prompt: Sequence[Sequence[int]]) -> float:
    """How many independent responses have the variance that the mean has over prompts (the ratio estimator's), at
    least one for each prompt and at most all.

    Args:
        by_prompt: (correct, scored) of each prompt.
    """
    told = [(correct, scored) for correct, scored in by_prompt if scored]
    responses, prompts = sum(scored for _, scored in told), len(told)
    mean = sum(correct for correct, _ in told) / responses
    squares = sum((correct - mean * scored) ** 2 for correct, scored in told)
    if prompts < 2 or not squares:
        return float(prompts)
    variance = squares * prompts / (prompts - 1) / responses**2
    return min(float(responses), max(float(prompts), mean * (1 - mean) / variance))

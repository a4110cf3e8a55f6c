"""The figures of an evaluation, as the JSON file holds them (docs/evaluation.md), from what prompts came to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.evaluating.answers import Answered, Response
from cluster.evaluating.statistics import Estimate, best_at, estimates, majority, mean_of_estimates, pass_at
from rewards import Outcome

Figures = dict[str, Any]  # as JSON has them
LOST = "lost"  # among outcomes: of prompts that could not be sampled at all
MOST_REASONS = 5  # that are named of responses without a verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What one benchmark came to."""

    data: str  # path
    samples: int  # responses that each prompt was to have
    wanted: int  # prompts of it
    left_out: int  # prompts that are too long for the model
    answered: Sequence[Answered]  # those that are done
    no_vote_because: str  # why there is no vote; "" where there is


def figures_of(benchmark: Benchmark, models: Sequence[str]) -> Figures:
    """The figures of one benchmark.

    Args:
        benchmark: what it came to.
        models: rewards from models that scored the responses.
    """
    answered = benchmark.answered
    responses = [response for each in answered for response in each.responses]
    lost = sum(not each.responses for each in answered)
    return {
        "data": benchmark.data,
        "prompts": len(answered),
        "prompts_wanted": benchmark.wanted,
        "prompts_left_out": benchmark.left_out,
        "responses": len(responses),
        "outcomes": _outcomes(responses, lost * benchmark.samples),
        "without_verdict": _reasons(answered),
        **_rates(benchmark),
        "best_of": {name: _curve(best_values(answered, name, benchmark.samples)) for name in models},
        "tokens": _lengths(responses),
        "truncated": _share([response.truncated for response in responses]),
    }


def mean_figures(benchmarks: Sequence[Benchmark]) -> Figures:
    """The means over benchmarks, each weighing the same; empty with fewer than two that have prompts."""
    there = [each for each in benchmarks if each.answered]
    if len(there) < 2:
        return {}
    samples = there[0].samples
    (accuracy,) = mean_of_estimates([accuracies(each.answered) for each in there])
    passes = mean_of_estimates([pass_values(each.answered, samples) for each in there])
    voted = [] if any(each.no_vote_because for each in there) else [vote_values(each.answered) for each in there]
    (vote,) = mean_of_estimates(voted) if voted else (None,)
    return {"accuracy": shown(accuracy), "pass_at": _numbered(passes), "majority": shown(vote)}


def accuracies(answered: Sequence[Answered]) -> np.ndarray:
    """Share of correct responses among the scored ones of each prompt, float64[N, 1]; NaN without any."""
    return np.array([[each.correct / each.scored if each.scored else np.nan] for each in answered]).reshape(-1, 1)


def pass_values(answered: Sequence[Answered], samples: int) -> np.ndarray:
    """pass@1 to pass@samples of each prompt, float64[N, samples]; NaN where it has fewer scored responses than k."""
    values = [
        [pass_at(each.scored, each.correct, k) if k <= each.scored else np.nan for k in range(1, samples + 1)]
        for each in answered
    ]
    return np.array(values, float).reshape(-1, samples)


def best_values(answered: Sequence[Answered], model: str, samples: int) -> np.ndarray:
    """best@1 to best@samples of each prompt by the scores of a model, as `pass_values`; responses that lack a verdict
    or a score do not count."""
    values = []
    for each in answered:
        known = [r for r in each.responses if r.outcome.scored and model in r.model_scores]
        known.sort(key=lambda response: -response.model_scores[model])
        right = [response.outcome is Outcome.CORRECT for response in known]
        values.append([best_at(right, k) if k <= len(right) else np.nan for k in range(1, samples + 1)])
    return np.array(values, float).reshape(-1, samples)


def vote_values(answered: Sequence[Answered]) -> np.ndarray:
    """Whether the majority of each prompt is right, float64[N, 1]; NaN where there is no vote."""
    votes = [np.nan if each.vote is None else majority(each.vote.correct, each.vote.others) for each in answered]
    return np.array(votes, float).reshape(-1, 1)


def _rates(benchmark: Benchmark) -> Figures:
    answered, samples = benchmark.answered, benchmark.samples
    (accuracy,) = estimates(accuracies(answered))
    (vote,) = (None,) if benchmark.no_vote_because else estimates(vote_values(answered))
    return {
        "accuracy": shown(accuracy),
        "accuracy_bounds": _bounds(answered, samples),
        "pass_at": _curve(pass_values(answered, samples)),
        "majority": shown(vote),
        "majority_missing": benchmark.no_vote_because,
    }


def _bounds(answered: Sequence[Answered], samples: int) -> list[float] | None:
    """The accuracy if everything without a verdict, lost prompts among it, were wrong, and if it were correct."""
    if not answered:
        return None
    sizes = [max(samples, len(each.responses)) for each in answered]
    low = [each.correct / size for each, size in zip(answered, sizes, strict=True)]
    high = [(each.correct + size - each.scored) / size for each, size in zip(answered, sizes, strict=True)]
    return [float(np.mean(low)), float(np.mean(high))]


def _outcomes(responses: Sequence[Response], lost: int) -> dict[str, int]:
    counts = Counter(response.outcome for response in responses)
    return {**{str(outcome): counts[outcome] for outcome in Outcome}, LOST: lost}


def _reasons(answered: Sequence[Answered]) -> list[Figures]:
    """Why responses have no verdict, the most frequent reasons first."""
    reasons = [(str(r.outcome), r.why) for each in answered for r in each.responses if not r.outcome.scored]
    reasons += [(LOST, each.failure) for each in answered if not each.responses]
    common = Counter((outcome, _first_line(why)) for outcome, why in reasons).most_common(MOST_REASONS)
    return [{"outcome": outcome, "why": why, "count": count} for (outcome, why), count in common]


def _first_line(why: str) -> str:
    return why.partition("\n")[0][:300]


def _lengths(responses: Sequence[Response]) -> Figures:
    sizes = np.array([response.tokens for response in responses])
    if not sizes.size:
        return {"total": 0}
    right = np.array([response.outcome is Outcome.CORRECT for response in responses])
    return {
        "total": int(sizes.sum()),
        "mean": float(sizes.mean()),
        "median": float(np.median(sizes)),
        "p90": float(np.quantile(sizes, 0.9)),
        "max": int(sizes.max()),
        "mean_correct": float(sizes[right].mean()) if right.any() else None,
        "mean_not_correct": float(sizes[~right].mean()) if not right.all() else None,
    }


def _share(truths: Sequence[bool]) -> float | None:
    return float(np.mean(truths)) if truths else None


def _curve(values: np.ndarray) -> list[Figures]:
    return _numbered(estimates(values))


def _numbered(found: Sequence[Estimate | None]) -> list[Figures]:
    """The estimates with their k; those without a value are left out."""
    return [{"k": k, **said} for k, each in enumerate(found, 1) if (said := shown(each)) is not None]


def shown(found: Estimate | None) -> Mapping[str, Any] | None:
    """An estimate as JSON has it; None where there is none."""
    if found is None:
        return None
    return {"value": found.value, "low": found.low, "high": found.high, "prompts": found.prompts}

"""Two evaluations side by side, prompt by prompt: which turned from wrong to right and back, and by how much the
accuracy differs, with the same prompts drawn for both."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.config.errors import ConfigError
from cluster.evaluating.figures import Figures, shown
from cluster.evaluating.statistics import estimates, mean_of_estimates

KIND = "winnow evaluation"  # what the JSON file of an evaluation says that it is
FORMAT = 1
RESULT = "evaluation.json"  # in the folder of an evaluation
HALF = 0.5  # a prompt is right where more than half of its scored responses are correct


def read_evaluation(path: Path) -> Mapping[str, Any]:
    """The JSON file of an evaluation, or that in its folder.

    Raises:
        ConfigError: it is none.
    """
    file = path / RESULT if path.is_dir() else path
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as failure:
        raise ConfigError(f"--against {path} is not what winnow eval writes ({RESULT}): {failure}") from failure
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise ConfigError(f"--against {path} is not what winnow eval writes ({RESULT})")
    if found.get("format") != FORMAT:
        raise ConfigError(f"--against {path} is of format {found.get('format')}, and this winnow reads {FORMAT}")
    return found


def compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> Figures:
    """What changed from one evaluation to another.

    Prompts are the same where benchmark, id and digest of question and reference are; others are counted, and in
    nothing else.

    Args:
        before: as `read_evaluation` gives it.
        now: what `winnow eval` is about to write.
    """
    old = {_key(row): row for row in before["prompts"]}
    names = list(dict.fromkeys(row["benchmark"] for row in now["prompts"]))
    found: dict[str, Figures] = {}
    differences: list[np.ndarray] = []
    for name in names:
        rows = [row for row in now["prompts"] if row["benchmark"] == name]
        pairs = [(old[_key(row)], row) for row in rows if _key(row) in old]
        scored = [(one, two) for one, two in pairs if one["scored"] and two["scored"]]
        values = np.array([[_rate(two) - _rate(one)] for one, two in scored]).reshape(-1, 1)
        if len(values):
            differences.append(values)
        found[name] = {
            "prompts": len(scored),
            "prompts_unmatched": len(rows) - len(pairs),
            "prompts_without_verdict": len(pairs) - len(scored),
            "difference": shown(estimates(values)[0]),
            "wrong_to_right": _flipped(scored, to_right=True),
            "right_to_wrong": _flipped(scored, to_right=False),
        }
    mean = mean_of_estimates(differences)[0] if len(differences) > 1 else None
    return {"subject": before["subject"], "benchmarks": found, "mean_difference": shown(mean)}


def _key(row: Mapping[str, Any]) -> str:
    return f"{row['benchmark']}\n{row['id']}\n{row['digest']}"


def _rate(row: Mapping[str, Any]) -> float:
    return float(row["correct"] / row["scored"])


def _flipped(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], *, to_right: bool) -> list[Figures]:
    """The prompts that turned, those that changed most first."""
    turned = [
        (one, two)
        for one, two in pairs
        if (_rate(one) > HALF) != (_rate(two) > HALF) and (_rate(two) > HALF) == to_right
    ]
    turned.sort(key=lambda pair: (-abs(_rate(pair[1]) - _rate(pair[0])), pair[1]["id"]))
    return [
        {
            "id": two["id"],
            "prompt": two["prompt"],
            "before": [one["correct"], one["scored"]],
            "now": [two["correct"], two["scored"]],
        }
        for one, two in turned
    ]

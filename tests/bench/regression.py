"""Whether the ratios of a short run have fallen clearly below those of full runs, `tests/bench/recorded.json`.

Only speeds over those of others are compared: seconds to an accuracy depend on how long the turns are.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.figures import number
from tests.bench.spread import Spread

FILE = Path(__file__).with_name("recorded.json")
LEAST = 0.25  # the share of a recorded median by which a short run may always differ
RATIO = "x"  # the unit of ratios taken within one run, which say something on other machines too


def write_recorded(found: Sequence[Spread], about: str, file: Path = FILE) -> int:
    """Writes the speeds over others that have a target; how many."""
    ratios = {
        row.figure.name: {"median": row.median, "low": row.low, "high": row.high}
        for row in found
        if row.figure.unit == RATIO and row.known and row.figure.target is not None and not row.figure.most
    }
    file.write_text(json.dumps({"about": about, "ratios": ratios}, indent=1) + "\n", encoding="utf-8")
    return len(ratios)


def recorded(file: Path = FILE) -> dict[str, Any]:
    """What was written."""
    tree: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return tree


def tolerance(ratio: Mapping[str, float]) -> float:
    """By which share of its median a ratio may be worse: as much as recorded runs differ, and at least LEAST."""
    return max(LEAST, (ratio["high"] - ratio["low"]) / ratio["median"])


def fallen(found: Sequence[Spread], ratios: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each ratio that is clearly worse than what was recorded; figures without a record say nothing."""
    sentences = []
    for row in found:
        ratio = ratios.get(row.figure.name)
        if ratio is None or not math.isfinite(row.median):
            continue
        bound = ratio["median"] * (1 - tolerance(ratio))
        if row.median < bound:
            sentences.append(
                f"{row.figure.name}: {number(row.median)}, and recorded were {number(ratio['median'])} "
                f"({number(ratio['low'])} to {number(ratio['high'])}); at least {number(bound)} would do."
            )
    return sentences


def compared(found: Sequence[Spread], ratios: Mapping[str, Mapping[str, Any]]) -> int:
    """How many ratios could be compared."""
    return sum(row.figure.name in ratios and math.isfinite(row.median) for row in found)

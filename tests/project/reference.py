"""Writes the parts of docs/ that repeat tables of the code, so that they cannot drift: a test compares them.

    python -m tests.project.reference        from the root of the repository, after a table has changed

Such a part stands between two lines, `<!-- from the code: NAME -->` and `<!-- end -->`.
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cluster.config.described import about_section, described
from cluster.reporting.metric_table import METRICS, MetricGroup
from cluster.reporting.reward_model_table import REWARD_MODEL_METRICS
from learner.methods.algorithms import ALGORITHMS, Algorithm, algorithm_of
from learner.methods.formula import needs_of, objective_line
from rewards import REWARDS

ROOT = Path(__file__).parents[2]
_PART = re.compile(r"(<!-- from the code: (\w+) -->\n).*?(<!-- end -->)", re.S)


def written(text: str) -> str:
    """A page with its parts from the code as the code has them now."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n{part[3]}", text)


def parts_in(text: str) -> list[str]:
    """The names of a page's parts from the code."""
    return [name for _, name, _ in _PART.findall(text)]


# ------------------------------------------------------------------------------------------------- the parts


def _methods() -> str:
    return "\n".join(_method(name, row) for name, row in ALGORITHMS.items())


def _method(name: str, row: Algorithm) -> str:
    lines = [f"### {name}", "", _shown(row.about), "", "```"]
    lines += [*objective_line(algorithm_of(name)).replace("; ", ";\n").splitlines(), "```", ""]
    if differing := _differing(row):
        lines += [f"Differs from the defaults in {', '.join(differing)}.", ""]
    lines += [f"Needs {'; '.join(needs)}.", ""] if (needs := needs_of(row)) else []
    return "\n".join(lines)


def _differing(row: Algorithm) -> list[str]:
    """The plain values of a row that are not the table's defaults."""
    plain = (str, int, float, tuple)
    return [
        f"`{field.name}` = {_value(getattr(row, field.name))}"
        for field in fields(row)
        if field.name not in ("about", "siblings", "side_models", "needs")
        and field.default is not MISSING
        and isinstance(value := getattr(row, field.name), plain)
        and value != field.default
    ]


def _metrics() -> str:
    return "\n\n".join(f"### {group}\n\n{group.about}\n\n{_metrics_of(group).rstrip()}" for group in MetricGroup)


def _metrics_of(group: MetricGroup) -> str:
    mine = {name: metric for name, metric in METRICS.items() if metric.group is group}
    return _table(("metric", "unit", "is"), ((f"`{name}`", m.unit, _shown(m.line)) for name, m in mine.items()))


def _reward_model_metrics() -> str:
    rows = ((f"`{name}`", metric.unit, _shown(metric.about)) for name, metric in REWARD_MODEL_METRICS.items())
    return _table(("metric", "unit", "is"), rows)


def _rewards() -> str:
    return _table(("reward", "grades"), ((f"`{name}`", _shown(row.about)) for name, row in REWARDS.items()))


def _settings() -> str:
    """A table for each class of settings; sections of one class, such as the rewards of answers, share theirs."""
    sections: dict[type[BaseModel], list[str]] = {}
    rows: dict[type[BaseModel], dict[str, tuple[str, ...]]] = {}
    for row in described():
        if row.section not in sections.setdefault(row.owner, []):
            sections[row.owner].append(row.section)
        default = "required" if row.required else f"`{row.default}`" if row.default else ""
        if row.key != "kind":  # the page says it once, for all rewards
            cells = (f"`{row.key}`", _shown(row.kind), _shown(default), _shown(row.about))
            rows.setdefault(row.owner, {})[row.key] = cells
    return "\n".join(
        f"## {', '.join(f'[{section}]' for section in sections[kind])}\n\n{_about(kind)}"
        f"{_table(('setting', 'kind', 'default', 'is'), found.values())}"
        for kind, found in rows.items()
    )


def _about(kind: type[BaseModel]) -> str:
    """What a class of settings says of itself, without the names of the sections that it begins with."""
    text = re.sub(r"^(\[[\w.]+\](, |: |\.$)?)+", "", about_section(kind))
    return f"{_shown(text[:1].upper() + text[1:])}\n\n" if text else ""


PARTS: Mapping[str, Callable[[], str]] = {
    "methods": _methods,
    "metrics": _metrics,
    "reward_model_metrics": _reward_model_metrics,
    "rewards": _rewards,
    "settings": _settings,
}


# --------------------------------------------------------------------------------------------- how it is shown


def _table(headings: tuple[str, ...], rows: Any) -> str:
    lines = [" | ".join(headings), " | ".join("---" for _ in headings), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def _shown(text: str) -> str:
    """A sentence of the code as Markdown shows it: one line, nothing outside of back ticks read as markup."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if number % 2 else re.sub(r"([|<*_])", r"\\\1", part) for number, part in enumerate(parts))


def _value(value: Any) -> str:
    if value is None or value in ((), {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else '`""`'


def main() -> int:
    """Writes every page anew."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if written(text) != text:
            page.write_text(written(text), encoding="utf-8")
            print(f"written: {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes the parts of docs/ that repeat tables of the code, so that they cannot drift: a test compares them.

    python -m tests.project.reference        from the root of the repository, after a table has changed

Such a part stands between two lines, `<!-- from the code: NAME -->` and `<!-- end -->`.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from cluster.config.run_config import RunConfig
from cluster.reporting.metric_table import METRICS, MetricGroup
from learner.methods.algorithms import ALGORITHMS, Algorithm, algorithm_of
from learner.methods.formula import objective_line
from rewards import KINDS, REWARDS

ROOT = Path(__file__).parents[2]
_PART = re.compile(r"(<!-- from the code: (\w+) -->\n).*?(<!-- end -->)", re.S)


def written(text: str) -> str:
    """A page with its parts from the code as the code has them now."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n{part[3]}", text)


def parts_in(text: str) -> list[str]:
    """The names of a page's parts from the code."""
    return [name for _, name, _ in _PART.findall(text)]


def settings() -> Iterator[tuple[str, type[BaseModel], str, Any]]:
    """(section, its class, setting, pydantic's field) of everything that a run file may hold, in order."""
    yield from _settings_of(RunConfig, "")
    for kind, section in KINDS.items():
        yield from _settings_of(section, f"reward.{kind}.")


def _settings_of(kind: type[BaseModel], before: str) -> Iterator[tuple[str, type[BaseModel], str, Any]]:
    for name, field in kind.model_fields.items():
        inner = _section_in(field.annotation)
        if inner is not None:
            yield from _settings_of(inner, f"{before}{name}.")
        else:
            yield before.rstrip("."), kind, name, field


def _section_in(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


# ------------------------------------------------------------------------------------------------- the parts


def _methods() -> str:
    return "\n".join(_method(name, row) for name, row in ALGORITHMS.items())


def _method(name: str, row: Algorithm) -> str:
    lines = [f"### {name}", "", _shown(row.about), "", "```"]
    lines += [*objective_line(algorithm_of(name)).replace("; ", ";\n").splitlines(), "```", ""]
    if differing := _differing(row):
        lines += [f"Differs from the defaults in {', '.join(differing)}.", ""]
    needs = [f"{need.formula} (`{need}`)" for need in (*row.side_models, *sorted(row.needs))]
    needs += [f"at least {row.siblings} responses to a prompt"] if row.siblings > 1 else []
    lines += [f"Needs {'; '.join(needs)}.", ""] if needs else []
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


def _rewards() -> str:
    return _table(("reward", "grades"), ((f"`{name}`", _shown(row.about)) for name, row in REWARDS.items()))


def _settings() -> str:
    """A table for each class of settings; sections of one class, such as the rewards of answers, share theirs."""
    sections: dict[type[BaseModel], list[str]] = {}
    rows: dict[type[BaseModel], dict[str, tuple[str, ...]]] = {}
    for section, kind, name, field in settings():
        if section not in sections.setdefault(kind, []):
            sections[kind].append(section)
        of_the_row = _comments(Algorithm).get(name, "") if section == "objective" else ""
        meaning = field.description or _comments(kind).get(name) or of_the_row
        default = "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
        if name != "kind":  # the page says it once, for all rewards
            rows.setdefault(kind, {})[name] = (f"`{name}`", _kind(field.annotation), default, _shown(meaning))
    return "\n".join(
        f"## {', '.join(f'[{section}]' for section in sections[kind])}\n\n{_about(kind)}"
        f"{_table(('setting', 'kind', 'default', 'is'), found.values())}"
        for kind, found in rows.items()
    )


def _about(kind: type[BaseModel]) -> str:
    """What a class of settings says of itself, without the names of the sections that it begins with."""
    text = re.sub(r"^(\[[\w.]+\](, |: |\.$)?)+", "", " ".join((kind.__doc__ or "").split()))
    return f"{_shown(text[:1].upper() + text[1:])}\n\n" if text else ""


PARTS: Mapping[str, Callable[[], str]] = {
    "methods": _methods,
    "metrics": _metrics,
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


def _kind(annotation: Any) -> str:
    """A type in words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin is Literal:
        return ", ".join('`""`' if value == "" else f"`{value}`" for value in get_args(annotation) if value is not None)
    if origin in (tuple, list):
        return f"list of {_kind(get_args(annotation)[0])}"
    if origin is dict:
        return "table"
    if origin is Union or type(annotation).__name__ == "UnionType":
        return " or ".join(_kind(part) for part in get_args(annotation) if part is not type(None))
    return {str: "text", int: "whole number", float: "number", bool: "true, false"}.get(annotation, str(annotation))


def _comments(kind: type) -> dict[str, str]:
    """Field of a class -> the comment behind it, or the text below it; those of its bases too."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] not in ("actors", "cluster", "learner", "rewards"):
            continue
        source = textwrap.dedent(inspect.getsource(base))
        lines, body = source.splitlines(), ast.parse(source).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for number, node in enumerate(statements):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            said = [_behind(line) for line in lines[node.lineno - 1 : (node.end_lineno or node.lineno)]]
            below = statements[number + 1] if number + 1 < len(statements) else None
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                said.append(str(below.value.value))
            found[node.target.id] = " ".join(filter(None, said))
    return found


def _behind(line: str) -> str:
    """The comment at the end of a line; "" without one."""
    return line.rpartition("  # ")[2].strip() if "  # " in line else ""


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

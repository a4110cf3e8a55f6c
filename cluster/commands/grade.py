"""`winnow grade`: grades the cases of a file and says how they ended."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from actors.data.reading import read_objects
from actors.errors import DataError
from cluster.config.errors import ConfigError
from cluster.config.run_config import GradingConfig
from cluster.preparing.graders import Graders, progress
from rewards import Case, Outcome, Question, Verdict, reward_names

NEEDED = ("response", "reference")


def grade_file(path: Path, config: GradingConfig, out: Path | None, workers: int) -> None:
    """Writes every row with its outcome, score and why, to a file or to stdout, and a table by outcome to stderr.

    Args:
        path: JSON lines or Parquet with `response`, `reference`, and where they differ from row to row `reward` and
            `prompt`. A column `expected` (correct or wrong) is compared with what was found.
        config: the settings of the rewards.
        out: the file; None is stdout.
        workers: processes; 0 takes one for each core.

    Raises:
        ConfigError: the file cannot be read, or a row lacks what it needs; file and line are named.
    """
    try:
        rows = list(read_objects(path))
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    questions = [_question(path, line, row, config) for line, row in rows]
    console = Console(stderr=True)
    counts: Counter[tuple[str, str]] = Counter()
    with Graders(workers) as graders, _writer(out) as file:
        verdicts = progress(graders.grade(questions), "grading", len(questions))
        for (_, row), question, verdict in zip(rows, questions, verdicts, strict=True):
            print(json.dumps(row | _found(verdict), ensure_ascii=False, default=str), file=file)
            counts.update(_marks(question.reward, row, verdict))
    console.print(summary(counts))


def summary(counts: Counter[tuple[str, str]]) -> Table:
    """A row for each reward: how many cases ended how, and how many as expected where that is known."""
    expects = any(column == "expected" for _, column in counts)
    table = Table("reward", "cases", *Outcome, *(["right"] if expects else []))
    for reward in dict.fromkeys(reward for reward, _ in counts):
        cells = [str(counts[reward, column]) for column in ("cases", *Outcome)]
        if expects:
            cells.append(f"{counts[reward, 'right']} of {counts[reward, 'expected']}")
        table.add_row(reward, *cells)
    return table


def _question(path: Path, line: int, row: dict[str, Any], config: GradingConfig) -> Question:
    missing = [name for name in NEEDED if name not in row]
    if missing:
        raise ConfigError(f"{path}:{line} has no {missing[0]!r} (columns there: {', '.join(row) or 'none'})")
    reward = row.get("reward", config.reward.name)
    if reward not in reward_names():
        raise ConfigError(f"{path}:{line} asks for the reward {reward!r}; there are {', '.join(reward_names())}")
    text = {name: _text(row.get(name, "")) for name in (*NEEDED, "prompt")}
    case = Case(**text, tokens=int(row.get("tokens", 0)), max_new_tokens=int(row.get("max_new_tokens", 0)))
    return Question(reward=reward, case=case, settings=config.reward)


def _text(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell)


def _found(verdict: Verdict) -> dict[str, Any]:
    found = {"outcome": verdict.outcome.value, "score": verdict.score, "why": verdict.why}
    return found | ({"parts": dict(verdict.parts)} if verdict.parts else {})


def _marks(reward: str, row: dict[str, Any], verdict: Verdict) -> Iterator[tuple[str, str]]:
    yield reward, "cases"
    yield reward, verdict.outcome.value
    if "expected" in row:
        yield reward, "expected"
        if (row["expected"] == "correct") is (verdict.outcome is Outcome.CORRECT) and verdict.outcome.scored:
            yield reward, "right"


@contextmanager
def _writer(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("w", encoding="utf-8") as file:
            yield file
    except OSError as failure:
        raise ConfigError(f"cannot write {out} (--out): {failure.strerror}") from failure

"""`winnow grade`: grades the cases of a file and says how they ended."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.table import Table

from actors.data.reading import read_objects
from actors.errors import DataError
from cluster.config.errors import ConfigError
from cluster.config.run_config import GradingConfig
from cluster.preparing.graders import Graders, progress
from cluster.reporting.terminal import console
from rewards import Case, Outcome, Question, Verdict

NEEDED = ("response", "reference")


def grade_file(path: Path, config: GradingConfig, out: Path | None, workers: int) -> None:
    """Writes every row with its outcome, score and why, to a file or to stdout, and a table by outcome to stderr.

    Args:
        path: JSON lines or Parquet with `response`, `reference`, and where they differ from row to row `reward` and
            `prompt`. Rows with the same value in a column `group` are siblings: responses to one prompt, which rewards
            that compare siblings grade together. A column `expected` (correct or wrong) is compared with the outcome.
        config: the settings of the rewards.
        out: the file; None is stdout.
        workers: processes; 0 takes one for each core.

    Raises:
        ConfigError: the file cannot be read, a row lacks what it needs, or siblings differ in their prompt, reference
            or reward; file and line are named.
    """
    try:
        rows = list(read_objects(path))
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    questions = [_question(path, line, row, config) for line, row in rows]
    groups = _groups(path, rows, questions)
    terminal = console(sys.stderr)
    counts: Counter[tuple[str, str]] = Counter()
    with Graders(workers) as graders, _writer(out) as file:
        verdicts = progress(_verdicts(graders, questions, groups), "grading", len(questions))
        for (_, row), question, verdict in zip(rows, questions, verdicts, strict=True):
            print(json.dumps(row | _found(verdict), ensure_ascii=False, default=str), file=file)
            counts.update(_cells(question.reward, row, verdict))
    terminal.print(summary(counts))


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
    if reward not in config.reward.names:
        raise ConfigError(f"{path}:{line} asks for the reward {reward!r}; there are {', '.join(config.reward.names)}")
    text = {name: _text(row.get(name, "")) for name in (*NEEDED, "prompt")}
    case = Case(**text, tokens=int(row.get("tokens", 0)), max_new_tokens=int(row.get("max_new_tokens", 0)))
    return Question(reward=reward, case=case, settings=config.reward)


def _groups(path: Path, rows: Sequence[tuple[int, dict[str, Any]]], questions: Sequence[Question]) -> list[list[int]]:
    """The places of the siblings that are to be graded together, group by group.

    Raises:
        ConfigError: siblings differ in their prompt, reference or reward.
    """
    found: dict[str, list[int]] = {}
    for place, ((line, row), question) in enumerate(zip(rows, questions, strict=True)):
        if row.get("group") is None or not question.settings.wants_group(question.reward):
            continue
        siblings = found.setdefault(str(row["group"]), [])
        siblings.append(place)
        first = questions[siblings[0]]
        for name, ours, theirs in (
            ("reward", question.reward, first.reward),
            ("reference", question.case.reference, first.case.reference),
            ("prompt", question.case.prompt, first.case.prompt),
        ):
            if ours != theirs:
                raise ConfigError(
                    f"{path}:{line} has the {name} {ours[:80]!r} and line {rows[siblings[0]][0]} the {name} "
                    f"{theirs[:80]!r}, but both are of the group {row['group']!r}: siblings answer one prompt"
                )
    return list(found.values())


def _verdicts(graders: Graders, questions: Sequence[Question], groups: Sequence[Sequence[int]]) -> Iterator[Verdict]:
    """One verdict per question, in order."""
    grouped = {place for group in groups for place in group}
    alone = graders.grade([question for place, question in enumerate(questions) if place not in grouped])
    of_groups = graders.grade_groups([[questions[place] for place in group] for group in groups])
    early: dict[int, Verdict] = {}  # of groups whose first row has come
    left = iter(groups)
    for place in range(len(questions)):
        if place in grouped and place not in early:
            early.update(zip(next(left), next(of_groups), strict=True))
        yield early.pop(place) if place in grouped else next(alone)


def _text(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell)


def _found(verdict: Verdict) -> dict[str, Any]:
    found = {"outcome": verdict.outcome.value, "score": verdict.score, "why": verdict.why}
    return found | ({"parts": dict(verdict.parts)} if verdict.parts else {})


def _cells(reward: str, row: dict[str, Any], verdict: Verdict) -> Iterator[tuple[str, str]]:
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

"""`winnow grade`: grades the cases of a file and says how they ended."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.table import Table

from actors.data.cells import text_of
from actors.data.files import BadRow, FileRow, files_of, read_files
from actors.data.messages import conversation_of, messages_in, question_of
from actors.data.reading import messages_of, reference_of, system_of
from actors.errors import DataError
from actors.settings import DataSettings
from cluster.config.errors import ConfigError
from cluster.config.run_config import GradingConfig
from cluster.preparing.asking import refused_messages
from cluster.preparing.graders import Graders, progress
from cluster.preparing.references import reads_references
from cluster.reporting.terminal import console, plain
from rewards import Case, ChatMessage, JudgeSettings, Outcome, Question, Verdict

SHOWN = 20  # bad rows that are named one by one
RECORDED = ("prompt_id", "question", "messages")  # columns of the rows that a run writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A row and what is asked of its reward."""

    row: FileRow
    question: Question


def grade_file(path: Path, config: GradingConfig, out: Path | None, workers: int) -> int:
    """Writes every row with its outcome, score and why, to a file or to stdout, and a table by outcome to stderr.

    Rows that cannot be graded are named on stderr and left out; the others are graded. Returns how many are left out.

    Args:
        path: a file of rows, such as JSON lines or Parquet, with `response`, with `reference` where the reward compares
            with one, and where they differ from row to row `reward` and `prompt`, a text or chat messages; or rows that
            a run wrote. Rows with the same value in a column `group` are siblings: responses to one prompt, which
            rewards that compare siblings grade together. A column `expected` (correct or wrong) is compared with the
            outcome.
        config: the settings of the rewards.
        out: the file; None is stdout.
        workers: processes; 0 takes one for each core.

    Raises:
        ConfigError: the file cannot be read, or none of its rows can be graded.
    """
    bad: list[BadRow] = []
    try:
        rows = list(read_files(str(path), bad.append))
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    asked = []
    for row in rows:
        try:
            asked.append(Asked(row=row, question=_question(row, config)))
        except ValueError as problem:
            bad.append(BadRow(place=row.place, problem=str(problem)))
    refused = refused_messages((each.row.place, each.question) for each in asked)
    bad += refused
    places = {row.place for row in refused}
    asked, groups = _groups([each for each in asked if each.row.place not in places], bad)
    if not asked:
        raise ConfigError(f"no row of {path} can be graded" + (f": {bad[0]}" if bad else ": it holds none"))
    counts: Counter[tuple[str, str]] = Counter()
    with Graders(workers) as graders:
        check_rewards([each.question for each in asked], graders)
        with writer(path, out) as file:
            verdicts = progress(_verdicts(graders, [each.question for each in asked], groups), "grading", len(asked))
            for each, verdict in zip(asked, verdicts, strict=True):
                print(line_of(each.row.cells | _found(verdict)), file=file, flush=True)
                counts.update(_cells(each.question.reward, each.row.cells, verdict))
    console(sys.stderr).print(summary(counts))
    name_left_out(bad, len(bad) + len(asked), "graded")
    return len(bad)


def name_left_out(bad: Sequence[BadRow], rows: int, done: str) -> None:
    """Names the rows on stderr that could not be graded or labelled, of so many."""
    terminal = console(sys.stderr)
    for one in bad[:SHOWN]:
        terminal.print(plain(str(one)))
    if bad:
        more = f", of which the first {SHOWN} are named above" if len(bad) > SHOWN else ""
        terminal.print(f"rows that could not be {done}: {len(bad)} of {rows}{more}")


def check_rewards(questions: Sequence[Question], graders: Graders) -> None:
    """Whether the rewards that are asked can be used as they are set; each is looked at once.

    Raises:
        ConfigError: one cannot, such as one whose file does not load.
    """
    first = {question.reward: question for question in reversed(questions)}
    for reward, question in sorted(first.items()):
        settings = question.settings
        for leaf, section in settings.leaves(reward).items():
            if isinstance(section, JudgeSettings) and not section.url:
                raise ConfigError(
                    f"reward.{leaf}.url must be set to an endpoint, such as http://host:8000/v1: only a training run "
                    f"hosts a judge, got {section.url!r}"
                )
        (problem,) = graders.problems(reward, [question.case.reference], settings)
        if problem.startswith("reward."):
            raise ConfigError(problem)


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


def _question(row: FileRow, config: GradingConfig) -> Question:
    """What is asked of a row's reward.

    Raises:
        ValueError: the row lacks what it takes; the problem says what.
    """
    cells = row.cells
    check_columns(cells, ("response",))
    reward = reward_of(cells, config)
    text = {
        name: _text(name, cells.get(name), reference_of if name == "reference" else text_of)
        for name in ("response", "reference", "prompt")
    }
    if (expected := cells.get("expected")) not in (None, "correct", "wrong"):
        raise ValueError(f"has {expected!r} in column 'expected', expected correct or wrong")
    question, messages = _asked(row, text["prompt"], config.data)
    case = Case(
        response=text["response"],
        reference=text["reference"],
        prompt=text["prompt"],
        question=question,
        messages=messages,
        tokens=_count("tokens", cells.get("tokens")),
        max_new_tokens=_count("max_new_tokens", cells.get("max_new_tokens")),
    )
    return Question(reward=reward, case=case, settings=config.reward)


def _asked(row: FileRow, prompt: str, data: DataSettings) -> tuple[str, tuple[ChatMessage, ...]]:
    """The question of a row and its messages: as the run that wrote it knew them, else those of the prompt.

    Raises:
        ValueError: there are messages that cannot be read.
    """
    if all(name in row.cells for name in RECORDED):
        said = messages_in(row.cells["messages"]) or ()
        return text_of(row.cells["question"]), tuple(ChatMessage(each.role, each.content) for each in said)
    asked = messages_of(row, "prompt") or prompt
    if not asked:
        return "", ()
    return question_of(asked), conversation_of(asked, system_of(row, data.system_column) or data.system)


def check_columns(cells: Mapping[str, Any], needed: Sequence[str]) -> None:
    """Whether a row has what it needs.

    Raises:
        ValueError: it has not; the problem names the first column that is missing.
    """
    if missing := [name for name in needed if cells.get(name) is None]:
        raise ValueError(f"has no {missing[0]!r} (columns there: {', '.join(cells) or 'none'})")


def reward_of(cells: Mapping[str, Any], config: GradingConfig) -> str:
    """The reward of a row: that of its column `reward`, else reward.name.

    Raises:
        ValueError: there is no such reward, or the row lacks the reference that it compares with.
    """
    reward = config.reward.name if cells.get("reward") in (None, "") else cells["reward"]
    if reward not in config.reward.names:
        raise ValueError(f"asks for the reward {reward!r}; there are {', '.join(config.reward.names)}")
    if reads_references(reward, config.reward):
        try:
            check_columns(cells, ("reference",))
        except ValueError as problem:
            raise ValueError(
                f"{problem}, and the reward {reward!r} compares with one: add the column, or set reward.name to a "
                "reward that compares with none, such as format, judge or own"
            ) from None
    return str(reward)


def _text(name: str, cell: Any, written: Callable[[Any], str]) -> str:
    try:
        return "" if cell is None else written(cell)
    except ValueError as problem:
        raise ValueError(f"has in column {name!r} {problem}") from None


def _count(name: str, cell: Any) -> int:
    if cell is None:
        return 0
    whole = isinstance(cell, int | float) and not isinstance(cell, bool) and cell == cell // 1 and cell >= 0
    if not whole and not (isinstance(cell, str) and cell.isdecimal()):
        raise ValueError(f"has {cell!r} in column {name!r}, expected a whole number")
    return int(cell)


def _groups(asked: Sequence[Asked], bad: list[BadRow]) -> tuple[list[Asked], list[list[int]]]:
    """(the rows, without groups whose siblings differ; the places of siblings to be graded together, by group).

    A group is one prompt's: where its rows differ in prompt, reference or reward, all of them are added to `bad`.
    """
    found: dict[str, list[Asked]] = {}
    for each in asked:
        if each.row.cells.get("group") is not None and each.question.settings.wants_group(each.question.reward):
            found.setdefault(str(each.row.cells["group"]), []).append(each)
    left_out = set()
    for name, siblings in found.items():
        if problem := _differ(name, siblings):
            left_out.add(name)
            bad += [BadRow(place=each.row.place, problem=problem) for each in siblings]
    away = {id(each) for name in left_out for each in found[name]}
    kept = [each for each in asked if id(each) not in away]
    places = {id(each): place for place, each in enumerate(kept)}
    return kept, [[places[id(each)] for each in found[name]] for name in found if name not in left_out]


def _differ(group: str, siblings: Sequence[Asked]) -> str:
    """In what the siblings of a group differ that they must share; "" where in nothing."""
    first = siblings[0].question
    for each in siblings[1:]:
        for name, ours, theirs in (
            ("reward", each.question.reward, first.reward),
            ("reference", each.question.case.reference, first.case.reference),
            ("prompt", each.question.case.prompt, first.case.prompt),
        ):
            if ours != theirs:
                return (
                    f"is of the group {group!r}, in which {each.row.place} has the {name} {ours[:80]!r} and "
                    f"{siblings[0].row.place} the {name} {theirs[:80]!r}: siblings answer one prompt"
                )
    return ""


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


def line_of(row: Mapping[str, Any]) -> str:
    """A row as one line of JSON; what cannot be encoded is escaped."""
    line = json.dumps(row, ensure_ascii=False, default=str)
    return line if _encodes(line) else json.dumps(row, default=str)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _found(verdict: Verdict) -> dict[str, Any]:
    found = {"outcome": verdict.outcome.value, "score": verdict.score, "why": verdict.why}
    return found | ({"parts": dict(verdict.parts)} if verdict.parts else {})


def _cells(reward: str, row: Mapping[str, Any], verdict: Verdict) -> Iterator[tuple[str, str]]:
    yield reward, "cases"
    yield reward, verdict.outcome.value
    if row.get("expected") is not None:
        yield reward, "expected"
        if (row["expected"] == "correct") is (verdict.outcome is Outcome.CORRECT) and verdict.outcome.scored:
            yield reward, "right"


@contextmanager
def writer(path: Path, out: Path | None) -> Iterator[TextIO]:
    """The file for the rows of the files at `path`, stdout where none is given.

    Raises:
        ConfigError: it cannot be written, or is one of these files.
    """
    if out is None:
        yield sys.stdout
        return
    if any(out.resolve() == file.resolve() for file in files_of(str(path))):
        raise ConfigError(f"{out} (--out) is the file that is read: give another")
    try:
        with out.open("w", encoding="utf-8") as file:
            yield file
    except OSError as failure:
        raise ConfigError(f"cannot write {out} (--out): {failure.strerror}") from failure

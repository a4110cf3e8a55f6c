"""Tries rewards on the rows: the grader must take every reference for a right response to its own prompt."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.data.cells import cell_at
from actors.data.files import BadRow, FileRow
from actors.data.reading import DataRow, data_row
from cluster.commands.drafting.columns import FINAL, Reading, first_solution, options_beside
from cluster.config.errors import ConfigError
from cluster.preparing.graders import Graders
from cluster.preparing.references import bad_references
from rewards import Case, Outcome, Question, RewardSettings
from rewards.answers.reference import answers_of
from rewards.queries.sql import variants

TRIED, TRIED_PROGRAMS = 400, 40  # rows, spread over the file; programs take a sandbox each
ENOUGH = 0.9  # share of the rows that must be accepted
ENOUGH_ALIKE = 0.3  # share of the references that must look like an answer of a kind for it to be tried
MOST_LETTERS = {"number": 40, "math": 200, "exact": 60}  # letters of an answer that stands alone
WORDS = 10  # of a text that is compared word by word
_BEHIND = re.compile(r".*####\s*(.+?)\s*\Z", re.DOTALL)
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{(.+)\}", re.DOTALL)
_NUMBER = re.compile(r"[-+−]?\s*[$€£]?\s*[-+−]?(?:\d[\d,]*\.?\d*|\.\d+)(?:\s*/\s*\d+)?\s*%?\.?")
_LETTER = re.compile(r"\(?[A-J]\)?\.?|\(?[A-J][).:]\s.{1,200}", re.DOTALL)
_PROGRAM = re.compile(  # what a program or a query has and an answer has not
    r"^[ \t]*(?:def \w+\(|class \w+.*[:{]$|import [\w.]+(?: as \w+)?$|from [\w.]+ import |#include\b|"
    r"public (?:static|class) |(?:for|while|if) .*[:{]$|(?i:select\b.*\bfrom\b))|"
    r"\b(?:print|printf|input|console\.log|System\.out\.\w+)\(|\blambda [\w, ]*:|\bfunction \w*\(.*\{|\bcout <<",
    re.MULTILINE,
)
_FORMULA = re.compile(r"[\d\\=^+*/√π<>]|\A[a-zA-Z]\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of the rows when they were read in one way and graded by one reward."""

    reading: Reading
    reward: str
    tried: int  # rows
    accepted: int  # whose reference, or solution, was found right
    bad: tuple[BadRow, ...]  # the others
    with_solution: bool  # whether a column beside the reference holds right responses

    @property
    def share(self) -> float:
        """Of the rows, those accepted."""
        return self.accepted / self.tried

    def __str__(self) -> str:
        what = "solutions" if self.with_solution else "references"
        if self.reward == "code" and not self.with_solution:
            return f"{self.reward} can run the tests of {self.accepted} of {self.tried} rows; no column holds solutions"
        return f"{self.reward} finds {self.accepted} of {self.tried} {what} right"


def trials(found: Sequence[Reading], rows: Sequence[FileRow], tree: Mapping[str, Any], graders: Graders) -> list[Trial]:
    """All trials that were worth one, the best first. Tests and queries go before answers, as they say more.

    Args:
        found: ways to read the rows.
        rows: of the file.
        tree: what a person says in the section [reward]; a name there is the only one that is tried.
        graders: that grade.
    """
    made: list[Trial] = []
    wanted = tree.get("name", "")
    for reading in found:
        for name in [name for name in reading.rewards if wanted in ("", name)] or [wanted]:
            given = tree.get(name, {})
            section = {name: {**reading.settings, **given}} if reading.settings or given else {}
            settings = RewardSettings.model_validate({**tree, "name": name, **section})
            if (trial := _trial(reading, settings, rows, graders)) is not None:
                made.append(trial)
        if made and made[-1].reward not in FINAL and made[-1].share >= ENOUGH:
            break
    return sorted(made, key=lambda trial: -trial.share)  # equal ones stay in order: columns, then the strictest reward


def evenly(rows: Sequence[FileRow], most: int) -> list[FileRow]:
    """At most so many of the rows, evenly from all over."""
    step = max(1.0, len(rows) / most)
    return [rows[int(number * step)] for number in range(min(most, len(rows)))]


def _trial(reading: Reading, settings: RewardSettings, rows: Sequence[FileRow], graders: Graders) -> Trial | None:
    """None where the references do not look like what the reward reads, so that accepting them would mean nothing."""
    reward = settings.name
    chosen = evenly(rows, TRIED_PROGRAMS if reward == "code" else TRIED)
    read, bad = _read(reading, reward, chosen)
    if not fits(reward, [row.reference for row, _ in read]) or (reward in FINAL and _are_places(reading, chosen)):
        return None
    shaped = [(row, file) for row, file in read if reward not in FINAL or looks_like(reward, row.reference)]
    there = {row.place for row, _ in shaped}
    bad += [_unlike(row, reward) for row, _ in read if row.place not in there]
    try:
        unusable = bad_references([row for row, _ in shaped], settings, graders)
    except ConfigError as problem:
        unusable = [BadRow(place=row.place, problem=str(problem)) for row, _ in shaped]
    out = {row.place for row in unusable}
    good = [(row, _response(row, file, reading, reward)) for row, file in shaped if row.place not in out]
    wrong = _wrong(good, settings, graders)
    return Trial(
        reading=reading,
        reward=reward,
        tried=len(chosen),
        accepted=len(good) - len(wrong),
        bad=(*bad, *unusable, *wrong),
        with_solution=bool(reading.solutions) and any(response for _, response in good),
    )


def _read(reading: Reading, reward: str, rows: Sequence[FileRow]) -> tuple[list[tuple[DataRow, FileRow]], list[BadRow]]:
    """(the rows that can be read, each also as it is in the file; the others)."""
    read, bad = list[tuple[DataRow, FileRow]](), list[BadRow]()
    for row in rows:
        try:
            read.append((data_row(row, reading.data, reward), row))
        except ValueError as problem:
            bad.append(BadRow(place=row.place, problem=str(problem)))
    return read, bad


def _response(row: DataRow, file: FileRow, reading: Reading, reward: str) -> str:
    """What must be right: the reference itself, or the solution beside it; "" where there is none."""
    if reward in FINAL:
        return answers_of(row.reference)[0]
    solution = first_solution(file, reading.solutions)
    if reward == "sql":
        try:
            return next(iter(variants(solution)), "")
        except ValueError:
            return solution
    return solution


def _wrong(good: Sequence[tuple[DataRow, str]], settings: RewardSettings, graders: Graders) -> list[BadRow]:
    """The rows whose right response is not found right; rows without one are not asked about."""
    asked = [(row, response) for row, response in good if response]
    questions = [
        Question(reward=settings.name, case=Case(response=response, reference=row.reference), settings=settings)
        for row, response in asked
    ]
    verdicts = graders.grade(questions)
    return [
        BadRow(place=row.place, problem=f"has a right response that is graded {verdict.outcome}: {verdict.why}")
        for (row, _), verdict in zip(asked, verdicts, strict=True)
        if verdict.outcome is not Outcome.CORRECT
    ]


# ------------------------------------------------------------------------------- what answers look like


def fits(reward: str, references: Sequence[str]) -> bool:
    """Whether enough references look like what the reward reads."""
    if not references or reward not in FINAL:
        return bool(references)
    alike = [text for text in references if looks_like(reward, text)]
    if reward == "math":
        alike = [text for text in alike if any(_FORMULA.search(final_part(one)) for one in answers_of(text))]
    return len(alike) >= ENOUGH_ALIKE * len(references)


def looks_like(reward: str, reference: str) -> bool:
    """Whether a reference has the form that a reward of final answers is meant for. Grading alone does not tell that:
    `number` finds a number in almost every text, and `exact` takes any text for itself. Of several answers, each of
    which is right, one is enough."""
    return any(_looks_like(reward, answer) for answer in answers_of(reference))


def _looks_like(reward: str, whole: str) -> bool:
    answer = final_part(whole)
    if _PROGRAM.search(answer):
        return False
    if reward == "choice":
        return bool(_LETTER.fullmatch(answer))
    if reward == "number":
        return bool(_NUMBER.fullmatch(answer))
    if reward == "exact":  # compares whole texts, so that a marker in the reference does not help
        answer = whole.strip()
        return len(answer.split()) <= WORDS and 0 < len(answer) <= MOST_LETTERS["exact"] and "\n" not in answer
    return 0 < len(answer) <= MOST_LETTERS["math"] and "\n" not in answer


def final_part(answer: str) -> str:
    """What stands behind the marker of GSM8K or in the box of MATH; else all of it."""
    text = answer.strip()
    if behind := _BEHIND.fullmatch(text):
        return behind[1]
    boxes = _BOX.findall(text)
    return boxes[-1].strip() if boxes else text


def _are_places(reading: Reading, rows: Sequence[FileRow]) -> bool:
    """Whether the answers are numbers of options, which no reward reads."""
    options, column = options_beside(rows), reading.data.answer_column
    return bool(options) and isinstance(column, str) and places_of(rows, options, column)


def places_of(rows: Sequence[FileRow], options: str, column: str) -> bool:
    """Whether a column holds the places of right answers in the lists of another one."""

    def is_place(cells: Mapping[str, object]) -> bool:
        there, place = cell_at(cells, options), cell_at(cells, column)
        number = int(place) if isinstance(place, str) and place.isdecimal() else place
        return isinstance(there, list | tuple) and isinstance(number, int) and 0 <= number <= len(there)

    return bool(rows) and all(is_place(row.cells) for row in rows)


def _unlike(row: DataRow, reward: str) -> BadRow:
    return BadRow(place=row.place, problem=f"has an answer that is none for {reward}: {row.reference[:80]!r}")

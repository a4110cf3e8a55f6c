"""In which ways the rows of a data file may be read: which columns ask, which answer, and which rewards could grade
that. Names and forms are those of well-known data sets; what becomes of them is tried in `trial.py`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.data.cells import cell_at, names_in, opened
from actors.data.files import FileRow
from actors.data.messages import messages_in, written_messages
from actors.settings import DataSettings
from rewards.queries.databases import find_database
from rewards.queries.sql import DATABASE_KEYS, GOLD_KEYS

MOST = 0.5  # share of the rows that must have something in a column for it to be looked at
PROMPTS = (
    *("prompt", "question", "problem", "messages", "conversations", "instruction", "query", "task", "input"),
    *("text", "context_messages", "problem_statement", "description", "question_content", "extra_info.question"),
)
BEFORE = ("body", "context", "passage", "paragraph", "schema", "create_table", "create_table_statement", "sql_context")
BEHIND = ("evidence", "choices", "choices.text", "options", "starter_code")
ANSWERS = (
    *("reward_model.ground_truth", "verification_info", "ground_truth", "final_answer", "expected_answer", "answer"),
    *("answers", "golden_answers", "gold", "target", "answerkey", "answer_key", "correct_answer", "label", "reference"),
    *("solution", "output", "response", "completion", "chosen", "rationale"),
)
PARTS = ("ground_truth", "target", "answer", "aliases", "value", "final", "text", "label")  # of an answer as an object
OPTIONS = ("choices.text", "choices", "options")
TESTS = (  # columns that hold tests of programs: those of one form, the first of which is always there
    ("test_list", "test_setup_code", "test_imports", "challenge_test_list"),
    ("test", "entry_point"),
    ("input_output",),
    ("public_test_cases",),
    ("public_tests", "private_tests", "generated_tests"),
    ("inputs", "outputs", "fn_name"),
    ("test_cases", "fn_name"),
    ("official_tests",),
    ("assert_case",),
    ("test_code",),
    ("tests",),
)
SOLUTIONS = ("canonical_solution", "solution", "solutions", "code", "reference_solution", "completion", "response")
DATABASES = (".", "databases", "database", "train_databases", "dev_databases", "test_database", "..")
FINAL = ("choice", "number", "math", "exact")  # rewards of final answers, the strictest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A way to read the rows, and what could grade responses then."""

    data: DataSettings
    about: str  # what was found, for a person
    rewards: tuple[str, ...]  # to try
    settings: Mapping[str, str] = field(default_factory=dict)  # of the reward's section
    solutions: tuple[str, ...] = ()  # columns with a right response; none: the reference is one


def readings(rows: Sequence[FileRow], given: DataSettings, folder: Path) -> list[Reading]:
    """All ways that are worth a trial, the likeliest first; none where nothing asks or nothing answers.

    Args:
        rows: some of the file.
        given: what a person has said of the columns; what is not said is looked for.
        folder: of the file, in and beside which databases are looked for.
    """
    found: list[Reading] = []
    for data in _prompts(rows, given) if given.answer_column else ():
        answers = [*_programs(rows, data), *_queries(rows, data, folder), *_finals(rows, data)]
        if "answer_column" in given.model_fields_set:
            said = [one for one in answers if one.data.answer_column == given.answer_column]
            asked = f"column {given.answer_column} holds the answer"
            answers = said or [_reading(data, given.answer_column, asked, (*FINAL, "code", "sql"))]
        found += answers
        if found:
            break
    return found


def columns_of(rows: Sequence[FileRow]) -> list[str]:
    """The columns of the rows, and behind a dot what their objects hold."""
    return list(dict.fromkeys(name for row in rows for name in names_in(row.cells)))


def _prompts(rows: Sequence[FileRow], given: DataSettings) -> Iterator[DataSettings]:
    """The settings of each way to ask."""
    if "prompt_column" in given.model_fields_set:
        yield given
        return
    for name in _there(rows, PROMPTS):
        cells = [cell_at(row.cells, name) for row in rows]
        turns = [_turns(cell) for cell in cells]
        if all(turns):
            yield from _conversations(given, name, turns, _content_key(cells[0]))
        elif all(isinstance(cell, str) for cell in cells if cell is not None) and not any(turns):
            yield given.model_copy(update={"prompt_column": _with_neighbours(rows, name)})


def _conversations(given: DataSettings, name: str, turns: Sequence[Sequence[str]], key: str) -> Iterator[DataSettings]:
    """Prompts that are messages. Where every row ends with what the assistant says, that is the answer, and what comes
    before it must be one message of the user and at most one of the system."""
    if not all(roles[-1] == "assistant" for roles in turns):
        yield given.model_copy(update={"prompt_column": name})
    elif all(roles == ["user", "assistant"] for roles in turns):
        answered = {"prompt_column": f"{name}.0.{key}", "answer_column": f"{name}.1.{key}"}
        yield given.model_copy(update=answered)
    elif all(roles == ["system", "user", "assistant"] for roles in turns):
        columns = {"system_column": f"{name}.0.{key}", "prompt_column": f"{name}.1.{key}"}
        yield given.model_copy(update={**columns, "answer_column": f"{name}.2.{key}"})


def _content_key(cell: Any) -> str:
    """What the messages of a cell call what was said."""
    return "value" if isinstance(cell, Sequence) and "value" in cell[0] else "content"


def _turns(cell: Any) -> list[str]:
    """The roles of a cell that is messages; none where it is something else."""
    try:
        messages = written_messages(cell) if isinstance(cell, str) else messages_in(cell)
    except ValueError:
        return []
    return [message.role for message in messages or ()]


def _with_neighbours(rows: Sequence[FileRow], name: str) -> str | tuple[str, ...]:
    """The column of the prompt with those beside it that the question cannot be answered without."""
    behind = ("input", *BEHIND) if name.lower() == "instruction" else BEHIND
    first = [one for one in _there(rows, BEFORE, some=True) if one != name]
    last = [one for one in _there(rows, behind, some=True) if one != name]
    if "choices.text" in last:
        last = [one for one in last if one != "choices"]
    if tests := _there(rows, ("test_list",)):
        last.append(f"{tests[0]}.0")  # without a test nobody knows the function's name
    return (*first, name, *last) if first or last else name


def _programs(rows: Sequence[FileRow], data: DataSettings) -> Iterator[Reading]:
    for names in TESTS:
        if there := _there(rows, names[:1]):
            others = [one for one in _there(rows, names[1:], some=True) if one not in there]
            prompt = ["prompt"] if names[0] == "test" and data.prompt_column == "prompt" else []
            columns = (*prompt, *there, *others)
            solutions = tuple(_there(rows, SOLUTIONS))
            about = f"{', '.join((*there, *others))} hold tests of programs"
            yield _reading(data, columns, about, ("code",), solutions=solutions)


def _queries(rows: Sequence[FileRow], data: DataSettings, folder: Path) -> Iterator[Reading]:
    gold, names = _there(rows, GOLD_KEYS), _there(rows, DATABASE_KEYS)
    if not gold or not names or data.prompt_column == gold[0]:
        return
    kinds = _there(rows, ("db_type",))
    wanted = [(str(row.cells.get(names[0])), str(row.cells.get("db_type", "") if kinds else "")) for row in rows]
    places = (folder / place for place in DATABASES)
    databases = next((place for place in places if place.is_dir() and _all_in(place, wanted)), None)
    settings = {"databases": str(databases.resolve())} if databases else {}
    about = f"{gold[0]} holds the gold query, {names[0]} names its database"
    yield _reading(data, (gold[0], names[0], *kinds), about, ("sql",), settings, (gold[0],))


def _all_in(folder: Path, wanted: Sequence[tuple[str, str]]) -> bool:
    try:
        return all(find_database(str(folder), name, kind) for name, kind in dict.fromkeys(wanted))
    except (ValueError, OSError):
        return False


def _finals(rows: Sequence[FileRow], data: DataSettings) -> Iterator[Reading]:
    if "answer_column" in data.model_fields_set:
        yield _reading(data, data.answer_column, f"column {data.answer_column} holds the answer", FINAL)
        return
    asked = (data.prompt_column,) if isinstance(data.prompt_column, str) else data.prompt_column
    for name in _there(rows, ANSWERS):
        objects = any(isinstance(opened(cell_at(row.cells, name)), Mapping) for row in rows)
        for column in _there(rows, [f"{name}.{part}" for part in PARTS]) if objects else [name]:
            if column not in asked:
                yield _reading(data, column, f"column {column} holds {_answer(rows, column)}", FINAL)


def _answer(rows: Sequence[FileRow], column: str) -> str:
    cells = [cell_at(row.cells, column) for row in rows]
    several = any(isinstance(cell, list | tuple) and len(cell) > 1 for cell in cells)
    return "the answer" + ", where it is a list, any of which is right" * several


def _reading(
    data: DataSettings,
    answer: str | tuple[str, ...] | dict[str, str],
    about: str,
    rewards: tuple[str, ...],
    settings: Mapping[str, str] | None = None,
    solutions: tuple[str, ...] = (),
) -> Reading:
    columns = data.model_copy(update={"answer_column": answer})
    return Reading(data=columns, about=about, rewards=rewards, settings=settings or {}, solutions=solutions)


def _there(rows: Sequence[FileRow], names: Sequence[str], *, some: bool = False) -> list[str]:
    """Those of some names that most rows have something in, as the file spells them; with `some`, that any row has.
    Names with dots that are no columns are looked for as they are, as they may reach into JSON text."""
    spelt = {name.lower(): name for name in reversed(columns_of(rows))}
    spelt |= {name.lower(): name for row in rows for name in row.cells}
    found = [spelt.get(name.lower(), name) for name in names if name.lower() in spelt or "." in name]
    counts = {name: sum(_holds(cell_at(row.cells, name)) for row in rows) for name in dict.fromkeys(found)}
    return [name for name, count in counts.items() if count >= (1 if some else MOST * len(rows))]


def _holds(cell: Any) -> bool:
    return cell is not None and cell == cell and cell not in ("", [], {}, ())


def options_beside(rows: Sequence[FileRow]) -> str:
    """The column with the options of questions; "" without one."""
    return next(iter(_there(rows, OPTIONS)), "")


def first_solution(row: FileRow, columns: Sequence[str]) -> str:
    """The first text in columns with right responses; of a list, also one that is written as JSON, its first."""
    for column in columns:
        cell = cell_at(row.cells, column)
        if isinstance(cell, str) and cell.lstrip()[:1] == "[":
            try:
                cell = json.loads(cell)
            except (ValueError, RecursionError):
                return str(cell)
        if isinstance(cell, list | tuple) and cell:
            cell = cell[0]
        if isinstance(cell, str) and cell.strip():
            return cell
    return ""

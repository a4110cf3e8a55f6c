"""Rows of data files cut to what a run needs of them; whatever is wrong is named by file and line."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actors.data.cells import cell_at, has_column, names_in, opened, text_of
from actors.data.files import BadRow, FileRow, Refuse, first_ends, read_files
from actors.data.messages import SYSTEM_ROLES, Asked, Message, messages_in, written_messages
from actors.errors import DataError
from actors.logs import LOGGER
from actors.settings import DataSettings
from rewards.answers.reference import several

TOOLS = "tools"  # the column in which other trainers' data have functions for the chat template
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WHERE_ANSWERS_ARE = '. Name the column that answers in data.answer_column, or "" where no reward compares with any'


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRow:
    """What a row of the data asks and what its answer is."""

    place: str  # file and line
    prompt: Asked
    system: str  # the row's own system message; "" where it has none
    reward: str  # name of the reward that grades it
    reference: str  # what the reward compares with; "" where there is nothing
    no_text: str  # why the answer is no text and no list of texts, and what to do; "" where it is one


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkedRow:
    """A prompt with what the policy is to say to it, for the warm-up."""

    place: str  # file and line
    prompt: Asked
    response: Asked  # an answer; or messages, the policy's and what is said to it in turn, from its first to its last
    system: str = ""  # the row's own system message; "" where it has none

    @property
    def turns(self) -> list[str]:
        """What the policy is to say."""
        return [self.response] if isinstance(self.response, str) else [each.content for each in self.response[::2]]


def read_data(data: DataSettings, reward: str, refuse: Refuse = first_ends) -> dict[str, list[DataRow]]:
    """The rows of each path of the data, cut to `data.rows`.

    Args:
        data: the files and their columns. Where the answer is made of several columns, all but one may be empty.
        reward: of rows that do not name their own.
        refuse: is told of rows that cannot be used, which are then left out; without it the first one raises.

    Raises:
        DataError: a file cannot be read, or holds no rows.
    """
    found = {path: _read(path, data, reward, refuse) for path in data.paths}
    for path, rows in found.items():
        if not rows and refuse is first_ends:
            cut = f" in data.rows = {data.rows!r}" if data.rows else ""
            raise DataError(f"{path} holds no rows{cut}")
    return found


def data_row(row: FileRow, data: DataSettings, reward: str) -> DataRow:
    """What a row of a file asks and what its answer is.

    Args:
        row: of a file.
        data: its columns.
        reward: of a row that does not name its own.

    Raises:
        ValueError: it cannot be used.
    """
    answer = cell_at(row.cells, data.answer_column) if isinstance(data.answer_column, str) else None
    return DataRow(
        place=row.place,
        prompt=asked_of(row, data.prompt_column),
        system=system_of(row, data.system_column),
        reward=text_in(row, data.reward_column) if data.reward_column else reward,
        reference=_reference(row, data),
        no_text=_no_text(answer, str(data.answer_column)),
    )


def read_worked(
    path: str,
    prompt_column: str | Sequence[str],
    response_column: str,
    system_column: str = "",
    refuse: Refuse = first_ends,
) -> list[WorkedRow]:
    """The rows of a file of worked answers.

    Args:
        path: of the file.
        prompt_column: the prompts, texts or messages; of several columns, the texts joined.
        response_column: answers; or messages that follow on the prompt. Where it is the prompt's column, too, it holds
            whole conversations: what stands in front of the assistant's first message is the prompt.
        system_column: the rows' own system messages; "" where they have none.
        refuse: is told of rows that cannot be used; without it the first one raises.

    Raises:
        DataError: the file cannot be read or holds no rows.
    """
    rows = []
    for row in read_files(path, refuse):
        _look_for_tools(path, row, prompt_column)
        try:
            worked = _worked(row, prompt_column, response_column)
            rows.append(replace(worked, system=system_of(row, system_column)))
        except ValueError as problem:
            refuse(BadRow(place=row.place, problem=str(problem)))
    if not rows and refuse is first_ends:
        raise DataError(f"{path} holds no rows")
    if system_column and rows and not any(row.system or begins_with_system(row.prompt) for row in rows):
        raise DataError(
            f"no row of {path} has a system message in column {system_column!r} (data.system_column): give the rows "
            "those of the prompts, or messages that begin with them"
        )
    return rows


def asked_of(row: FileRow, column: str | Sequence[str]) -> Asked:
    """The prompt in a column: chat messages, or a text; of several columns, the texts of those that hold any, joined by
    blank lines.

    Raises:
        ValueError: there is neither.
    """
    if not isinstance(column, str):
        return _joined(row, column)
    messages = messages_of(row, column)
    if messages is None:
        cell = cell_at(row.cells, column)
        if isinstance(cell, Mapping | list | tuple):
            raise ValueError(
                f"has in column {column!r} an object or a list that is no chat messages: {str(cell)[:80]!r}. Name a "
                "part of it behind a dot, or give a text or a list of {role, content}"
            )
        return text_in(row, column)
    if messages[-1].role == "user" and not messages[-1].content.strip():
        raise ValueError(f"has in column {column!r} a user's message without text")
    return messages


def _joined(row: FileRow, columns: Sequence[str]) -> str:
    """The texts of several columns. A list of texts, such as the options of a question, becomes lines with letters."""
    texts = []
    for column in columns:
        if messages_of(row, column) is not None:
            raise ValueError(
                f"has chat messages in column {column!r}, which cannot be joined with other columns: name that column "
                f"alone, or the text of one message, such as that of the last by {f'{column}.-1.content'!r}"
            )
        cell = cell_at(row.cells, column)
        if isinstance(cell, list | tuple) and 0 < len(cell) <= len(LETTERS) and all(isinstance(o, str) for o in cell):
            cell = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, cell, strict=False))
        if cell is not None and (text := _of_column(column, cell)).strip():
            texts.append(text)
    return "\n\n".join(texts) if texts else text_in(row, columns[0])


def messages_of(row: FileRow, column: str) -> tuple[Message, ...] | None:
    """The chat messages in a column; None where there are none."""
    cell = cell_at(row.cells, column)
    messages = written_messages(cell) if isinstance(cell, str) else messages_in(cell)
    for message in messages or ():
        _of_column(column, message.content)
    return messages


def system_of(row: FileRow, column: str) -> str:
    """A row's own system message; "" where it has none, or no column is named.

    Raises:
        ValueError: it is no text.
    """
    cell = cell_at(row.cells, column) if column else None
    return "" if cell is None else _of_column(column, cell)


def begins_with_system(asked: Asked) -> bool:
    """Whether a prompt is messages of which the first is the system's."""
    return not isinstance(asked, str) and asked[0].role in SYSTEM_ROLES


def _worked(row: FileRow, prompt_column: str | Sequence[str], response_column: str) -> WorkedRow:
    said = messages_of(row, response_column)
    if said is None:
        prompt, answer = asked_of(row, prompt_column), text_in(row, response_column)
        return WorkedRow(place=row.place, prompt=prompt, response=answer)
    asked: Asked
    if response_column == prompt_column:
        first = next((place for place, message in enumerate(said) if message.role == "assistant"), len(said))
        asked, said = said[:first], said[first:]
    else:
        asked = asked_of(row, prompt_column)
    if not asked or not said:
        raise ValueError(
            f"has in column {response_column!r} a conversation without {'an answer' if asked else 'a question'}: the "
            "assistant's first message must follow on another one"
        )
    for place, message in enumerate(said):
        if (message.role == "assistant") is (place % 2 == 1) or message.role in SYSTEM_ROLES:
            raise ValueError(
                f"has in column {response_column!r} messages that do not take turns: from the assistant's first on, "
                f"every other must be the assistant's, and message {place + 1} of these is the {message.role}'s"
            )
    if len(said) % 2 == 0:
        raise ValueError(
            f"has in column {response_column!r} a conversation that ends with the {said[-1].role}'s message: the last "
            "must be the assistant's, which is imitated"
        )
    return WorkedRow(place=row.place, prompt=asked, response=said)


def text_in(row: FileRow, column: str, *, blank: bool = False, advice: str = "") -> str:
    """The text of a column; numbers and dates are written out, lists and objects as JSON.

    Args:
        row: of a file.
        column: a name; dots reach into objects and lists, as in "reward_model.ground_truth" or "answers.0".
        blank: whether it may be empty or missing, and then is "".
        advice: what to do where there is no such column.

    Raises:
        ValueError: there is no such column, or nothing that is a text in it.
    """
    cell = cell_at(row.cells, column)
    if blank and (cell is None or cell != cell):  # null, or NaN as tables have it
        return ""
    if cell is None or (isinstance(cell, str) and not cell.strip() and not blank):
        cells = {name: opened(each) for name, each in row.cells.items()} if "." in column else row.cells
        raise ValueError(
            f"has no text in column {column!r} (columns there: {', '.join(names_in(cells)) or 'none'})"
            + (advice if cell is None else "")
        )
    return _of_column(column, cell)


def _of_column(column: str, cell: Any) -> str:
    try:
        return text_of(cell)
    except ValueError as problem:
        raise ValueError(f"has in column {column!r} {problem}") from None


def reference_of(cell: Any) -> str:
    """The answer in a cell as a reference: a text, or of a list of texts all of them, any of which is right.

    Raises:
        ValueError: see `text_of`.
    """
    if isinstance(cell, list | tuple) and len(cell) == 1 and isinstance(cell[0], int | float):
        return json.dumps([text_of(cell[0])])  # so that no reward takes the list for an interval
    return several([text_of(one) for one in cell]) if _is_several(cell) else text_of(cell)


def _read(path: str, data: DataSettings, reward: str, refuse: Refuse) -> list[DataRow]:
    places = list(read_files(path, refuse))
    start, end = data.slice
    _refuse_without_column(path, places, data)
    rows = []
    for row in places[start:end]:
        _look_for_tools(path, row, data.prompt_column)
        try:
            rows.append(data_row(row, data, reward))
        except ValueError as problem:
            refuse(BadRow(place=row.place, problem=str(problem)))
    return rows


def _refuse_without_column(path: str, rows: Sequence[FileRow], data: DataSettings) -> None:
    """Refuses a file no row of which has a column that a row may lack: its name is likely misspelt."""
    behind = [] if isinstance(data.answer_column, str) else list(data.answer_parts.values())[1:]
    has = {column: any(has_column(row.cells, column) for row in rows) for column in behind}
    if data.system_column:
        has[data.system_column] = any(cell_at(row.cells, data.system_column) is not None for row in rows)
    for column, there in has.items():
        if rows and not there:
            setting = "data.system_column" if column == data.system_column else "data.answer_column"
            raise DataError(
                f"no row of {path} has a column {column!r} ({setting}; columns there: "
                f"{', '.join(names_in(rows[0].cells))})"
            )


def _look_for_tools(path: str, row: FileRow, prompt_column: str | Sequence[str]) -> None:
    """Says once of each file that the functions in it are not read."""
    cell = row.cells.get(TOOLS)
    written = isinstance(cell, str) and cell.strip()[:1] == "[" and cell.strip() != "[]"
    if (written or (isinstance(cell, list | tuple) and cell)) and TOOLS not in (prompt_column, *prompt_column):
        _say_that_tools_are_not_read(path)


@functools.cache
def _say_that_tools_are_not_read(path: str) -> None:
    LOGGER.warning(
        "%s has a column %r, which is not read: the policy does not see its functions. An environment offers tools "
        "(docs/environments.md); functions that are only shown stand in the prompts",
        path,
        TOOLS,
    )


def _reference(row: FileRow, data: DataSettings) -> str:
    """What the reward compares with: the text of the answer column, where it is a list of texts all of them, or several
    columns as one JSON object; "" where no column answers."""
    if not data.answer_column:
        return ""
    if isinstance(data.answer_column, str):
        text = text_in(row, data.answer_column, advice=_WHERE_ANSWERS_ARE)
        cell = cell_at(row.cells, data.answer_column)
        return reference_of(cell) if isinstance(cell, list | tuple) else text
    found = {}
    for number, (name, column) in enumerate(data.answer_parts.items()):
        text = text_in(row, column, blank=number > 0)
        found[name] = opened(text)
    return json.dumps(found, ensure_ascii=False)


def _is_several(answer: Any) -> bool:
    return isinstance(answer, list | tuple) and len(answer) > 1 and all(isinstance(one, str) for one in answer)


def _no_text(answer: Any, column: str) -> str:
    """Why an answer cannot be compared with as a text, or as texts any of which is right, and what to do; "" where it
    can. An object may be written as JSON."""
    if isinstance(answer, str) and answer.lstrip()[:1] == "{":
        answer = opened(answer)
    if isinstance(answer, Mapping) and answer:
        parts = list(map(str, answer))
        return (
            f"it has the parts {', '.join(parts[:8])}: name one of them in data.answer_column behind a dot, such as "
            f'"{column}.{parts[0]}"'
        )
    if not isinstance(answer, list | tuple) or _is_several(answer):
        return ""
    if len(answer) == 1 and not isinstance(answer[0], Mapping):
        return ""
    what = "a list that holds more than texts" if answer else "a list of nothing"
    return (
        f"it is {what}: give a list of texts, any of which is right, or one text, also where the right answer is "
        "itself a list"
    )

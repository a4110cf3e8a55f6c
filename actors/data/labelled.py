"""Rows that reward models learn from: which responses are better than others, or which steps of one are right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.data.cells import cell_at, names_in, text_of
from actors.data.files import BadRow, FileRow, Refuse, first_ends, read_files
from actors.data.messages import SYSTEM_ROLES, Asked, Message, conversation_of, messages_in, question_of
from actors.data.reading import asked_of, messages_of, system_of
from actors.errors import DataError
from rewards import ChatMessage

CHOSEN, REJECTED, MARGIN = "chosen", "rejected", "margin"
STEPS, LABELS = "steps", "labels"
SOFT = "soft"  # of a label as `winnow label` writes it: the share of completions that were right


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedRow:
    """A question with responses of which each chosen one is better than each rejected one."""

    place: str  # file and line
    question: str
    messages: tuple[ChatMessage, ...] = field(default=(), repr=False)  # the same in its roles; () where it is one
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    margin: float = 0.0  # by which a chosen one's score should be the higher one

    @property
    def pairs(self) -> int:
        """Comparisons in it."""
        return len(self.chosen) * len(self.rejected)


@dataclass(frozen=True, slots=True, kw_only=True)
class SteppedRow:
    """A question with a response whose steps are labelled."""

    place: str  # file and line
    question: str
    messages: tuple[ChatMessage, ...] = field(default=(), repr=False)  # the same in its roles; () where it is one
    steps: tuple[str, ...]  # that together are the response
    labels: tuple[float | None, ...]  # in [0, 1], 1 is right; None where nobody knows

    @property
    def spans(self) -> list[tuple[int, int]]:
        """(first character, character behind the last) of each step in the response, without the white space around
        it."""
        found, start = [], 0
        for step in self.steps:
            bare = start + len(step) - len(step.lstrip())
            found.append((bare, bare + len(step.strip())))
            start += len(step)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a column of responses holds."""

    column: str
    before: tuple[Message, ...]  # the conversation in front of the response; empty where it holds none
    responses: tuple[str, ...]


LabelledRow = RankedRow | SteppedRow


def read_labelled(
    path: str,
    prompt_column: str,
    rows: slice = slice(None),
    refuse: Refuse = first_ends,
    system_column: str = "",
    system: str = "",
) -> list[RankedRow] | list[SteppedRow]:
    """The rows of a file that a reward model can learn from. All are of the kind of the first: with the columns
    "chosen" and "rejected" (a text, a message, a conversation that ends with the response, or a list of texts) and
    maybe "margin", or with "steps" (texts) and "labels" (numbers from 0 to 1, null, or what `winnow label` writes).

    Args:
        path: of a file, a folder or a pattern.
        prompt_column: texts or chat messages. Conversations in "chosen" and "rejected" may hold the prompt in its
            place, or go on from it to the response.
        rows: which of its rows.
        refuse: is told of rows that cannot be used; without it the first one raises.
        system_column: the rows' own system messages, for prompts that begin with none; "" where they have none.
        system: the message of the system where neither prompt nor row has one.

    Raises:
        DataError: the file cannot be read, is of neither kind, lacks the system's column, or holds no rows.
    """
    found = list(read_files(path, refuse))[rows]
    if not found:
        raise DataError(f"{path} holds no rows" + f" in {rows.start or ''}:{rows.stop or ''}" * (rows != slice(None)))
    if system_column and all(cell_at(row.cells, system_column) is None for row in found):
        raise DataError(
            f"no row of {path} has a column {system_column!r} (data.system_column; columns there: "
            f"{', '.join(names_in(found[0].cells))})"
        )
    read = _reader_of(found[0])
    usable: list[Any] = []
    for row in found:
        try:
            usable.append(read(row, prompt_column, system_of(row, system_column) or system))
        except ValueError as problem:
            refuse(BadRow(place=row.place, problem=str(problem)))
    return usable


def ranked_row(row: FileRow, prompt_column: str, system: str = "") -> RankedRow:
    """What a row of a file says of whole responses; `system` is said to prompts that begin with no system message.

    Raises:
        ValueError: it cannot be used; the problem says what to do.
    """
    margin = row.cells.get(MARGIN)
    if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float) or not margin >= 0):
        raise ValueError(f"has {str(margin)[:80]!r} in column {MARGIN!r}, expected a number, at least 0")
    chosen, rejected = _told(row, CHOSEN), _told(row, REJECTED)
    if both := set(chosen.responses) & set(rejected.responses):
        raise ValueError(f"has one text both in {CHOSEN!r} and in {REJECTED!r}: {next(iter(both))[:80]!r}. Remove one")
    asked = _asked(row, prompt_column, (chosen, rejected))
    return RankedRow(
        place=row.place,
        question=question_of(asked),
        messages=conversation_of(asked, system),
        chosen=chosen.responses,
        rejected=rejected.responses,
        margin=float(margin or 0.0),
    )


def stepped_row(row: FileRow, prompt_column: str, system: str = "") -> SteppedRow:
    """What a row of a file says of the steps of a response; `system` as of `ranked_row`.

    Raises:
        ValueError: it cannot be used; the problem says what to do.
    """
    steps, labels = row.cells.get(STEPS), row.cells.get(LABELS)
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) and step.strip() for step in steps):
        raise ValueError(f"has {str(steps)[:80]!r} in column {STEPS!r}, expected a list of texts, none of them empty")
    if not isinstance(labels, list) or len(labels) != len(steps):
        count = f"{len(labels)} labels" if isinstance(labels, list) else repr(str(labels)[:80])
        raise ValueError(f"has {count} in column {LABELS!r}, expected one for each of its {len(steps)} steps")
    found = tuple(_label(each) for each in labels)
    if all(each is None for each in found):
        raise ValueError(f"has no step with a label in column {LABELS!r}: leave the row out")
    asked = asked_of(row, prompt_column)
    return SteppedRow(
        place=row.place,
        question=question_of(asked),
        messages=conversation_of(asked, system),
        steps=tuple(map(text_of, steps)),
        labels=found,
    )


def _reader_of(row: FileRow) -> Any:
    """The function that reads rows like this one."""
    kinds = {ranked_row: (CHOSEN, REJECTED), stepped_row: (STEPS, LABELS)}
    for read, columns in kinds.items():
        if all(row.cells.get(column) is not None for column in columns):
            return read
    raise DataError(
        f"{row.place} has neither {CHOSEN!r} and {REJECTED!r}, for a model of whole responses, nor {STEPS!r} and "
        f"{LABELS!r}, for a model of steps (columns there: {', '.join(names_in(row.cells)) or 'none'})"
    )


def _told(row: FileRow, column: str) -> _Told:
    cell = cell_at(row.cells, column)
    before: tuple[Message, ...] = ()
    said = messages_in([cell]) if isinstance(cell, Mapping) else None
    if said is None:
        said = messages_of(row, column)
    if said is not None:
        if said[-1].role != "assistant":
            raise ValueError(f"has in column {column!r} a conversation that ends with the {said[-1].role}'s message")
        before, cell = said[:-1], said[-1].content
    cells = cell if isinstance(cell, list | tuple) else [cell]
    if not cells or not all(isinstance(each, str) and each.strip() for each in cells):
        raise ValueError(
            f"has {str(cell)[:80]!r} in column {column!r}, expected a response or a list of them, none of them empty"
        )
    return _Told(column=column, before=before, responses=tuple(map(text_of, cells)))


def _asked(row: FileRow, prompt_column: str, told: Sequence[_Told]) -> Asked:
    """What all responses answer: the prompt, or the conversation that stands in front of them.

    Raises:
        ValueError: there is neither, or they are not the same.
    """
    prompt: Asked = ()
    if not any(each.before for each in told) or cell_at(row.cells, prompt_column) is not None:
        prompt = asked_of(row, prompt_column)
    given = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    first, *others = (_continued(given, each, prompt_column) for each in told)
    if any(_compared(other) != _compared(first) for other in others):
        raise ValueError(
            f"has other conversations in front of the responses in {CHOSEN!r} and {REJECTED!r}, and only responses to "
            "the same one can be compared: give them the same messages up to the last, or leave the row out"
        )
    return first


def _continued(given: tuple[Message, ...], told: _Told, prompt_column: str) -> tuple[Message, ...]:
    """The prompt that is given, or the conversation in front of a response that begins with it; either may be the one
    that has the system message."""
    if not told.before:
        return given
    (system, turns), (own_system, own_turns) = map(_apart, (given, told.before))
    begins = _compared(own_turns)[: len(turns)] == _compared(turns)
    if not begins or (system and own_system and _compared(system) != _compared(own_system)):
        raise ValueError(
            f"has in column {told.column!r} a conversation that does not begin with what column {prompt_column!r} "
            f"holds, {question_of(given)[:80]!r}: mend the one that is wrong, or remove the column {prompt_column!r}"
        )
    return (*(own_system or system), *own_turns)


def _apart(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The system messages that messages begin with, and the others."""
    first = next((place for place, each in enumerate(messages) if each.role not in SYSTEM_ROLES), len(messages))
    return messages[:first], messages[first:]


def _compared(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content.strip()) for message in messages]


def _label(cell: Any) -> float | None:
    value = cell.get(SOFT) if isinstance(cell, Mapping) else cell
    if value is None:
        return None
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise ValueError(
            f"has the label {str(cell)[:80]!r} in column {LABELS!r}, expected a number from 0 to 1, or null"
        )
    return float(value)

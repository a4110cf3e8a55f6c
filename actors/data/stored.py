"""Groups from a stored dataset instead of a generator: the Parquet of a former run, or one that a user made.

A run's own files hold everything (`actors/arrow.py`); those of runs before the columns `actors.arrow.ADDED` are read
with the values that stand there. Other files need the columns prompt, response and score; tokens
are made from the text then, and the sampler's log-probabilities are unknown (NaN), as are weight versions (-1).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.arrow import ADDED, SCHEMA, group_of
from actors.data.cells import text_of
from actors.data.files import FileRow
from actors.data.messages import Asked
from actors.data.reading import asked_of, begins_with_system, system_of
from actors.data.rendering import Renderer
from actors.data.source import Shuffled
from actors.errors import DataError
from actors.settings import DataSettings
from actors.types import Finish, Group, Prompt, Summary, Times, Trajectory
from rewards import Outcome, Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT_COLUMNS = ("prompt", "response", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A row of a file that no run has written."""

    text: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGroupsState:
    """Where stored groups go on."""

    position: int  # groups dealt so far


class StoredGroups:
    """Graded groups in memory, dealt by `next` in a seeded order: one shuffled pass over them after another."""

    def __init__(self, groups: Sequence[Group], seed: int) -> None:
        self._groups, self._seed = groups, seed
        self._position = 0  # groups dealt so far
        self._shuffled = Shuffled()

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def recorded(self) -> bool:
        """Whether the sampler's log-probabilities of all responses are known."""
        return all(t.recorded for group in self._groups for t in group.trajectories)

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest prompt and response together."""
        return max(t.tokens.size for group in self._groups for t in group.trajectories)

    @property
    def largest_token(self) -> int:
        """Highest token id."""
        return max(int(t.tokens.max()) for group in self._groups for t in group.trajectories)

    def with_siblings(self, count: int) -> "StoredGroups":
        """Only the groups in which at least `count` siblings are scored."""
        sets = (Summary.of(group, Times()).sets for group in self._groups)
        scored = (max(len(one.scored) for one in of_group) for of_group in sets)
        kept = [group for group, number in zip(self._groups, scored, strict=True) if number >= count]
        return StoredGroups(kept, self._seed)

    def next(self) -> Group:
        """The next group."""
        self._position += 1
        return self.deal(self._position - 1)

    def deal(self, number: int) -> Group:
        """The group that `next` gives as number `number`, counted from 0; it does not move on."""
        visit, index = divmod(number, len(self._groups))
        if self._shuffled.visit != visit:
            order = np.random.default_rng([self._seed, visit]).permutation(len(self._groups))
            self._shuffled = Shuffled(visit=visit, order=order.tolist())
        return self._groups[self._shuffled.order[index]]

    def save(self) -> StoredGroupsState:
        """Where it is."""
        return StoredGroupsState(position=self._position)

    def restore(self, state: StoredGroupsState) -> None:
        """Goes on where another one on the same groups and seed was."""
        self._position = state.position


def read_stored(
    data: DataSettings, tokenizer: "PreTrainedTokenizerBase", seed: int, before: Sequence[int] = ()
) -> StoredGroups:
    """The groups of the Parquet file `data.stored`, or of all Parquet files under it.

    Args:
        data: the dataset, and how prompts without tokens become text.
        tokenizer: the model's.
        seed: of the order.
        before: token ids that stand before each prompt, such as a control token.

    Raises:
        DataError: there is nothing to read, or a column is missing.
    """
    path = Path(data.stored)
    if not path.exists():
        raise DataError(f"there is no stored dataset {path} (data.stored)")
    found = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not found:
        raise DataError(f"{path} (data.stored) holds no .parquet file")
    groups: list[Group] = []
    for file in found:
        try:
            table = pq.read_table(file)
        except (pa.ArrowException, OSError) as failure:
            raise DataError(
                f"{file} (data.stored) is not a whole Parquet file (cut, or a pointer of Git LFS): {failure}"
            ) from failure
        if set(SCHEMA.names) - set(ADDED) <= set(table.column_names):
            groups += _own(completed(table, list(ADDED)), before)
        else:
            groups += [_adopted(group, before) for group in _foreign(file, table, data, tokenizer)]
    if not groups:
        raise DataError(f"{path} (data.stored) holds no graded response")
    return StoredGroups(groups, seed)


def completed(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table with those of these columns of `ADDED` that its run did not write yet."""
    for name in names:
        if name not in table.column_names:
            field = SCHEMA.field(name)
            table = table.append_column(field, pa.array([ADDED[name]] * table.num_rows, field.type))
    return table


def _own(table: pa.Table, before: Sequence[int]) -> list[Group]:
    """Groups of a run's own file, in which the rows of a group lie together."""
    table = table.select(SCHEMA.names).combine_chunks()
    ids = table.column("group").to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(ids)) + 1), ids.size] if ids.size else [0]
    groups = []
    for start, end in pairwise(starts):
        groups.append(_adopted(group_of(table.slice(start, end - start).to_batches()[0]), before))
    return groups


def _adopted(group: Group, before: Sequence[int]) -> Group:
    """The group with `before` in front of its prompt, without versions and turns, which are those of another run."""
    lacking = np.array(before if list(group.prompt.tokens[: len(before)]) != list(before) else (), np.int32)
    prompt = replace(group.prompt, tokens=np.concatenate([lacking, group.prompt.tokens]))
    trajectories = tuple(
        replace(
            t,
            tokens=np.concatenate([lacking, t.tokens]),
            sampled=np.concatenate([np.zeros(lacking.size, bool), t.sampled]),
            logprobs=np.concatenate([np.zeros(lacking.size, np.float32), t.logprobs]),
            versions=np.full(lacking.size + t.tokens.size, -1, np.int32),
            turns=(),
        )
        for t in group.trajectories
    )
    span_rewards = tuple(
        np.concatenate([np.full(lacking.size, np.nan, np.float32), rewards_T]) for rewards_T in group.span_rewards
    )
    return replace(group, prompt=prompt, trajectories=trajectories, span_rewards=span_rewards)


def _foreign(file: Path, table: pa.Table, data: DataSettings, tokenizer: "PreTrainedTokenizerBase") -> list[Group]:
    missing = [name for name in TEXT_COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(
            f"{file} (data.stored) has no column {', '.join(missing)} (columns there: "
            f"{', '.join(table.column_names)}); a dataset needs prompt, response and score"
        )
    by_prompt: dict[tuple[Asked, str], list[Answered]] = {}
    places: dict[tuple[Asked, str], str] = {}
    of_system = {data.system_column, data.system_column.partition(".")[0]} & set(table.column_names)
    for line, row in enumerate(table.select([*{*TEXT_COLUMNS, *of_system}]).to_pylist(), start=1):
        if row["response"] in (None, "") or row["prompt"] is None or row["score"] is None:
            raise DataError(f"{file}, row {line} has no prompt, response or score")
        try:
            found = FileRow(place=f"{file}, row {line}", cells=row)
            asked = asked_of(found, "prompt"), system_of(found, data.system_column)
            answered = Answered(text=_response(row["response"]), score=_score(row["score"]))
        except ValueError as problem:
            raise DataError(f"{file}, row {line} {problem}") from None
        by_prompt.setdefault(asked, []).append(answered)
        places.setdefault(asked, found.place)
    if data.system_column and not any(system or begins_with_system(prompt) for prompt, system in by_prompt):
        raise DataError(
            f"no row of {file} (data.stored) has a system message in column {data.system_column!r} "
            "(data.system_column): give the rows those of the prompts, or messages that begin with them"
        )
    renderer = Renderer(data, tokenizer)
    texts = [renderer.render_asked(place, prompt, system) for (prompt, system), place in places.items()]
    ids = renderer.tokens(texts)
    return [
        _from_text(text, before, rows, tokenizer)
        for text, before, rows in zip(texts, ids, by_prompt.values(), strict=True)
    ]


def _response(cell: Any) -> str:
    """A response as text.

    Raises:
        ValueError: it is none.
    """
    if isinstance(cell, Mapping | list | tuple):
        raise ValueError(f"has the response {str(cell)[:80]}: give the text that was sampled, not messages or a list")
    return text_of(cell)


def _score(cell: Any) -> float:
    """A score.

    Raises:
        ValueError: it is no number.
    """
    try:
        score = math.nan if isinstance(cell, str) else float(cell)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise ValueError(f"has the score {cell!r:.80}, and it must be a number")
    return score


def _from_text(
    text: str, before: Sequence[int], rows: Sequence[Answered], tokenizer: "PreTrainedTokenizerBase"
) -> Group:
    prompt = Prompt(id=text, tokens=np.array(before, np.int32), text=text, reward="", reference="")
    trajectories, verdicts = [], []
    for row in rows:
        after = [*tokenizer(row.text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        tokens = np.array([*before, *after], np.int32)
        sampled = np.arange(tokens.size) >= len(before)
        trajectories.append(
            Trajectory(
                tokens=tokens,
                sampled=sampled,
                logprobs=np.where(sampled, np.nan, 0.0).astype(np.float32),
                versions=np.full(tokens.size, -1, np.int32),
                finish=Finish.STOP,
                text=row.text,
            )
        )
        outcome = Outcome.CORRECT if row.score > 0 else Outcome.WRONG
        verdicts.append(Verdict(outcome=outcome, score=row.score, why="stored"))
    return Group(id=0, prompt=prompt, trajectories=tuple(trajectories), verdicts=tuple(verdicts))

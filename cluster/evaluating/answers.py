"""What a prompt's responses came to, cut from graded groups to what figures are made of; and those that an earlier try
left on disk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from actors.arrow import ADDED, SCHEMA, group_of
from actors.data.stored import completed
from actors.types import Finish, Group
from rewards import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response, without its text."""

    outcome: Outcome
    tokens: int  # sampled
    truncated: bool  # cut at the largest number of new tokens
    why: str  # of the verdict
    model_scores: Mapping[str, float] = field(default_factory=dict)  # reward from a model -> its score


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """How many responses give which answer."""

    correct: int
    others: tuple[int, ...]  # of each other answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A prompt and what was made of it."""

    number: int  # of the prompt in the evaluation, from 0
    prompt_id: str
    responses: tuple[Response, ...]  # none where the prompt failed
    vote: Vote | None = None  # None where nobody can tell equal answers, or could not in time
    failure: str = ""  # why there are no responses

    @property
    def scored(self) -> int:
        """Responses with a verdict."""
        return sum(response.outcome.scored for response in self.responses)

    @property
    def correct(self) -> int:
        """Correct responses."""
        return sum(response.outcome is Outcome.CORRECT for response in self.responses)


def responses_in(group: Group) -> tuple[Response, ...]:
    """The responses of a group; the outcome of one that is continued is that of its last trajectory."""
    found = []
    for places in group.responses:
        last, verdict = group.trajectories[places.stop - 1], group.verdicts[places.stop - 1]
        found.append(
            Response(
                outcome=verdict.outcome,
                tokens=sum(group.trajectories[place].new_tokens for place in places),
                truncated=last.finish is Finish.LENGTH,
                why=verdict.why,
            )
        )
    return tuple(found)


def texts_in(group: Group) -> list[str]:
    """The text of each response."""
    return ["".join(group.trajectories[place].text for place in places) for places in group.responses]


def recorded_groups(folder: Path) -> Iterator[Group]:
    """The groups that `actors.filtering.recorder` has written below a folder, each once."""
    seen: set[int] = set()
    for file in sorted(folder.glob("step-*/groups*.parquet")):
        for group in _groups_of(completed(pq.read_table(file), list(ADDED)).select(SCHEMA.names)):
            if group.id not in seen:
                seen.add(group.id)
                yield group


def _groups_of(table: pa.Table) -> Iterator[Group]:
    """The groups of a file: the rows of each lie together."""
    numbers: Sequence[int] = table["group"].to_pylist()
    whole = table.combine_chunks().to_batches(max_chunksize=max(1, table.num_rows))
    if not whole:
        return
    (batch,) = whole
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[start]:
            yield group_of(batch.slice(start, end - start))
            start = end

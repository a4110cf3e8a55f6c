"""Whether the references of a data file can be graded against. Every bad row is named by file and line."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.data.prompts import reference_of
from actors.data.reading import data_lines
from actors.settings import DataSettings
from cluster.preparing.graders import Graders, progress
from rewards import RewardSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the data."""

    line: int
    prompt: str
    reward: str
    reference: str


def bad_references(path: str, rows: Sequence[Row], settings: RewardSettings, graders: Graders) -> list[str]:
    """What is wrong with rewards and references, each with file and line; equal references are looked at once."""
    known = settings.names
    problems = [
        f"{path}:{row.line} asks for the reward {row.reward!r}; there are {', '.join(known)}"
        for row in rows
        if row.reward not in known
    ]
    for reward in sorted({row.reward for row in rows}.intersection(known)):
        references = list(dict.fromkeys(row.reference for row in rows if row.reward == reward))
        answers = progress(graders.problems(reward, references, settings), f"references of {reward}", len(references))
        found = dict(zip(references, answers, strict=True))
        if whole := next((problem for problem in found.values() if problem.startswith("reward.")), ""):
            problems.append(whole)  # of the reward's settings: the same for every reference
            continue
        asked = (row for row in rows if row.reward == reward)
        problems += [f"{path}:{row.line}: {found[row.reference]}" for row in asked if found[row.reference]]
    return problems


def rows_of(data: DataSettings, reward: str, lacking: Callable[[str], None] | None = None) -> list[Row]:
    """The rows of a data file. `lacking` is told of rows that lack a column; without it the first one raises.

    Raises:
        DataError: the file cannot be read.
    """
    return [
        Row(
            line=line,
            prompt=row[data.prompt_column],
            reward=row[data.reward_column] if data.reward_column else reward,
            reference=reference_of(row, data),
        )
        for line, row in data_lines(data, lacking)
    ]

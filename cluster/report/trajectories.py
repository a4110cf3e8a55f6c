"""What the trajectories of a run tell, asked of their Parquet files by DuckDB. Texts in them come from a model: they
are given as they are, and whoever shows them sees to it that they do no harm."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster.config.run_files import TRAJECTORIES
from cluster.report.charts import thinned

MEMORY = "1GB"  # that DuckDB may take beside a run
MOST_STEPS = 200  # whose responses are counted; of longer runs evenly spaced ones
# What each column is read as; files of older runs lack some.
COLUMNS = {
    "step": "INTEGER",
    "group": "BIGINT",
    "sample": "INTEGER",
    "prompt_id": "VARCHAR",
    "prompt": "VARCHAR",
    "response": "VARCHAR",
    "reference": "VARCHAR",
    "outcome": "VARCHAR",
    "score": "DOUBLE",
    "why": "VARCHAR",
    "finish": "VARCHAR",
    "rejected": "VARCHAR",
    "sampled": "BOOLEAN[]",
    "continues": "BOOLEAN",
}
NEEDED = ("step", "group", "prompt_id", "response", "outcome", "score", "rejected")
_ABSENT = {"VARCHAR": "''"}  # what stands for a column that a file lacks
# Groups with what their responses came to.
GROUPS = """
    SELECT "group", min(step) AS step, min(prompt_id) AS prompt_id, avg(score) AS score,
           avg((outcome = 'correct')::INT) AS correct, count(*) AS responses
    FROM responses GROUP BY "group" HAVING count(score) > 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResponses:
    """The responses of a step."""

    step: int
    outcomes: dict[str, int]  # outcome -> how many responses ended so
    correct_trained: float | None  # share of correct ones among those that were trained on
    tokens_accepted: float | None  # mean length in tokens of those in groups that the filter accepted
    tokens_trained: float | None  # mean length of those that were trained on


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenResponse:
    """A response."""

    sample: int
    text: str
    outcome: str
    score: float | None
    why: str
    finish: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenGroup:
    """A group with its responses."""

    group: int
    step: int
    prompt_id: str
    prompt: str
    reference: str
    rejected: str  # why the filter refused it, "" where any of its responses was trained on
    responses: tuple[SeenResponse, ...]

    @property
    def correct(self) -> int:
        """How many responses are correct."""
        return sum(response.outcome == "correct" for response in self.responses)

    @property
    def score(self) -> float | None:
        """The mean score of the responses that have one."""
        scores = [response.score for response in self.responses if response.score is not None]
        return sum(scores) / len(scores) if scores else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A prompt at two steps of a run."""

    first: SeenGroup
    last: SeenGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldByTrajectories:
    """What a report asks of them."""

    steps: Sequence[StepResponses] = ()
    written: int = 0  # steps on disk, of which those are all, or evenly spaced ones
    changes: Sequence[Change] = ()  # the prompts that changed most
    visited_twice: int = 0  # prompts sampled in two steps or more
    lacking: str = ""  # why nothing is known; "" where it is


def told_by_trajectories(folder: Path, most: int) -> ToldByTrajectories:
    """What a report asks of the trajectories in a run's folder; `most` is how many changes. Where they cannot be read
    it says why."""
    import duckdb

    if not any((folder / TRAJECTORIES).glob("step-*/*.parquet")):
        return ToldByTrajectories(lacking="no graded group is on disk")
    try:
        with Trajectories(folder) as trajectories:
            return ToldByTrajectories(
                steps=trajectories.by_step(),
                written=trajectories.written,
                changes=trajectories.changed(most),
                visited_twice=trajectories.visited_twice(),
            )
    except (duckdb.Error, OSError, ValueError) as failure:
        return ToldByTrajectories(lacking=next(iter(str(failure).splitlines()), type(failure).__name__))


class Trajectories:
    """The trajectories of one run, while it writes or later."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: of the run.

        Raises:
            ValueError: there are none, or not those of a run.
        """
        import duckdb

        self._folder = folder / TRAJECTORIES
        files = sorted(self._folder.glob("step-*/*.parquet"))
        if not files:
            raise ValueError(f"{self._folder} holds no graded group yet")
        self._steps = sorted({int(file.parent.name.removeprefix("step-")) for file in files})
        self._database = duckdb.connect(":memory:")
        self._database.execute(f"SET memory_limit = '{MEMORY}'; SET temp_directory = ''; SET threads = 2")
        self._view("all_rows", files)
        self._is_continued = bool(self._ask("SELECT bool_or(continues) FROM all_rows")[0][0])
        self._view_of_responses("responses", "all_rows")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    @property
    def written(self) -> int:
        """Steps on disk."""
        return len(self._steps)

    def by_step(self) -> list[StepResponses]:
        """The responses of each step, or of MOST_STEPS evenly spaced ones."""
        chosen = thinned(self._steps, MOST_STEPS)
        files = [file for step in chosen for file in sorted((self._folder / f"step-{step}").glob("*.parquet"))]
        self._view("some_rows", files)
        self._view_of_responses("some_responses", "some_rows")
        told = self._ask(
            """
            WITH whole AS (SELECT *, bool_or(rejected = '') OVER (PARTITION BY "group") AS accepted
                           FROM some_responses)
            SELECT step, histogram(outcome), avg((outcome = 'correct')::INT) FILTER (rejected = ''),
                   avg(length) FILTER (accepted OR rejected = 'never trained'), avg(length) FILTER (rejected = '')
            FROM whole GROUP BY step ORDER BY step
            """
        )
        return [
            StepResponses(
                step=step,
                outcomes=dict(outcomes),
                correct_trained=correct,
                tokens_accepted=accepted,
                tokens_trained=own,
            )
            for step, outcomes, correct, accepted, own in told
        ]

    def changed(self, most: int) -> list[Change]:
        """The prompts whose score changed most between the first and the last step that sampled them, those that
        gained and those that lost."""
        pairs = self._ask(
            f"""
            WITH groups AS ({GROUPS})
            SELECT arg_min("group", step * 1e9 + "group") AS first, arg_max("group", step * 1e9 + "group") AS last
            FROM groups GROUP BY prompt_id HAVING min(step) < max(step) AND
                arg_min(score, step * 1e9 + "group") <> arg_max(score, step * 1e9 + "group")
            ORDER BY abs(arg_max(score, step * 1e9 + "group") - arg_min(score, step * 1e9 + "group")) DESC, first
            LIMIT ?
            """,
            [most],
        )
        found = {seen.group: seen for seen in self.groups([group for pair in pairs for group in pair])}
        return [Change(first=found[first], last=found[last]) for first, last in pairs]

    def visited_twice(self) -> int:
        """How many prompts were sampled in two steps or more."""
        count = "SELECT count(*) FROM (SELECT prompt_id FROM responses GROUP BY prompt_id HAVING min(step) < max(step))"
        return int(self._ask(count)[0][0])

    def chosen(self, how: str, most: int, *, step: int | None = None, outcome: str = "", prompt: str = "") -> list[int]:
        """Ids of groups, the most fitting first.

        Args:
            how: "worst" or "best" by mean score, "mixed" by how near half of the responses are correct, or "newest".
            most: how many.
            step: only of this step.
            outcome: only with a response that ended so.
            prompt: only of the prompt with this id.
        """
        ways = {
            "worst": "score, step DESC",
            "best": "score DESC, step DESC",
            "mixed": "abs(correct - 0.5), step DESC",
            "newest": "step DESC",
        }
        told = self._ask(
            f"""
            WITH groups AS ({GROUPS.replace("HAVING count(score) > 0", "")}),
                 ended AS (SELECT DISTINCT "group" FROM responses WHERE outcome = ?)
            SELECT "group" FROM groups
            WHERE (? IS NULL OR step = ?) AND (? = '' OR "group" IN (FROM ended)) AND (? = '' OR prompt_id = ?)
                AND (score IS NOT NULL OR ? <> '')
            ORDER BY {ways[how]}, "group" LIMIT ?
            """,
            [outcome, step, step, outcome, prompt, prompt, outcome, most],
        )
        return [group for (group,) in told]

    def groups(self, ids: Sequence[int]) -> list[SeenGroup]:
        """Whole groups, in the sequence of the ids."""
        chosen = ", ".join(str(int(each)) for each in ids) or "NULL"
        rows = self._ask(
            f"""
            SELECT "group", step, prompt_id, prompt, reference, rejected, sample, response, outcome, score, why, finish
            FROM responses WHERE "group" IN ({chosen}) ORDER BY "group", sample
            """
        )
        found: dict[int, list[Any]] = {}
        for row in rows:
            found.setdefault(row[0], []).append(row)
        return [_group(found[each]) for each in ids if each in found]

    def outcomes(self) -> list[str]:
        """Every outcome that there is."""
        return [outcome for (outcome,) in self._ask("SELECT DISTINCT outcome FROM responses ORDER BY outcome")]

    def _view(self, name: str, files: Sequence[Path]) -> None:
        relation = self._database.read_parquet([str(file) for file in files], union_by_name=True)
        if lacking := [column for column in NEEDED if column not in relation.columns]:
            raise ValueError(f"{self._folder} is not of a run: its files lack {', '.join(lacking)}")
        columns = ", ".join(
            f'"{column}"::{kind} AS "{column}"'
            if column in relation.columns
            else f'{_ABSENT.get(kind, "NULL")}::{kind} AS "{column}"'
            for column, kind in COLUMNS.items()
        )
        relation.project(columns).create_view(name)

    def _view_of_responses(self, name: str, rows: str) -> None:
        """One row for each response: a response that goes on in further rows has its last one's text and verdict."""
        length = "len(list_filter(sampled, lambda one : one))"
        if not self._is_continued:
            self._database.execute(f"CREATE VIEW {name} AS SELECT *, {length} AS length FROM {rows}")
            return
        self._database.execute(
            f"""
            CREATE VIEW {name} AS
            WITH parts AS (SELECT *, sum((NOT coalesce(continues, false))::INT) OVER (
                PARTITION BY "group" ORDER BY sample) AS part FROM {rows})
            SELECT step, "group", min(sample) AS sample, any_value(prompt_id) AS prompt_id,
                   any_value(prompt) AS prompt, any_value(reference) AS reference,
                   arg_max(response, sample) AS response, arg_max(outcome, sample) AS outcome,
                   last(score ORDER BY sample) AS score, arg_max(coalesce(why, ''), sample) AS why,
                   arg_max(coalesce(finish, ''), sample) AS finish, arg_max(rejected, sample) AS rejected,
                   sum({length}) AS length
            FROM parts GROUP BY step, "group", part
            """
        )

    def _ask(self, question: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._database.execute(question, list(values)).fetchall()


def _group(rows: Sequence[Any]) -> SeenGroup:
    number, step, prompt_id, prompt, reference, _ = rows[0][:6]
    reasons = [row[5] for row in rows]
    responses = tuple(
        SeenResponse(sample=sample, text=text, outcome=outcome, score=score, why=why, finish=finish)
        for *_, sample, text, outcome, score, why, finish in rows
    )
    return SeenGroup(
        group=number,
        step=step,
        prompt_id=prompt_id,
        prompt=prompt or "",
        reference=reference or "",
        rejected="" if "" in reasons else reasons[0],
        responses=responses,
    )

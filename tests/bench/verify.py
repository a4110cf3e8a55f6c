"""`make verify-bench`: what the verifiers get right, stop and cost, on public data. Kept in runs/bench/verify.json.

Every case goes through `Grader`, as in a run. The ratio of throughput is measured in one run on one core, taking turns.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from tests.canonical import canonical_cases
from tests.hostile import PROGRAMS, hostile_case

from cluster.graders import Graders
from rewards import Case, Grader, Outcome, Question, RewardSettings

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "runs" / "bench" / "verify.json"
ROUNDS = 5


def main() -> None:
    """Prints every figure and keeps them."""
    figures: dict[str, str | float] = {}
    with Graders() as graders:
        for name, questions, right in suites():
            verdicts = list(track(graders.grade(questions), name, len(questions), Console(stderr=True), transient=True))
            count = sum(good(verdict.outcome) for good, verdict in zip(right, verdicts, strict=True))
            figures[name] = f"{count} of {len(questions)}"
    figures |= throughput()
    table = Table("figure", "reached")
    for name, figure in figures.items():
        table.add_row(name, figure if isinstance(figure, str) else f"{figure:.3g}")
    Console().print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=1), encoding="utf-8")


Suite = tuple[str, Sequence[Question], Sequence[Callable[[Outcome], bool]]]


def suites() -> Iterator[Suite]:
    """(name, questions, what each outcome must be)."""
    for file in ("verifier_cases", "verifier_cases_policy"):
        rows = rows_of(DATA / f"{file}.jsonl")
        for reward in sorted({row["reward"] for row in rows}):
            chosen = [row for row in rows if row["reward"] == reward]
            wanted = [is_correct if row["expected"] == "correct" else is_not_correct for row in chosen]
            cases = [Case(response=row["response"], reference=row["reference"]) for row in chosen]
            yield f"{file}: {reward}", asked(reward, cases), wanted
    for name, cases in gold():
        yield f"gold answers as responses: {name}", asked("math", cases), [is_correct] * len(cases)
    for name in ("HumanEval", "MBPP"):
        cases = [case for of, case in canonical_cases() if of.startswith(name)]
        yield f"canonical solutions: {name}", asked("code", cases), [is_correct] * len(cases)
    cases = [hostile_case(name) for name in PROGRAMS]
    yield "hostile programs stopped", asked("code", cases), [is_not_correct] * len(cases)
    rows = rows_of(DATA / "sql" / "questions.jsonl")
    keys = ("query", "db_name")
    references = [json.dumps({key: row[key] for key in keys}) for row in rows]
    cases = [Case(response=row["query"].split(";")[0], reference=r) for row, r in zip(rows, references, strict=True)]
    plain = [case for case in cases if "{" not in case.response]
    yield "gold queries as responses: sql", asked("sql", plain, databases=str(DATA / "sql")), [is_correct] * len(plain)


def gold() -> Iterator[tuple[str, list[Case]]]:
    """Gold answers against themselves, and the worked solutions against the answers."""
    math = rows_of(DATA / "math500" / "test.jsonl")
    yield "MATH-500", [Case(response=row["answer"], reference=row["answer"]) for row in math]
    yield "MATH-500 solutions", [Case(response=row["solution"], reference=row["answer"]) for row in math]
    school = rows_of(DATA / "gsm8k" / "test.jsonl")
    yield "GSM8K", [Case(response=row["answer"], reference=row["answer"]) for row in school]


def throughput() -> dict[str, float]:
    """Cases a second of `math` in its own process and of math-verify bare in this one, all of it on one core."""
    from math_verify import parse, verify

    cases = dict(gold())["MATH-500 solutions"]
    questions = asked("math", cases)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    grader = Grader()
    grader.grade(questions[:2])

    def bare() -> None:
        for case in cases:
            answer = parse(f"${case.reference}$", parsing_timeout=None)
            verify(answer, parse(case.response, parsing_timeout=None), timeout_seconds=None)

    bare()
    seconds: dict[str, list[float]] = {"isolated": [], "bare": []}
    for _ in range(ROUNDS):
        for name, work in (("isolated", lambda: grader.grade(questions)), ("bare", bare)):
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    grader.close()
    medians = {name: statistics.median(of) for name, of in seconds.items()}
    return {
        "math in its own process, cases/s on one core": len(cases) / medians["isolated"],
        "math-verify bare, cases/s on one core": len(cases) / medians["bare"],
        "ratio of the two": medians["bare"] / medians["isolated"],
    }


def asked(reward: str, cases: Sequence[Case], **settings: Any) -> list[Question]:
    """One question per case."""
    chosen = RewardSettings(name=reward, **settings)
    return [Question(reward=reward, case=case, settings=chosen) for case in cases]


def is_correct(outcome: Outcome) -> bool:
    """What a right response must get."""
    return outcome is Outcome.CORRECT


def is_not_correct(outcome: Outcome) -> bool:
    """What any other must get."""
    return outcome is not Outcome.CORRECT


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()

"""`make verify-bench`: what the verifiers get right, stop and cost, on public data. Kept in runs/bench/verify.json.

Every case goes through `Grader`, as in a run. The ratio of throughput is measured in one run on one core, taking turns.
"""

import json
import logging
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from math_verify import parse, verify
from rich.console import Console
from rich.table import Table

from cluster.preparing.graders import Graders, progress
from rewards import Case, Grader, JudgeSettings, Outcome, Question, RewardSettings
from rewards.models.judges import read
from tests.canonical import canonical_cases
from tests.forms import ADD, FAKES, HELD
from tests.hostile import HOSTILE, SECRET, TESTS, target
from tests.hostile_answers import HOSTILE_ANSWERS
from tests.hostile_queries import (
    BROKEN_ANYWHERE,
    BROKEN_IN_DUCKDB,
    BROKEN_IN_SQLITE,
    CALLING,
    REACHING,
    REFUSED,
    REFUSED_BY_DUCKDB,
    REFUSED_BY_SQLITE,
    WRITING,
    digest,
    write_databases,
)
from tests.judges_answers import JUDGES_ANSWERS

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "runs" / "bench" / "verify.json"
ROUNDS = 5
TRUTH = "SELECT count(*) + 0 FROM people"
WAYS_TO_ANSWER = (
    "The query is `{}`.",
    "Final SQL: {}",
    "{}\n\nThis query takes what was asked for.",
    "<answer>\n{}\n</answer>",
    "~~~sql\n{};\n~~~<|im_end|>",
    "```sql\nSELECT 0\n```\nOr rather:\n```sql\n-- better\n{}\n```",
)


def main() -> None:
    """Prints every figure and keeps them."""
    logging.disable(logging.WARNING)  # math-verify warns that its time-outs are off
    figures: dict[str, str | float] = {}
    with Graders() as graders:
        for name, questions, right in suites():
            verdicts = list(progress(graders.grade(questions), name, len(questions)))
            count = sum(good(verdict.outcome) for good, verdict in zip(right, verdicts, strict=True))
            figures[name] = f"{count} of {len(questions)}"
    figures |= hostile()
    figures |= hostile_queries()
    figures |= judges()
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
    forms = [json.dumps(reference) for reference in HELD.values()]
    cases = [Case(response=fenced(ADD), reference=reference) for reference in forms]
    yield "tests in the forms of data sets: the right program", asked("code", cases), [is_correct] * len(cases)
    cases = [Case(response=fenced(fake), reference=form) for form in forms for fake in FAKES.values()]
    yield "tests in the forms of data sets: programs that pretend", asked("code", cases), [is_wrong] * len(cases)
    rows = [row for row in rows_of(DATA / "tried_cases.jsonl") if row["reward"] == "code"]
    cases = [Case(response=row["response"], reference=as_text(row["reference"])) for row in rows]
    wanted = [is_correct if row["expected"] == "correct" else is_not_correct for row in rows]
    yield "tried cases: code", asked("code", cases), wanted
    yield from answers()
    rows = rows_of(DATA / "sql" / "questions.jsonl")
    cases = [
        Case(response=query, reference=json.dumps({"query": row["query"], "db_name": row["db_name"]}))
        for row in rows
        for query in row["query"].split(";")
        if query.strip()
    ]
    databases = {"databases": str(DATA / "sql")}
    yield "gold queries as responses: sql", asked("sql", cases, sql=databases), [is_correct] * len(cases)
    ways = [replace(case, response=way.format(case.response)) for case in cases for way in WAYS_TO_ANSWER]
    yield (
        "gold queries in prose, tags, tildes, inline code: sql",
        asked("sql", ways, sql=databases),
        [is_correct] * len(ways),
    )


def answers() -> Iterator[Suite]:
    """The project's own answers to `math` by kind, and those that are made to break it."""
    rows = rows_of(ROOT / "tests" / "data" / "verifier_cases" / "math.jsonl")
    for kind in ("formulas of letters", "times and ratios", "answers in a sentence"):
        chosen = [row for row in rows if kind_of(row["reference"], row["response"]) == kind]
        wanted = [is_correct if row["expected"] == "correct" else is_not_correct for row in chosen]
        cases = [Case(response=row["response"], reference=row["reference"]) for row in chosen]
        yield f"own cases: {kind}", asked("math", cases), wanted
    references = ("5", "x^2+1", "ab", "x^2=1")
    cases = [Case(response=said, reference=reference) for said in HOSTILE_ANSWERS for reference in references]
    yield "hostile answers without credit: math", asked("math", cases), [is_no_credit] * len(cases)


def kind_of(reference: str, response: str) -> str:
    """What a case of `math` is about; empty for what has no line of its own."""
    if re.fullmatch(r"\d{1,2}(?::\d{1,2})+(?:\s*[ap]m)?", reference):
        return "times and ratios"
    if re.search(r"[A-Za-z]", reference) and not re.search(r"text|[A-Za-z]{4}", reference):
        return "formulas of letters"
    return "answers in a sentence" if "boxed" not in response and re.search(r"[a-z]{2} ", response) else ""


def gold() -> Iterator[tuple[str, list[Case]]]:
    """Gold answers against themselves, and the worked solutions against the answers."""
    math = rows_of(DATA / "math500" / "test.jsonl")
    yield "MATH-500", [Case(response=row["answer"], reference=row["answer"]) for row in math]
    yield "MATH-500 solutions", [Case(response=row["solution"], reference=row["answer"]) for row in math]
    school = rows_of(DATA / "gsm8k" / "test.jsonl")
    yield "GSM8K", [Case(response=row["answer"], reference=row["answer"]) for row in school]


def hostile() -> dict[str, str]:
    """How many hostile programs got no correct verdict, gave nothing away and did no harm, and how they ended."""
    grader, ends, stopped = Grader(), Counter[Outcome](), 0
    with TemporaryDirectory() as folder, target(Path(folder)) as aim:
        for source in progress(HOSTILE.values(), "hostile programs", len(HOSTILE)):
            case = Case(response=f"```python\n{aim.armed(source)}\n```", reference=TESTS)
            (verdict,) = grader.grade(asked("code", [case], seconds=4.0))
            ends[verdict.outcome] += 1
            files = sorted(path.name for path in Path(folder).iterdir())
            unharmed = files == ["canary", "socket"] and (Path(folder) / "canary").read_text() == "alive"
            stopped += verdict.outcome is not Outcome.CORRECT and SECRET not in verdict.why and unharmed
        calls = [harm for harm in aim.harm() if "called" in harm]
    grader.close()
    stopped -= len(calls)
    words = ", ".join(f"{count} {end}" for end, count in ends.items())
    return {"hostile programs stopped": f"{stopped} of {len(HOSTILE)} ({words})"}


def hostile_queries() -> dict[str, str]:
    """How many queries that write, reach files or break their library were wrong, with every file as it was, and the
    truth right afterwards."""
    everywhere = [*REFUSED, *BROKEN_ANYWHERE]
    duckdb = [*everywhere, *REFUSED_BY_DUCKDB, *WRITING, *REACHING, *CALLING, *BROKEN_IN_DUCKDB]
    attacks = {"p": [*everywhere, *REFUSED_BY_SQLITE, *BROKEN_IN_SQLITE], "d": duckdb, "files": duckdb}
    grader, stopped = Grader(), 0
    with TemporaryDirectory() as folder:
        write_databases(Path(folder))
        before = digest(Path(folder))
        for name, queries in attacks.items():
            reference = json.dumps({"query": "SELECT count(*) FROM people", "db_name": name})
            for query in progress(queries, f"hostile queries on {name}", len(queries)):
                query = query.replace("DATABASE", f"{folder}/d.duckdb").replace("OTHER", f"{folder}/other")
                cases = [Case(response=f"```sql\n{text}\n```", reference=reference) for text in (query, TRUTH)]
                verdict, truth = grader.grade(asked("sql", cases, sql={"databases": folder}))
                unharmed = digest(Path(folder)) == before and truth.outcome is Outcome.CORRECT
                stopped += verdict.outcome is Outcome.WRONG and unharmed
    grader.close()
    return {"hostile queries wrong, nothing changed": f"{stopped} of {sum(map(len, attacks.values()))}"}


def judges() -> dict[str, str]:
    """How many answers of a judge were read as they are meant."""
    case, settings = Case(response="4", reference="4"), JudgeSettings()
    right = sum(read(answer, case, settings).outcome is outcome for answer, outcome in JUDGES_ANSWERS)
    return {"answers of a judge read as meant": f"{right} of {len(JUDGES_ANSWERS)}"}


def throughput() -> dict[str, float]:
    """Cases a second of `math` in its own process over those of math-verify bare in this one, all of it on one core:
    worked solutions against their own answers, and against the next problem's."""
    right = dict(gold())["MATH-500 solutions"]
    following = [*right[1:], right[0]]
    wrong = [Case(response=case.response, reference=of.reference) for case, of in zip(right, following, strict=True)]
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    figures: dict[str, float] = {}
    for name, cases in (("right", right), ("wrong", wrong)):
        questions, grader = asked("math", cases), Grader()
        grader.grade(questions[:2])
        seconds: dict[str, list[float]] = {"isolated": [], "bare": []}
        for _ in range(ROUNDS):
            for way, work in (("isolated", partial(grader.grade, questions)), ("bare", partial(bare, cases))):
                started = time.perf_counter()
                work()
                seconds[way].append(time.perf_counter() - started)
        grader.close()
        for way, of_way in seconds.items():
            figures[f"math, {name} answers, {way}: cases/s on one core"] = len(cases) / statistics.median(of_way)
        figures[f"math, {name} answers: isolated over bare"] = statistics.median(seconds["bare"]) / statistics.median(
            seconds["isolated"]
        )
    return figures


def bare(cases: Sequence[Case]) -> None:
    """What math-verify alone does with cases."""
    for case in cases:
        answer = parse(f"${case.reference}$", parsing_timeout=None)
        verify(answer, parse(case.response, parsing_timeout=None), timeout_seconds=None)


def asked(reward: str, cases: Sequence[Case], **settings: Any) -> list[Question]:
    """One question per case."""
    chosen = RewardSettings(name=reward, **settings)
    return [Question(reward=reward, case=case, settings=chosen) for case in cases]


def fenced(source: str) -> str:
    """A response that is a program."""
    return f"```python\n{source}\n```"


def as_text(reference: Any) -> str:
    """A reference as the data's column has it."""
    return reference if isinstance(reference, str) else json.dumps(reference)


def is_correct(outcome: Outcome) -> bool:
    """What a right response must get."""
    return outcome is Outcome.CORRECT


def is_not_correct(outcome: Outcome) -> bool:
    """What any other must get."""
    return outcome is not Outcome.CORRECT


def is_wrong(outcome: Outcome) -> bool:
    """What a program must get that a person has made wrong: neither a time-out nor an error."""
    return outcome is Outcome.WRONG


def is_no_credit(outcome: Outcome) -> bool:
    """What a response must get that is made to break a verifier: it is read and wrong, or holds no answer."""
    return outcome in (Outcome.WRONG, Outcome.UNPARSABLE)


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()

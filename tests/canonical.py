"""The canonical solutions of HumanEval and MBPP as cases of the reward `code`."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from rewards.verdict import Case

DATA = Path(__file__).parents[2] / "shared" / "data"
HUMANEVAL = DATA / "humaneval" / "HumanEval.jsonl.gz"
MBPP = DATA / "mbpp" / "mbpp.jsonl"


def canonical_cases() -> Iterator[tuple[str, Case]]:
    """Every problem's name and its solution as a response: HumanEval's as bare completions, MBPP's in a fence."""
    with gzip.open(HUMANEVAL, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            reference = json.dumps({key: row[key] for key in ("prompt", "test", "entry_point")})
            yield row["task_id"], Case(response=row["canonical_solution"], reference=reference)
    with MBPP.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            keys = ("test_list", "test_setup_code", "challenge_test_list")
            response = f"It can be done so:\n```python\n{row['code']}\n```\n"
            reference = json.dumps({key: row[key] for key in keys})
            yield f"MBPP/{row['task_id']}", Case(response=response, reference=reference)

"""Writes runs/rewardmath-pairs.jsonl: additions with one right worked answer and three that slip to a wrong result.

    python examples/papers/rewardmath/make_data.py        from the root of the repository

The last 200 rows are for evaluation. A seed decides everything, so the file is always the same.
"""

import json
import random
from pathlib import Path

from actors.data.world import work_out

PAIRS = Path("runs/rewardmath-pairs.jsonl")  # below runs/, which git ignores
ROWS, REJECTED, SLIPS = 2200, 3, 0.3


def write_pairs(file: Path, rows: int = ROWS, seed: int = 0) -> None:
    """Writes rows of prompt, chosen and rejected."""
    draw = random.Random(seed)
    with file.open("w", encoding="utf-8") as out:
        for _ in range(rows):
            left, right = draw.randrange(10, 100), draw.randrange(10, 100)
            rejected: set[str] = set()
            while len(rejected) < REJECTED:
                answer = work_out(left, right, lambda: draw.choice((-1, 1)) * (draw.random() < SLIPS))
                if answer.rpartition("#")[2] != str(left + right):
                    rejected.add(answer)
            row = {"prompt": f"{left}+{right}=", "chosen": work_out(left, right), "rejected": sorted(rejected)}
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    PAIRS.parent.mkdir(exist_ok=True)
    write_pairs(PAIRS)
    print(f"written: {PAIRS}")

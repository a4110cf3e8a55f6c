"""What both sides of the comparison with TRL are given: a model, prompts, a reward and lengths, as files.

short   additions below 20 answered at once (`8+17=` -> `25`), after a supervised warm-up on worked answers of which two
        in five are one off: answers of two or three tokens, about half of them right at the start.
long    a model of random weights, which ends a text with a probability of about 1/64 at each token: lengths are spread
        like a waiting time between 1 and 256 tokens, a tenth under 8 and one in fifty cut at 256. The reward asks for
        more even digits than odd ones; a random text has them half of the time.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OWN = '''"""The reward of the long answers: more even digits than odd ones."""


def reward(response: str, reference: str, prompt: str) -> bool:
    even, odd = (sum(response.count(digit) for digit in digits) for digits in ("02468", "13579"))
    return even > odd
'''

SLIPS = (0, 0, 0, 1, 1)  # added to worked answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One of the two."""

    name: str
    groups_per_step: int
    group_size: int
    max_new_tokens: int
    lr: float
    reward: str  # of winnow: "exact", or "own" with the file reward.py


WORKLOADS = {
    "short": Workload(name="short", groups_per_step=64, group_size=8, max_new_tokens=6, lr=3e-4, reward="exact"),
    "long": Workload(name="long", groups_per_step=16, group_size=8, max_new_tokens=256, lr=1e-4, reward="own"),
}


def write_workload(work: Workload, folder: Path, seed: int = 0) -> None:
    """Writes `prompts.jsonl`, `worked.jsonl`, `reward.py`, `workload.json` and the untrained model in `model/`."""
    from actors.data.world import ALPHABET
    from learner.models.tiny import write_tiny_model

    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    for name, rows in (("prompts", 20_000), ("worked", 20_000)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(rows):
                left, right = draw.randrange(20), draw.randrange(20)
                key, slip = ("answer", 0) if name == "prompts" else ("response", draw.choice(SLIPS))
                file.write(json.dumps({"prompt": f"{left}+{right}=", key: str(left + right + slip)}) + "\n")
    (folder / "reward.py").write_text(OWN, encoding="utf-8")
    (folder / "workload.json").write_text(json.dumps(asdict(work)), encoding="utf-8")
    write_tiny_model(folder / "model", alphabet=ALPHABET, seed=seed)


def winnow_settings(work: Workload, folder: Path, model: Path, files: Path) -> dict[str, Any]:
    """The run file of winnow's side: runs in `folder`, data and reward in `files`."""
    return {
        "run": {"name": work.name, "folder": str(folder), "steps": 100_000},
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"path": str(files / "prompts.jsonl")},
        "reward": {"name": work.reward, "wrong": 0.0, "own": {"file": str(files / "reward.py")}},
        "warmup": {"path": str(files / "worked.jsonl"), "lr": 3e-3},
        "rollout": {
            "groups_per_step": work.groups_per_step,
            "group_size": work.group_size,
            "max_new_tokens": work.max_new_tokens,
            "max_staleness": 1,
        },
        "learner": {
            "algorithm": "grpo",
            "lr": work.lr,
            "lr_warmup": 0,
            "weight_decay": 0.0,
            "micro_batch_tokens": 4096,
        },
    }

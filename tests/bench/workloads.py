"""What both sides of the comparison with TRL are given: a model, prompts, a reward and lengths, as files.

short    additions below 20 answered at once (`8+17=` -> `25`), after a supervised warm-up on worked answers of which
         two in five are one off: answers of two or three tokens, about half of them right at the start.
long     a model of random weights, which ends a text with a probability of about 1/64 at each token: lengths are spread
         like a waiting time between 1 and 256 tokens, a tenth under 8 and one in fifty cut at 256. The reward asks for
         more even digits than odd ones; a random text has them half of the time.
prompts  400 to 700 characters of random sums, one token each, answered by some digits, after a warm-up that leaves
         their number open: 2 to 19 tokens. The reward is that of `long`.
tools    products of two-digit numbers and a tool that multiplies, the calculator of examples/environments: after a
         warm-up on conversations half of the answers call the tool and say what it gave, the others guess.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from examples.environments import calculator, make_data

OWN = '''"""The reward of the long answers: more even digits than odd ones."""


def reward(response: str, reference: str, prompt: str) -> bool:
    even, odd = (sum(response.count(digit) for digit in digits) for digits in ("02468", "13579"))
    return even > odd
'''

SLIPS = (0, 0, 0, 1, 1)  # added to worked answers
SHORTER = (20, 60)  # least and most characters of fillers in a warm-up
ROWS = {"prompts": 20_000, "worked": 20_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One of them."""

    name: str
    title: str  # in figures
    groups_per_step: int
    group_size: int
    max_new_tokens: int
    lr: float
    reward: str  # of winnow: "exact", or "own" with the file reward.py; the calculator's environment has its own
    warm: int  # supervised updates before both sides begin
    seconds: float  # of a turn
    speed: float | None  # target: samples a second over TRL's
    filler: tuple[int, int] = (0, 0)  # least and most characters in front of the sum of a prompt
    tool: bool = False


WORKLOADS = {
    work.name: work
    for work in (
        Workload(
            name="short", title="short answers", groups_per_step=64, group_size=8, max_new_tokens=6, lr=3e-4,
            reward="exact", warm=250, seconds=16, speed=1.5,
        ),
        Workload(
            name="long", title="long-tailed answers", groups_per_step=16, group_size=8, max_new_tokens=256, lr=1e-4,
            reward="own", warm=0, seconds=36, speed=3.0,
        ),
        Workload(
            name="prompts", title="long prompts, short answers", groups_per_step=4, group_size=8, max_new_tokens=19,
            lr=3e-4, reward="own", warm=60, seconds=30, speed=4.0, filler=(395, 694),
        ),
        Workload(
            name="tools", title="turns with a tool", groups_per_step=32, group_size=8, max_new_tokens=48, lr=3e-4,
            reward="exact", warm=200, seconds=16, speed=None, tool=True,
        ),
    )
}  # fmt: skip


# workload -> what winnow's side sets beside what both sides have, as `tests.bench.peer_run.QUICKEST` of TRL's
OWN_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "short": {
        "objective": {"anchor": "sampler"},
        "rollout": {"max_staleness": 2},
        "sync": {"in_flight": "keep"},
    },
    "long": {"rollout": {"max_staleness": 0}, "cluster": {"generators": 2}},
    "tools": {"objective": {"anchor": "sampler"}},
}


def write_workload(work: Workload, folder: Path, seed: int = 0) -> None:
    """Writes `prompts.jsonl`, `worked.jsonl`, `reward.py`, `workload.json` and the untrained model in `model/`."""
    from actors.data.world import ALPHABET
    from learner.models.tiny import write_tiny_model

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reward.py").write_text(OWN, encoding="utf-8")
    (folder / "workload.json").write_text(json.dumps(asdict(work)), encoding="utf-8")
    if work.tool:
        make_data.write_world(folder, "calculator", seed)
        (folder / "train.jsonl").rename(folder / "prompts.jsonl")
        make_data.write_model(folder / "model", seed)
        return
    draw = random.Random(seed)
    for name, rows in ROWS.items():
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(rows):
                file.write(json.dumps(_row(work, name, draw)) + "\n")
    write_tiny_model(folder / "model", alphabet=ALPHABET, seed=seed)


def _row(work: Workload, name: str, draw: random.Random) -> dict[str, str]:
    """A prompt with its answer, or a worked answer; warm-ups have short prompts, as long ones would take minutes."""
    left, right = draw.randrange(20), draw.randrange(20)
    prompt, key = f"{left}+{right}=", "answer" if name == "prompts" else "response"
    said = left + right + (draw.choice(SLIPS) if name == "worked" else 0)
    if not any(work.filler):
        return {"prompt": prompt, key: str(said)}
    least, most = work.filler if name == "prompts" else SHORTER
    digits = "".join(draw.choices("0123456789", k=draw.randint(1, work.max_new_tokens - 1)))
    filler = "".join(draw.choices("0123456789+", k=draw.randint(least, most)))
    return {"prompt": f"{filler}+{prompt}", key: digits}


def winnow_settings(work: Workload, folder: Path, model: Path, files: Path) -> dict[str, Any]:
    """The run file of winnow's side: runs in `folder`, data and reward in `files`."""
    columns = {"prompt_column": "messages", "response_column": "messages"}
    episodes = {"environment": calculator.__file__, "max_turns": 3, "episode_tokens": 128}
    both = {
        "run": {"name": work.name, "folder": str(folder), "steps": 100_000},
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"path": str(files / "prompts.jsonl")},
        "reward": {"name": work.reward, "wrong": 0.0, "own": {"file": str(files / "reward.py")}},
        "warmup": {"path": str(files / "worked.jsonl"), "lr": 3e-3, **(columns if work.tool else {})},
        "rollout": {
            "groups_per_step": work.groups_per_step,
            "group_size": work.group_size,
            "max_new_tokens": work.max_new_tokens,
            "max_staleness": 1,
            **(episodes if work.tool else {}),
        },
        "learner": {
            "algorithm": "grpo",
            "lr": work.lr,
            "lr_warmup": 0,
            "weight_decay": 0.0,
            "micro_batch_tokens": 4096,
        },
    }
    return both | {
        section: both.get(section, {}) | settings for section, settings in OWN_SETTINGS.get(work.name, {}).items()
    }

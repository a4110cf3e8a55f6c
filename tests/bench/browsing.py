"""`python -m tests.bench.browsing`: how fast the page of `winnow rollouts` answers on a run of 100,000 responses.

The run is written by the recorder of real runs: 100 steps of 125 groups of eight responses, of 40 to 480 words each.
Answers are asked for as the page does, over HTTP without a network, each search for the first time, so that no answer
has been kept; figures are medians and the slowest, in milliseconds.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from starlette.testclient import TestClient

from actors.arrow import packed
from actors.filtering.recorder import Recorder
from actors.types import Finish, Group, Trajectory
from cluster.browsing.advantages import crediting_of
from cluster.browsing.app import Browsed, app_for
from cluster.browsing.folder import run_folder
from cluster.browsing.serve import browsed_folder
from cluster.browsing.texts import token_texts
from rewards import Outcome, Verdict
from tests.builders import prompt

SIZE = 8  # of a group
CONFIG = '[learner]\nalgorithm = "grpo"\n[reward]\nwrong = -1\ncorrect = 1\n[rollout]\nmax_new_tokens = 512\n'
ROUNDS = 7  # of each kind of question, no two alike


def word(number: int) -> str:
    """A word of three to five syllables, another one for each number."""
    syllables = []
    while number or len(syllables) < 3:
        number, rest = divmod(number, 40)
        syllables.append("bcdfghjk"[rest % 8] + "aeiou"[rest // 8])
    return "".join(syllables)


WORDS = np.array([word(number) for number in range(20_000)], object)


def measure(folder: Path, responses: int = 100_000, steps: int = 100) -> dict[str, float]:
    """Writes a run unless the folder has one, reads it, and asks; milliseconds, but for the seconds of reading."""
    if not (folder / "config.toml").is_file():
        write(folder, responses // SIZE // steps, steps)
    run = run_folder(str(folder))
    with browsed_folder(run) as (index, following):
        started = time.perf_counter()
        following.look()
        seconds = time.perf_counter() - started
        browsed = Browsed(
            run=run, index=index, following=following, texts=token_texts(run), crediting=crediting_of(run)
        )
        page = TestClient(app_for(browsed), base_url="http://localhost")
        found = page.get("/api/run").json()["responses"]
        asked = {name: [took(page, query) for query in queries] for name, queries in questions(steps).items()}
    searches = [answer for name, answers in asked.items() if name != "a group" for answer in answers]
    return {
        "responses": found,
        "seconds to read the run": seconds,
        **{f"{name}, ms": statistics.median(answer.wall for answer in answers) for name, answers in asked.items()},
        **{
            f"{name}, ms of computing": statistics.median(answer.cores for answer in answers)
            for name, answers in asked.items()
        },
        "slowest search, ms": max(answer.wall for answer in searches),
        "slowest search, ms of computing": max(answer.cores for answer in searches),
    }


def questions(steps: int) -> dict[str, list[str]]:
    """What a person may ask, by kind."""
    draw = np.random.default_rng(1)
    words = WORDS[draw.integers(0, WORDS.size, 4 * ROUNDS)].tolist()
    at = draw.integers(1, steps + 1, ROUNDS).tolist()
    return {
        "a word": [f"groups?q={one}" for one in words[:ROUNDS]],
        "two words in a row, which no response has": [
            f"groups?q={one}%20{other}" for one, other in zip(words[:ROUNDS], words[ROUNDS:], strict=False)
        ],
        "a letter, which every response has": [f"groups?q={one}" for one in "aeioubd"[:ROUNDS]],
        "a word of wrong, trained responses, longest first": [
            f"groups?q={one}&outcome=wrong&rejected=trained&sort=longest-first" for one in words[-ROUNDS:]
        ],
        "a step, an outcome and a length": [f"groups?step={one}&outcome=correct&length=100.." for one in at],
        "everything, most mixed first": [f"groups?sort=mixed-first&score={-2 - one}.." for one in range(ROUNDS)],
        "a group": [f"groups/{SIZE * one}" for one in at],
    }


class Took(NamedTuple):
    """Milliseconds of an answer."""

    wall: float
    cores: float  # of computing, summed over all cores: what a busy machine does not change


def took(page: TestClient, query: str) -> Took:
    """How long an answer takes."""
    wall, cores = time.perf_counter(), time.process_time()
    answer = page.get(f"/api/{query}")
    answer.json()
    assert answer.status_code == 200, answer.text
    return Took(wall=1000 * (time.perf_counter() - wall), cores=1000 * (time.process_time() - cores))


def write(folder: Path, groups: int, steps: int) -> None:
    """A run folder with so many groups in each step."""
    (folder / "config.toml").write_text(CONFIG)
    recorder, draw = Recorder(folder / "trajectories"), np.random.default_rng(0)
    for step in range(1, steps + 1):
        for number in range(groups):
            group = drawn(draw, (step - 1) * groups + number, step)
            right = sum((verdict.score or 0) > 0 for verdict in group.verdicts)
            recorder.write([packed(group)], {0: "all_wrong", SIZE: "all_correct"}.get(right, ""))
        recorder.close_step(step)
    recorder.abandon()


def drawn(draw: np.random.Generator, id: int, step: int) -> Group:
    """A group of random words; about one token to a word."""
    asked = replace(prompt(str(id % 4096), tokens=range(60)), text=text(draw, 60))
    trajectories, verdicts = [], []
    for right in draw.random(SIZE) < 0.5:
        new = int(draw.integers(40, 480))
        tokens = np.concatenate([asked.tokens, draw.integers(0, WORDS.size, new)]).astype(np.int32)
        sampled = np.arange(tokens.size) >= asked.tokens.size
        trajectories.append(
            Trajectory(
                tokens=tokens,
                sampled=sampled,
                logprobs=np.where(sampled, -draw.exponential(0.3, tokens.size), 0).astype(np.float32),
                versions=np.where(sampled, step - 1, -1).astype(np.int32),
                finish=Finish.STOP,
                text=text(draw, new),
            )
        )
        outcome = Outcome.CORRECT if right else Outcome.WRONG
        verdicts.append(Verdict(outcome=outcome, score=1.0 if right else -1.0, why="as it is"))
    return Group(id=id, prompt=asked, trajectories=tuple(trajectories), verdicts=tuple(verdicts))


def text(draw: np.random.Generator, words: int) -> str:
    """So many random words."""
    return " ".join(WORDS[draw.integers(0, WORDS.size, words)])


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description="how fast the page of a run's responses answers")
    parser.add_argument("--responses", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="keeps the run there, and takes it from there the next time")
    asked: Any = parser.parse_args()
    if asked.folder is not None:
        asked.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        found = measure(asked.folder or Path(folder), asked.responses)
    print(json.dumps({name: round(value, 1) for name, value in found.items()}, indent=1))


if __name__ == "__main__":
    main()

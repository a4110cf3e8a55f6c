"""The recipes of papers: their files, how one who knows the answers fares in each world, and the papers' formulas."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.data.prompts import load_prompts
from actors.settings import DataSettings
from cluster.config.reading import load_config
from examples.papers.absolute_zero import data as zero
from examples.papers.absolute_zero import environment as zero_rules
from examples.papers.rema import data as rema
from examples.papers.run import HERE, recipes, run_files
from rewards import Verdict
from tests.environments import Paper, played

Says = Callable[[str], str]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    """Writes the world of a recipe once; gives its folder."""
    made: dict[str, Path] = {}

    def written(data: Any) -> Path:
        if data.__name__ not in made:
            made[data.__name__] = tmp_path_factory.mktemp("world")
            data.write(made[data.__name__])
        return made[data.__name__]

    return written


async def episode(tmp_path: Path, world: Path, recipe: str, says: Says, row: str, file: str = "train") -> list[Verdict]:
    """The verdicts of one episode of the row with this prompt, where the policy says what a function makes of what it is
    shown last."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world / "model")
    config = load_config(run_files(recipe)[0])
    code = Path(config.rollout.environment).read_text(encoding="utf-8")
    prompts = load_prompts(DataSettings(path=str(world / f"{file}.jsonl")), "exact", tokenizer, 100, ()).prompts
    (prompt,) = [prompt for prompt in prompts if f">{row}<" in f">{prompt.text}<"][:1]
    engine = Paper(lambda shown: f"{says(re.findall(r'<user>([^<]*)<end>', shown)[-1])}<end>", tokenizer)
    limits = {"max_turns": config.rollout.max_turns, "episode_tokens": config.rollout.episode_tokens}
    return (await played(tmp_path / "mine.py", code, engine, prompt=prompt, rollout=limits)).group.verdicts


def scores(verdicts: list[Verdict]) -> list[float | None]:
    assert all(verdict.score is not None for verdict in verdicts), verdicts[0].why
    return [verdict.score for verdict in verdicts]


def test_every_recipe_has_a_page_and_is_in_the_table() -> None:
    page = (HERE / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[[^|]*\]\((\w+)/README\.md\)", page, re.MULTILINE) == recipes()
    for recipe in recipes():
        assert (HERE / recipe / "README.md").is_file()
        for file in run_files(recipe):
            assert f"runs/papers/{recipe}/" in load_config(file).model.path


# ------------------------------------------------------------------------------------------------ Absolute Zero


def test_learnability_and_the_composite_reward_are_those_of_absolute_zero() -> None:
    shares = [[False] * 4, [True, False, False, False], [True] * 4]
    found = [zero_rules.learnability(share) for share in shares]
    assert found == [0.0, 0.75, 0.0]
    assert [zero_rules.composite(True, reward) for reward in found] == [-0.5, 0.75, -0.5]
    assert zero_rules.composite(False, 0.0) == -1.0


def solving(shown: str) -> str:
    """What one says who knows all answers; of proposals one that is always valid."""
    kind, *rest = shown.split(" ")
    if len(rest) == 1:
        return "x*2"
    if kind == "d":
        return str(zero.result(rest[0], int(rest[1])))
    if kind == "a":
        return next(str(x) for x in range(-9, 30) if zero.result(rest[0], x) == int(rest[1]))
    pairs = [[int(number) for number in pair.split(":")] for pair in rest]
    programs = [f"x{sign}{number}" for sign in zero.KNOWN for number in range(zero_rules.NUMBERS)]
    return next(each for each in programs if all(zero.result(each, x) == output for x, output in pairs))


@pytest.mark.parametrize("kind", zero.KINDS)
async def test_who_solves_everything_is_right_and_a_proposal_without_failures_teaches_nothing(
    kind: str, tmp_path: Path, worlds: Callable[[Any], Path]
) -> None:
    found = scores(await episode(tmp_path, worlds(zero), "absolute_zero", solving, f"{kind} 3"))
    assert found == [zero_rules.FRUITLESS, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("program", "answer", "expected"),
    [
        ("x%0", "1", [zero_rules.FRUITLESS]),  # it fails: nobody is asked
        ("x+", "1", [zero_rules.FRUITLESS]),
        ("+x", "1", [zero_rules.BAD_FORM]),
        ("5+1", "6", [zero_rules.BAD_FORM]),  # no program of x
        ("x+1", "x", [zero_rules.FRUITLESS, *[zero_rules.BAD_FORM] * 4]),
        ("x+1", "5", [zero_rules.FRUITLESS] * 5),
    ],
)
async def test_bad_programs_and_bad_answers_lose(
    program: str, answer: str, expected: list[float], tmp_path: Path, worlds: Callable[[Any], Path]
) -> None:
    def says(shown: str) -> str:
        return program if shown == "d 3" else answer

    assert scores(await episode(tmp_path, worlds(zero), "absolute_zero", says, "d 3")) == expected


async def test_a_proposal_that_is_solved_at_times_earns_what_is_left_to_learn(
    tmp_path: Path, worlds: Callable[[Any], Path]
) -> None:
    answers = iter(["9", "3", "9", "9"])

    def says(shown: str) -> str:
        return "x+1" if shown == "a 3" else next(answers)

    found = scores(await episode(tmp_path, worlds(zero), "absolute_zero", says, "a 3"))
    assert found == [0.75, -0.5, 1.0, -0.5, -0.5]


async def test_of_a_held_out_task_only_the_answer_is_scored(tmp_path: Path, worlds: Callable[[Any], Path]) -> None:
    world = worlds(zero)
    rows = [json.loads(line)["prompt"] for line in (world / "heldout.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows[:6]:  # two of each kind
        assert scores(await episode(tmp_path, world, "absolute_zero", solving, row, "heldout")) == [1.0]
    assert scores(await episode(tmp_path, world, "absolute_zero", solving, "i 3", "proposals")) == [-0.5]


# --------------------------------------------------------------------------------------------------------- ReMA


@pytest.mark.parametrize(
    ("plan", "first", "second", "expected"),
    [
        ("+", "10", "", [1.0, 1.0]),
        ("+", "11", "", [0.0, 0.0]),
        ("+", "11", "10", [1.0, 1.0]),  # the first role sends it back
        ("10", "10", "", [0.75, 1.25]),  # the first role says the answer itself
    ],
)
async def test_both_roles_share_what_the_last_answer_is_worth(
    plan: str, first: str, second: str, expected: list[float], tmp_path: Path, worlds: Callable[[Any], Path]
) -> None:
    world = worlds(rema)
    rows = (world / "train.jsonl").read_text(encoding="utf-8")
    row = next(prompt for prompt in ("ba 3 7", "ba 7 3", "ba 4 6", "ba 6 4") if f'"{prompt}"' in rows)

    def says(shown: str) -> str:
        if shown == row:
            return plan
        if shown.startswith(plan):
            return first if " " in shown else "ok"
        if shown == "no":
            return second
        return "no" if shown == first and second else "ok"

    assert scores(await episode(tmp_path, world, "rema", says, row)) == expected

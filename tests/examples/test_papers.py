"""The recipes of papers: their files, how one who knows the answers fares in each world, and the papers' formulas."""

import importlib
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
from examples.papers.clarify_delphi import clarify_reward
from examples.papers.clarify_delphi import data as clarify
from examples.papers.crystal import data as crystal
from examples.papers.frozen import frozen, teach
from examples.papers.rainier import data as rainier
from examples.papers.rainier import rainier_reward
from examples.papers.rema import data as rema
from examples.papers.run import HERE, recipes, run_files
from examples.papers.secrepair import data as secrepair
from examples.papers.secrepair import same_words, semantic_reward
from examples.papers.sorft import data as sorft
from examples.papers.world import write_model
from rewards import Case, Outcome, Verdict
from rewards.answers.names import names
from tests.environments import Paper, played

WORLDS = {"rainier": rainier, "crystal": crystal, "clarify_delphi": clarify, "sorft": sorft, "secrepair": secrepair}
Says = Callable[[str], str]


async def episode(tmp_path: Path, world: Path, recipe: str, says: Says, row: str, file: str = "train") -> list[Verdict]:
    """The verdicts of one episode of the row with this prompt.

    Args:
        tmp_path: for a copy of the environment.
        world: the folder of the recipe's data and model.
        recipe: whose environment it is, that of its first run file.
        says: what the policy says to what it is shown last.
        row: the prompt.
        file: the row's.
    """
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
        data = importlib.import_module(f"examples.papers.{recipe}.data")
        for file in [] if hasattr(data, "run") else run_files(recipe):
            assert f"runs/papers/{recipe}/" in load_config(file).model.path


def test_one_run_file_of_a_recipe_may_be_named() -> None:
    assert [file.stem for file in run_files("rema")] == ["both", "reasoner_alone"]
    assert [file.stem for file in run_files("rema/both")] == ["both"]
    assert not run_files("rema/neither")


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
        ("+", 0, None, [1.0, 1.0]),
        ("+", 1, None, [0.0, 0.0]),
        ("+", 1, 0, [1.0, 1.0]),  # the first role sends it back
        ("5", 0, None, [0.75, 1.25]),  # the first role says a number itself
    ],
)
async def test_both_roles_share_what_the_last_answer_is_worth(
    plan: str, first: int, second: int | None, expected: list[float], tmp_path: Path, worlds: Callable[[Any], Path]
) -> None:
    world = worlds(rema)
    rows = [json.loads(line) for line in (world / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    row, right = next((row["prompt"], int(row["answer"])) for row in rows if row["prompt"].startswith("ba"))

    def says(shown: str) -> str:
        if shown == row:
            return plan
        if " " in shown:
            return str(right + first)
        if shown == "no":
            return str(right + (second or 0))
        return "no" if shown == str(right + first) and second is not None else "ok"

    assert scores(await episode(tmp_path, world, "rema", says, row)) == expected


# ------------------------------------------------------------------------------- Rainier, Crystal, ClarifyDelphi


def test_a_frozen_model_says_what_it_was_taught(tmp_path: Path) -> None:
    write_model(tmp_path, "ab", ["red", "blue"], heads=1)
    teach(tmp_path, [("a", "red"), ("bb", "blue")], 20)
    red, blue = frozen(tmp_path).logits("a", ["red", "blue"])
    assert red > blue
    red, blue = frozen(tmp_path).logits("bb", ["red", "blue"])
    assert blue > red
    assert semantic_reward.cosine(*map(frozen(tmp_path).embedding, ("a", "a"))) == pytest.approx(1.0)


def test_a_change_of_mind_is_worth_what_rainier_says() -> None:
    assert rainier_reward.change_of_mind(1.0, -0.5) == pytest.approx(0.61186, abs=1e-5)
    assert rainier_reward.change_of_mind(0.3, 0.3) == 0.0


@pytest.mark.parametrize(
    ("said", "margin", "outcome", "reward"),
    [
        ("bada is red", 1.0, Outcome.CORRECT, 0.80593),
        ("bada is blue", -1.0, Outcome.WRONG, 0.42513),
        ("what is red", -0.5, Outcome.WRONG, 0.5),  # it changes nothing
        ("", -0.5, Outcome.WRONG, 0.5),
    ],
)
def test_knowledge_is_worth_how_far_it_turns_the_qa_model_to_the_right_answer(
    said: str, margin: float, outcome: Outcome, reward: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"": -0.5, said: margin}
    monkeypatch.setattr(rainier_reward, "margin", lambda question, answer, knowledge="": known[knowledge])
    found = rainier_reward.reward(said, "red", "<user>bada? red blue<end><assistant>")
    assert (found.outcome, found.reward) == (outcome, pytest.approx(reward, abs=1e-5))


@pytest.mark.parametrize("recipe", WORLDS)
def test_the_policy_s_words_are_in_its_vocabulary_and_no_held_out_row_is_trained_on(
    recipe: str, worlds: Callable[[Any], Path]
) -> None:
    from transformers import AutoTokenizer

    folder = worlds(WORLDS[recipe])
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = {
        file.stem: [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for file in folder.glob("*.jsonl")
    }
    for row in rows.pop("worked")[:100]:
        for message in row["messages"]:
            ids = tokenizer(message["content"], add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids) == message["content"]
    train = {row["prompt"] for row in rows.pop("train")}
    assert rows
    for held_out in rows.values():
        assert len(held_out) >= 16
        assert not train & {row["prompt"] for row in held_out}


def test_the_divergence_of_two_opinions_is_that_of_clarify_delphi() -> None:
    assert clarify_reward.divergence([0.8, 0.1, 0.1], [0.1, 0.1, 0.8]) == pytest.approx(0.44707, abs=1e-5)
    assert clarify_reward.divergence([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]) == 0.0
    assert clarify_reward.divergence([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]) == 1.0


def test_a_question_is_worth_as_much_as_its_answers_part_the_judge_s_opinions(monkeypatch: pytest.MonkeyPatch) -> None:
    def opinion(situation: str, question: str, answer: str) -> list[float]:
        side = clarify_reward.ANSWERS[question].index(answer)
        return [1.0 - side, 0.0, float(side)] if question == clarify.matters(situation) else [0.0, 1.0, 0.0]

    monkeypatch.setattr(clarify_reward, "opinion", opinion)
    found = {
        said: clarify_reward.reward(said, "", "<user>eat apple<end><assistant>") for said in ("where", "who", "hm", "")
    }
    assert [each.reward for each in found.values()] == [1.0, 0.0, 0.0, 0.0]
    assert [each.outcome for each in found.values()] == [
        Outcome.CORRECT,
        Outcome.WRONG,
        Outcome.UNPARSABLE,
        Outcome.UNPARSABLE,
    ]


@pytest.mark.parametrize(
    ("states", "alone", "expected"),
    [("right", "wrong", [1.0, 1.0]), ("right", "right", [0.0, 1.0]), ("wrong", "right", [-1.0, -1.0])],
)
async def test_what_crystal_says_is_worth_how_far_it_changes_its_own_answer(
    states: str, alone: str, expected: list[float], tmp_path: Path, worlds: Callable[[Any], Path]
) -> None:
    world = worlds(crystal)
    row = json.loads((world / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])["prompt"]
    thing, choices = row.split("? ")
    right = rainier.colour(thing)
    (wrong,) = [choice for choice in choices.split(" ") if choice != right]
    words = {"right": right, "wrong": wrong}

    def says(shown: str) -> str:
        if "|" not in shown:
            return f"{thing} is {words[states]}"
        return shown.rpartition(" ")[2] if not shown.endswith("|") else words[alone]

    assert scores(await episode(tmp_path, world, "crystal", says, row)) == expected
    with_row = json.loads((world / "with.jsonl").read_text(encoding="utf-8").splitlines()[0])["prompt"]
    assert len(scores(await episode(tmp_path, world, "crystal", lambda shown: "red", with_row, "with"))) == 1
    assert len(scores(await episode(tmp_path, world, "crystal", lambda shown: "red", with_row, "without"))) == 1


# -------------------------------------------------------------------------------------------------------- SoRFT


def test_a_subtask_is_worth_the_f_beta_of_what_is_named(worlds: Callable[[Any], Path]) -> None:
    rows = [json.loads(line) for line in (worlds(sorft) / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["prompt"].split(" ")[0] for row in rows} == {*sorft.PLACES}
    for row in rows[:20]:
        reference = json.loads(row["answer"])
        first, second = reference["gold"]
        other = next(name for name in reference["known"] if name not in reference["gold"])
        answers = {
            f"{first}\n{second}": 1.0,
            first: 0.52632,
            f"{first}\n{other}": 0.5,
            other: 0.0,
            f"{first}\n{second}\nmade up": 0.0,
        }
        found = [names(Case(response=answer, reference=row["answer"])).reward for answer in answers]
        assert found == pytest.approx([*answers.values()], abs=1e-5)


# ---------------------------------------------------------------------------------------------------- SecRepair


def test_a_comment_is_worth_the_cosine_of_its_meaning_and_not_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert semantic_reward.cosine([1, 0], [0.6, 0.8]) == pytest.approx(0.6)
    assert semantic_reward.cosine([0, 0], [0.6, 0.8]) == 0.0
    means = {"buffer overflows": (1.0, 0.0), "array overruns": (0.8, 0.6), "shell": (0.0, 1.0), "fine": (-1.0, 0.0)}
    monkeypatch.setattr(semantic_reward, "embedding", means.__getitem__)
    found = [semantic_reward.reward(said, "buffer overflows", "") for said in [*means, ""]]
    assert [each.reward for each in found] == pytest.approx([1.0, 0.8, 0.0, 0.0, 0.0])
    assert [each.outcome for each in found[1:]] == [Outcome.CORRECT, Outcome.WRONG, Outcome.WRONG, Outcome.UNPARSABLE]
    assert same_words.reward("buffer overflows", "buffer overflows", "")
    assert not same_words.reward("array overruns", "buffer overflows", "")

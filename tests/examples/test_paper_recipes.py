"""The recipes of papers that are several commands, that play on a site, or that sample dynamically, and the table of
source papers: worlds, environments, and what the commands are told. Nothing is trained."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.arrow import packed
from actors.data.world import work_out
from actors.filtering.recorder import Recorder
from actors.types import Group
from cluster.config.reading import load_config, load_settings
from cluster.config.run_config import RunConfig
from cluster.config.run_files import TRAJECTORIES
from cluster.evaluating.words import Words
from cluster.reward_models.config import RewardModelConfig
from examples.papers.autowebglm import data as web
from examples.papers.autowebglm import environment as site
from examples.papers.esrl import data as esrl
from examples.papers.esrl import dynamic
from examples.papers.many_shot import data as many_shot
from examples.papers.reranked_code import data as reranked
from examples.papers.reranked_code.program_tests import reward
from examples.papers.responses import Answered, Response, answered, pairs
from examples.papers.reward_guided import data as guided
from examples.papers.run import HERE, Commands, newest, recipes
from learner.methods.algorithms import ALGORITHMS
from rewards import Verdict
from tests.builders import group
from tests.environments import Paper, played

ROOT = HERE.parents[1]
WORLDS = {"many_shot": many_shot, "reward_guided": guided, "reranked_code": reranked, "autowebglm": web, "esrl": esrl}


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("recipe", WORLDS)
def test_the_policy_s_words_are_in_its_vocabulary(recipe: str, worlds: Callable[[Any], Path]) -> None:
    from transformers import AutoTokenizer

    folder = worlds(WORLDS[recipe])
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    for file in folder.glob("*.jsonl"):
        for row in rows_of(file)[:60]:
            said = row.get("messages", row.get("prompt"))
            texts = [said] if isinstance(said, str) else [message["content"] for message in said]
            for text in texts:
                assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


# ---------------------------------------------------------------------------- what a policy has answered, and commands


def said(number: int, question: str, texts: list[str], scores: list[float | None]) -> Group:
    """The responses to the row of a benchmark."""
    made = group(scores, id=number)
    prompt = replace(made.prompt, id=f"eval/asked/{number}", question=question)
    ones = [replace(one, text=text) for one, text in zip(made.trajectories, texts, strict=True)]
    return replace(made, prompt=prompt, trajectories=tuple(ones))


def test_what_was_answered_is_read_by_rows_without_what_has_no_verdict(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / TRAJECTORIES)
    for each in (
        said(7, "b", ["x", "y", "x", " "], [-1.0, 0.5, 1.0, -1.0]),
        said(3, "a", ["u", "v"], [None, -1.0]),
    ):
        recorder.write([packed(each)], "")
    recorder.close(0)
    assert [each.row for each in answered(tmp_path, "asked")] == [3, 7]
    assert answered(tmp_path, "others") == []
    first, second = answered(tmp_path)
    assert (first.row, first.question, first.said) == (3, "a", (Response("v", False, -1.0),))
    assert (second.row, second.right, second.wrong, second.best) == (7, ["y", "x"], ["x"], "x")


def test_pairs_have_the_wrong_responses_that_scored_highest_and_a_worked_answer_where_none_is_right() -> None:
    def of(row: int, *responses: tuple[str, bool, float]) -> Answered:
        return Answered(row=row, question=f"q{row}", said=tuple(Response(*each) for each in responses))

    many = of(0, *((f"w{n}", False, -n / 10) for n in range(9, 0, -1)), ("r", True, 1.0), ("r", True, 0.9))
    found = pairs([many, of(2, ("w", False, -1.0)), of(1, ("r", True, 1.0))], ["a0", "a1", "a2"])
    assert found == [
        {"prompt": "q0", "chosen": ["r"], "rejected": ["w1", "w2", "w3", "w4"]},
        {"prompt": "q2", "chosen": ["a2"], "rejected": ["w"]},
    ]


class Told(Commands):
    """Commands that nobody runs: their settings are read, and their folders are made."""

    def __init__(self, folder: Path) -> None:
        super().__init__(0, quick=False, runs=folder)
        self.folder, self.told = folder, list[tuple[str, ...]]()
        self._begun: dict[Path, tuple[Path, list[str]]] = {}  # run -> its file and settings

    def __call__(self, command: str, first: str | Path, *words: str | Path) -> None:
        self.told.append((command, str(first), *map(str, words)))

    def train(self, file: Path, *words: str | Path, command: str = "train") -> Path:
        settings = [*map(str, words)]
        load_settings(RewardModelConfig if command == "reward-model" else RunConfig, file, settings)
        self(command, file.name, *words)
        run = self.folder / f"run{len(self.told)}"
        self._begun[run] = file, settings
        (run / "checkpoints/step-2").mkdir(parents=True)
        (run / "checkpoints/step-10").mkdir()
        (run / "evals.jsonl").write_text('{"step": 0, "accuracy": 0.5}\n')
        (run / "metrics.jsonl").write_text('{"tokens_generated": 20}\n{"tokens_generated": 3}\n')
        return run

    def evaluate(self, run: Path, *words: str | Path) -> Path:
        self("eval", run, *words)
        told = [*map(str, words)]
        for option in ("--samples", "--checkpoint"):
            if option in told:
                del told[told.index(option) : told.index(option) + 2]
        of, (file, settings) = Words.of(told), self._begun[run]
        assert all(Path(path).is_file() for path in of.benchmarks.values())
        load_config(file, [*settings, *of.overrides])
        return run / "evaluations" / next(iter(of.benchmarks))


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def answers_both_ways(data: Any, monkeypatch: pytest.MonkeyPatch, world: Path, folder: Path) -> None:
    """The recipe works in a folder with the rows of its world, and every question of an evaluation was answered rightly
    once and wrongly once."""
    for file in world.glob("*.jsonl"):
        shutil.copy(file, folder)

    def both(evaluation: Path, benchmark: str = "") -> list[Answered]:
        rows = rows_of(folder / f"{benchmark or evaluation.name}.jsonl")
        texts = (Response("right", True, 0.5), Response("wrong", False, -0.5))
        return [Answered(row=n, question=str(row["prompt"]), said=texts) for n, row in enumerate(rows)]

    monkeypatch.setattr(data, "DATA", folder)
    monkeypatch.setattr(data, "answered", both)


def test_the_newest_checkpoint_is_that_of_the_last_step(told: Told) -> None:
    assert newest(told.train(HERE / "rewardmath/policy.toml")).name == "step-10"


# ------------------------------------------------------------------------------------ reinforced in-context learning


def test_shots_that_are_given_leave_languages_open_and_many_right_ones_do_not() -> None:
    def fitting(speaker: int, things: Any) -> int:
        return sum(
            all(many_shot.name(other, thing) == many_shot.name(speaker, thing) for thing in things)
            for other in range(many_shot.LANGUAGES)
        )

    given = [fitting(speaker, many_shot.given(speaker)) for speaker in range(many_shot.SPEAKERS)]
    many = [fitting(speaker, many_shot.KNOWN) for speaker in range(many_shot.SPEAKERS)]
    assert sum(given) > 1.2 * many_shot.SPEAKERS
    assert many == [1] * many_shot.SPEAKERS


def test_only_right_responses_become_shots_and_what_is_asked_for_is_never_one() -> None:
    asked = [{"speaker": 1, "thing": "a"}, {"speaker": 1, "thing": "b"}, {"speaker": 2, "thing": "a"}]
    own = [
        Answered(row=0, question="", said=(Response("a0", False, -1.0), Response("a2", True, 1.0))),
        Answered(row=1, question="", said=(Response("b1", False, -1.0),)),
        Answered(row=2, question="", said=(Response("a1", True, 1.0),)),
    ]
    right, unfiltered = many_shot.shots_of(asked, own)
    assert right[1:3] == [{"a": "a2"}, {"a": "a1"}]
    assert unfiltered[1:3] == [{"a": "a0"}, {"a": "a1"}]
    rows = many_shot.heldout(right)
    assert {row["thing"] for row in rows} == set(many_shot.HELDOUT)
    behind = [row["prompt"] for row in rows if row["speaker"] == 1]
    assert all([message["content"] for message in prompt[:-1]] == ["a", "a2"] for prompt in behind)


def test_the_shots_are_the_policy_s_own_and_all_kinds_are_asked_behind(
    told: Told, worlds: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = told.folder
    answers_both_ways(many_shot, monkeypatch, worlds(many_shot), folder)
    many_shot.run(told)
    assert [command for command, *_ in told.told] == ["train", "eval", "eval"]
    assert all("start" in words for words in told.told[1:])
    assert len(rows_of(folder / "right.jsonl")) == len(rows_of(folder / "none.jsonl")) == 96
    shots = [message for message in rows_of(folder / "right.jsonl")[0]["prompt"] if message["role"] == "assistant"]
    assert [shot["content"] for shot in shots] == ["right"] * many_shot.SHOTS
    assert {word.partition("=")[0] for word in told.told[2] if "=" in word} == set(many_shot.KINDS)


# ------------------------------------------------------------------------------------------- guided by a reward model


def test_no_question_is_in_two_sets_and_what_the_reward_model_likes_is_imitated() -> None:
    sets = guided.sets()
    assert {name: len(some) for name, some in sets.items()} == guided.ROWS
    assert len({pair for some in sets.values() for pair in some}) == sum(guided.ROWS.values())
    liked = Answered(row=0, question="q", said=(Response("a", True, 0.1), Response("b", False, 0.4)))
    (only,) = guided.imitated([liked, replace(liked, said=())])
    assert only["messages"] == [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]


def test_every_carry_that_is_taken_wrong_makes_the_result_wrong() -> None:
    assert guided.worked_out(14, 27) == "4+7+0=11,1+2+1=4#41" == work_out(14, 27)
    assert guided.worked_out(14, 27, (True, False)) == "4+7+0=11,1+2+0=3#31"
    assert guided.worked_out(14, 27, (False, True)) == "4+7+0=11,1+2+1=4#141"
    for left, right in guided.sets()["heldout"]:
        for wrong in ((True, False), (False, True), (True, True)):
            result = guided.worked_out(left, right, wrong).partition("#")[2]
            assert int(result) != left + right


def test_the_reward_model_chooses_shapes_and_ranks(
    told: Told, worlds: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = told.folder
    answers_both_ways(guided, monkeypatch, worlds(guided), folder)
    guided.run(told)
    commands = [command for command, *_ in told.told]
    assert commands == ["train", "eval", "reward-model", "eval", "eval", "train"]
    likes = f"reward.model.path={told.folder / 'run3/checkpoints/step-10'}"
    assert all(likes in words for words in told.told[3:])
    assert "reward.name=model" in told.told[3]
    assert load_config(HERE / "reward_guided/shaped.toml").reward.name == "shaped"
    imitated = rows_of(folder / "imitated.jsonl")
    assert (len(imitated), imitated[0]["messages"][1]["content"]) == (guided.ROWS["guided"], "right")
    assert rows_of(folder / "pairs.jsonl")[0]["rejected"] == ["wrong"]


# ------------------------------------------------------------------------------------------------- reranked programs


def test_the_tests_tell_every_right_program_from_one_that_is_off() -> None:
    for task in reranked.prompts():
        (one, left), (two, right) = task
        wanted = reranked.tests(task)
        assert reward(reranked.program(task), wanted, "")
        assert reward(reranked.program(task, brackets=False), wanted, "") == (two != "*" or one == "*")
        for by in (-1, 1):
            assert not reward(reranked.program(((one, left + by), (two, right))), wanted, "")
            assert not reward(reranked.program(((one, left), (two, right + by))), wanted, "")


@pytest.mark.parametrize(
    ("program", "right"),
    [
        ("f=lambda x:(x+3)*2", True),
        ("f=lambda x:x*2+6", True),
        ("f=lambda x:x+3*2", False),
        ("f=lambda x:(x+3", False),
        ("f=lambda x:x**9", False),
        ("(x+3)*2", False),
        ("", False),
    ],
)
def test_a_program_is_right_where_it_gives_the_right_numbers(program: str, right: bool) -> None:
    assert reward(program, reranked.tests((("+", 3), ("*", 2))), "") is right


def test_each_round_trains_the_reranker_on_what_the_last_generator_wrote(
    told: Told, worlds: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = told.folder
    answers_both_ways(reranked, monkeypatch, worlds(reranked), folder)
    reranked.run(told)
    commands = [command for command, *_ in told.told]
    assert commands == ["train", "eval", "reward-model", "train", "eval", "reward-model", *["eval"] * 3]
    reranker = told.folder / "run3/checkpoints/step-10"
    assert f"reward.model.path={reranker}" in told.told[3]
    assert "reward.name=shaped" in told.told[4]
    assert f"model.path={reranker}" in told.told[5]
    assert [words[2] for words in told.told[-2:]] == [
        str(reranker),
        str(told.folder / "run6/checkpoints/step-10"),
    ]
    first, both = (len(rows_of(folder / f"pairs_{number}.jsonl")) for number in (1, 2))
    assert (first, both) == (reranked.ROWS["first"], reranked.ROWS["first"] + reranked.ROWS["second"])


# -------------------------------------------------------------------------------------------------------- AutoWebGLM


def test_a_page_is_simplified_to_its_texts_and_what_can_be_operated() -> None:
    page = (
        "<html><head><title>t</title><style>p {}</style></head><body><script>go()</script><div hidden>no</div>"
        '<p>two <b>words</b></p><a href="/a"><i>one</i></a><input placeholder="box"><a name="x">place</a></body></html>'
    )
    text, elements = site.simplified(page)
    assert text == "two words 1one 2box place"
    assert elements == (site.Element("one", "/a"), site.Element("box", "", box=True))


@pytest.mark.parametrize("start", site.STARTS)
def test_who_does_the_right_thing_is_done_in_the_fewest_actions(start: str) -> None:
    for seed, article in enumerate(site.SHELF_OF):
        visit, actions = site.Visit(article, start, seed), 0
        done: bool | None = None
        while done is None:
            done, actions = visit.act(web.right_action(article, visit.page)), actions + 1
        assert (done, actions) == (True, site.STARTS[start])


def test_there_is_a_way_back_from_a_wrong_page_and_none_from_what_cannot_be_done() -> None:
    visit = site.Visit("hat", "find", 0)
    assert visit.act("type 1 cap") is None
    assert visit.act("click 1") is None
    assert re.fullmatch(r"cap costs \d 1home", visit.page)
    assert web.right_action("hat", visit.page) == "click 1"
    assert [site.Visit("hat", "find", 0).act(said) for said in ("click 1", "type 2 hat", "say", "type 1 hat ")] == [
        False
    ] * 4
    assert site.Visit("hat", "home", 0).act("type 1 hat") is False
    nothing = site.Visit("hat", "find", 0)
    assert nothing.act("type 1 home") is None
    assert nothing.page == "nothing 1home"


def test_people_s_short_tasks_begin_on_the_shelf_and_held_out_ones_far_away(worlds: Callable[[Any], Path]) -> None:
    folder = worlds(web)
    starts = [row["prompt"].split(" ")[1] for row in rows_of(folder / "heldout.jsonl")]
    assert {start: starts.count(start) for start in starts} == dict.fromkeys(web.FAR, 12 * web.LAYOUTS)
    shown = [row["messages"][0]["content"] for row in rows_of(folder / "people_short.jsonl")]
    assert all("5home" in text and text.split(" ")[0] in re.sub(r"\d", "", text).split(" ")[1:] for text in shown)


async def episodes(folder: Path, file: Path, world: Path, says: Callable[[str], str], row: str, size: int) -> Group:
    """A group of the environment in a file, of the first row with this prompt; `says` is told all that was shown."""
    from transformers import AutoTokenizer

    from actors.data.prompts import load_prompts
    from actors.settings import DataSettings

    tokenizer = AutoTokenizer.from_pretrained(world / "model")
    found = [load_prompts(DataSettings(path=str(each)), "exact", tokenizer, 100, ()).prompts for each in rows_in(world)]
    prompt = next(prompt for prompts in found for prompt in prompts if prompt.question == row)
    engine = Paper(lambda shown: f"{says(shown)}<end>", tokenizer)
    limits = {"max_turns": 8, "episode_tokens": 96, "max_new_tokens": 32}
    text = file.read_text(encoding="utf-8")
    return (await played(folder / "mine.py", text, engine, size=size, prompt=prompt, rollout=limits)).group


def rows_in(world: Path) -> list[Path]:
    return [world / "train.jsonl", world / "heldout.jsonl"]


def scores(verdicts: tuple[Verdict, ...]) -> list[float | None]:
    assert all(verdict.score is not None for verdict in verdicts), verdicts[0].why
    return [verdict.score for verdict in verdicts]


@pytest.mark.parametrize("row", ["cap shelf", "hat home", "tea find"])
async def test_who_reads_the_pages_finds_the_price(row: str, tmp_path: Path, worlds: Callable[[Any], Path]) -> None:
    article = row.split(" ")[0]

    def says(shown: str) -> str:
        page = re.findall(r"<user>([^<]*)<end>", shown)[-1]
        return web.right_action(article, page if "costs" in page else page.removeprefix(f"{article} "))

    file = HERE / "autowebglm/environment.py"
    assert scores((await episodes(tmp_path, file, worlds(web), says, row, 2)).verdicts) == [1.0, 1.0]


async def test_who_goes_round_in_circles_or_says_nothing_fails(tmp_path: Path, worlds: Callable[[Any], Path]) -> None:
    file = HERE / "autowebglm/environment.py"
    for says in ("click 1", "", "say 0"):
        found = await episodes(tmp_path, file, worlds(web), lambda shown, says=says: says, "hat home", 1)
        assert scores(found.verdicts) == [-1.0]


def test_the_three_stages_go_on_with_each_other_s_weights(told: Told) -> None:
    web.run(told)
    assert [words[1] for words in told.told] == ["1_short.toml", "2_preferences.toml", "3_rejection.toml"]
    assert told.told[1][2] == f"model.path={told.folder / 'run1/warmup'}"
    assert told.told[2][2] == f"model.path={told.folder / 'run2/checkpoints/step-10'}"
    stages = [load_config(HERE / "autowebglm" / words[1]) for words in told.told]
    assert [stage.learner.algorithm for stage in stages] == ["grpo", "iterative-dpo", "raft"]


# -------------------------------------------------------------------------------------------------------------- ESRL


def test_fewer_responses_are_sampled_where_the_policy_does_well() -> None:
    assert [dynamic.responses_for(share) for share in (0.0, 0.3, 0.7, 1.0)] == [4, 3, 2, 1]


@pytest.mark.parametrize(("known", "right", "responses"), [(0.0, False, 8), (1.0, True, 2)])
async def test_an_episode_samples_as_many_siblings_as_the_last_visits_ask_for(
    known: float, right: bool, responses: int, tmp_path: Path, worlds: Callable[[Any], Path]
) -> None:
    world, file = worlds(esrl), tmp_path / "dynamic.py"
    text = (HERE / "esrl/dynamic.py").read_text(encoding="utf-8")
    file.write_text(text.replace("UNKNOWN = 0.5", f"UNKNOWN = {known}"), encoding="utf-8")
    row = rows_of(world / "train.jsonl")[0]
    answer = row["answer"] if right else "1000"
    found = await episodes(tmp_path, file, world, lambda shown: f"1#{answer}", row["prompt"], 2)
    assert scores(found.verdicts) == [1.0 if right else -1.0] * responses
    assert {one.siblings for one in found.trajectories} == {"policy"}


async def test_a_held_out_question_is_answered_once_in_an_episode(
    tmp_path: Path, worlds: Callable[[Any], Path]
) -> None:
    world = worlds(esrl)
    row = rows_of(world / "heldout.jsonl")[0]
    says = f"1#{row['answer'].removeprefix('once ')}"
    found = await episodes(tmp_path, HERE / "esrl/dynamic.py", world, lambda shown: says, row["prompt"], 2)
    assert scores(found.verdicts) == [1.0, 1.0]


def test_a_slip_in_a_sum_goes_on_to_its_result() -> None:
    slips = iter((0, 1, 0))
    assert (esrl.asked((3, 5, 2, 6)), esrl.worked_out((3, 5, 2, 6))) == ("3+5+2+6=", "8,10#16")
    assert esrl.worked_out((3, 5, 2, 6), lambda: next(slips)) == "8,11#17"


def test_nobody_has_read_a_held_out_sum(worlds: Callable[[Any], Path]) -> None:
    folder = worlds(esrl)
    read = {row["messages"][0]["content"] for row in rows_of(folder / "worked.jsonl")}
    assert not read & {row["prompt"] for row in rows_of(folder / "heldout.jsonl")}


def test_both_ways_of_sampling_are_trained_and_their_tokens_counted(
    told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    esrl.run(told)
    assert [words[1] for words in told.told] == ["plain.toml", "dynamic.toml"]
    assert told.told[1][2] == f"model.path={told.folder / 'run1/warmup'}"
    assert "plain: 23 tokens sampled" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------ the table of source papers


def table() -> list[tuple[str, str, str]]:
    """(arXiv id, command, all of the row) of each paper on language models."""
    text = (ROOT / "docs/methods.md").read_text(encoding="utf-8").split("\n## The source papers\n")[1]
    rows = [line for line in text.split("\n### ")[0].splitlines() if line.startswith("| [")]
    found = [re.search(r"arxiv\.org/abs/(\d{4}\.\d{5})", row) for row in rows]
    return [(each[1], row.split(" | ")[2], row) for each, row in zip(found, rows, strict=True) if each]


def test_every_paper_on_language_models_has_a_command() -> None:
    rows = table()
    assert len({paper for paper, _, _ in rows}) == len(rows) == 34
    assert [row for _, command, row in rows if not re.search(r"`(winnow|make|python) [^`]+`", command)] == []


def test_the_table_of_papers_names_every_recipe_beside_its_papers() -> None:
    named = [(paper, row, re.findall(r"examples\.papers\.run (\w+)", row)) for paper, _, row in table()]
    assert sorted({recipe for _, _, some in named for recipe in some}) == recipes()
    seen = (HERE / "README.md").read_text(encoding="utf-8").splitlines()
    for paper, row, some in named:
        for recipe in some:
            assert f"../examples/papers/{recipe}/README.md" in row
            assert paper in (HERE / recipe / "README.md").read_text(encoding="utf-8")
            (mine,) = [line for line in seen if f"]({recipe}/README.md) |" in line]
            assert ("none yet" in row) == ("not yet run to its end here" in mine)


def test_the_table_of_papers_names_algorithms_that_are_in_the_table_of_algorithms() -> None:
    for paper, command, row in table():
        named = re.findall(r"learner\.algorithm=([\w+-]+)", command)
        assert set(named) <= set(ALGORITHMS), row
        sources = {name for name, algorithm in ALGORITHMS.items() if paper in algorithm.about}
        assert not sources or "make paper" in command or sources & set(named), row

"""The recipes of tree search: what their environments leave and train on, the papers' formulas, and their commands."""

import importlib
import json
import random
import re
from collections.abc import Callable, Sequence
from itertools import cycle, groupby, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from actors.data.labelled import SteppedRow, read_labelled
from actors.data.prompts import load_prompts
from actors.engines import Completion, Sampling
from actors.rollouts.rollout import GradedGroup
from actors.settings import DataSettings
from cluster.config.reading import load_config, load_settings
from cluster.evaluating.words import Words
from cluster.reward_models.config import RewardModelConfig
from examples.papers import additions
from examples.papers.itool import data as itool
from examples.papers.math_shepherd import data as shepherd
from examples.papers.math_shepherd import reranking
from examples.papers.rest_mcts import data as mcts
from examples.papers.rftt import data as rftt
from examples.papers.rftt.rftt_paths import OUTPUT, REFINE, VERIFY, path_text
from examples.papers.run import HERE, Commands, main, newest, run_recipe
from examples.papers.world import write_rows
from learner.methods.credit import paired
from rewards import Outcome, RewardResult
from rewards.models.texts import steps as steps_in
from tests.environments import Paper, played

RECIPES = {"itool": itool, "math_shepherd": shepherd, "rest_mcts": mcts, "rftt": rftt}
Says = Callable[[str, random.Random], str]
World = Callable[[str], Path]
ADDITION = re.compile(r"<user>(\d)(\d)\+(\d)(\d)=<end><assistant>(.*)", re.DOTALL)


class Drawn(Paper):
    """Says what a function makes of what it is shown, and of what its seed draws."""

    def __init__(self, says: Says, tokenizer: Any) -> None:
        super().__init__(lambda shown: f"{says(shown, random.Random(self.seed))}<end>", tokenizer)
        self.seed = 0

    async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        self.seed = seed
        return await super().generate(tokens, sampling, seed)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Writes the world of a recipe once; gives its folder."""
    made: dict[str, Path] = {}

    def written(recipe: str) -> Path:
        if recipe not in made:
            made[recipe] = tmp_path_factory.mktemp(recipe)
            RECIPES[recipe].write(made[recipe])
        return made[recipe]

    return written


@pytest.fixture
def play(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Plays a group of episodes of an environment of a recipe."""

    async def group(
        recipe: str, environment: str, says: Says, prompt: str, answer: str, size: int = 1
    ) -> tuple[GradedGroup, Drawn]:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(world(recipe) / "model")
        monkeypatch.syspath_prepend(HERE / recipe)
        write_rows(tmp_path / "row.jsonl", [{"prompt": prompt, "answer": answer}])
        loaded = load_prompts(DataSettings(path=str(tmp_path / "row.jsonl")), "number", tokenizer, 100, ())
        file = "run.toml" if recipe == "itool" else "policy.toml"
        rollout = load_config(HERE / recipe / file).rollout
        limits = {name: getattr(rollout, name) for name in ("max_turns", "episode_tokens", "max_new_tokens")}
        code = (HERE / recipe / environment).read_text(encoding="utf-8")
        engine = Drawn(says, tokenizer)
        graded = await played(tmp_path / environment, code, engine, prompt=loaded.prompts[0], rollout=limits, size=size)
        assert graded.summary.failure == ""
        return graded, engine

    return group


def left_in(graded: GradedGroup, name: str) -> list[dict[str, Any]]:
    """The rows that a group has left in a file."""
    left = [row for one in graded.group.trajectories for row in one.left]
    return [json.loads(row.row) for row in left if row.name == name]


def rest_of(shown: str, draw: random.Random, slips: float) -> list[str]:
    """The steps that are left of an addition, each sum one off by chance; what was said before stays."""
    (found,) = ADDITION.findall(shown)
    *digits, said = found
    tens, ones, more_tens, more_ones = map(int, digits)
    totals, steps = [int(total) for total in re.findall(r"=(\d+)", said)], []
    for one, other in [(ones, more_ones), (tens, more_tens)][len(totals) :]:
        carry = totals[-1] // 10 if totals else 0
        totals.append(max(0, one + other + carry + draw.choice((-1, 1)) * (draw.random() < slips)))
        steps.append(f"{one}+{other}+{carry}={totals[-1]}")
    return [*steps, str(totals[1] * 10 + totals[0] % 10)]


# ------------------------------------------------------------------------------------------------------ worlds


def test_an_addition_is_worked_out_in_steps_and_slips_stay() -> None:
    assert additions.steps(15, 27) == ["5+7+0=12", "1+2+1=4", "42"]
    assert additions.steps(95, 17) == ["5+7+0=12", "9+1+1=11", "112"]
    assert additions.steps(15, 27, -3) == ["5+7+0=9", "1+2+0=3", "39"]
    assert additions.steps(15, 27, 0, -1, forgets=True) == ["5+7+0=12", "1+2+0=2", "22"]
    assert rest_of("<user>15+27=<end><assistant>", random.Random(0), 0.0) == additions.steps(15, 27)
    assert rest_of("<user>15+27=<end><assistant>5+7+0=12\n\n1+2+1=5\n\n", random.Random(0), 0.0) == ["52"]


def test_calls_are_those_that_the_chat_template_shows() -> None:
    assert itool.call("+", 3, 4) == '<tool_call>{"name": "add", "arguments": {"left": 3, "right": 4}}</tool_call>'
    knowing = next(
        said for seed in range(999) if (said := itool.said(random.Random(seed), (3, "+", 4, "*", 5)))[-1][1] == "35"
    )
    assert [role for role, _ in knowing] == ["system", "user", "assistant", "tool", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_imitated_is_in_the_vocabulary_and_no_held_out_row_is_among_it(recipe: str, world: World) -> None:
    from transformers import AutoTokenizer

    folder = world(recipe)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    files = {file.stem: file.read_text(encoding="utf-8").splitlines() for file in folder.glob("*.jsonl")}
    worked = [json.loads(line)["messages"] for line in files["worked"]]
    for message in [message for row in worked[:100] for message in row]:
        ids = tokenizer(message["content"], add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == message["content"]
    asked = {message["content"] for row in worked for message in row if message["role"] == "user"}
    train, held_out = ({json.loads(line)["prompt"] for line in files[name]} for name in ("train", "heldout"))
    assert not held_out & (train | asked)
    assert (len(held_out), min(len(train), 400)) == (200, 400)


# ----------------------------------------------------------------------------------------------- Math-Shepherd


SLIPPED = {  # what is said so far -> what the policy says next: alone it slips, from behind a right step it does not
    "": "5+7+0=12\n\n1+2+1=5\n\n52",
    "5+7+0=12\n\n": "1+2+1=4\n\n42",
    "5+7+0=12\n\n1+2+1=5\n\n": "52",
}


def slipping(shown: str, draw: random.Random) -> str:
    return SLIPPED[shown.rpartition("<assistant>")[2]]


async def test_a_step_is_labelled_by_what_comes_of_it(play: Callable[..., Any], tmp_path: Path) -> None:
    graded, engine = await play("math_shepherd", "step_labels.py", slipping, "15+27=", "42")
    (row,) = left_in(graded, "steps")
    assert row == {"prompt": "15+27=", "steps": ["5+7+0=12\n\n", "1+2+1=5\n\n", "52"], "labels": [1.0, 0.0, 0.0]}
    assert graded.summary.outcomes == (Outcome.WRONG,)
    assert len(engine.said) == 1 + 2 * 4  # one solution, and four completions from behind two steps
    write_rows(tmp_path / "steps.jsonl", [row])
    (read,) = read_labelled(str(tmp_path / "steps.jsonl"), "prompt")
    assert isinstance(read, SteppedRow)
    assert read.spans == steps_in("".join(row["steps"]))  # as the reward divides it


@pytest.mark.parametrize("says", ["", "\n\n", "5+7+0=12\n\n\n\n\n\n42"])
async def test_solutions_without_steps_leave_nothing(says: str, play: Callable[..., Any]) -> None:
    graded, _ = await play("math_shepherd", "step_labels.py", lambda shown, draw: says, "15+27=", "42")
    assert left_in(graded, "steps") == []
    assert graded.summary.outcomes == (Outcome.CORRECT if "42" in says else Outcome.WRONG,)


def test_responses_are_chosen_as_math_shepherd_does() -> None:
    answers, scores = ["A", "A", "B"], [0.3, 0.3, 0.7]
    assert reranking.voted(answers, [1.0] * 3) == "A"
    assert reranking.voted(answers, scores) == "B"
    assert reranking.voted([None, None, "B"], [0.9, 0.9, 0.1]) == "B"
    assert reranking.voted([None], [0.9]) is None
    assert reranking.chosen(answers, scores, [False, False, True]) == (pytest.approx(1 / 3), 0.0, 1.0, 1.0)
    assert reranking.chosen([None, "A"], [0.2, 0.1], [False, True]) == (0.5, 1.0, 0.0, 1.0)


async def test_reranking_reads_the_responses_of_an_evaluation(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "5+7+0=12\n\n1+2+1=5\n\n52"
    wholes = cycle(["5+7+0=12\n\n1+2+1=4\n\n42", wrong, wrong])

    def scored(cases: Sequence[Any], settings: Any) -> list[RewardResult]:
        assert {case.question for case in cases} == {"15+27="}
        assert settings.aggregate == "min"
        right = [case.response.endswith("\n\n42") for case in cases]
        ends = [Outcome.CORRECT if each else Outcome.WRONG for each in right]
        return [
            RewardResult(outcome=end, why="", reward=0.9 if each else 0.1)
            for end, each in zip(ends, right, strict=True)
        ]

    def answered(shown: str, draw: random.Random) -> str:
        return "52" if shown.rpartition("<assistant>")[2] else next(wholes)

    graded, _ = await play("math_shepherd", "step_labels.py", answered, "15+27=", "42", size=8)
    monkeypatch.setattr(reranking, "recorded_groups", lambda folder: iter([graded.group]))
    monkeypatch.setattr(reranking, "process", scored)
    rules = {"one response": 3 / 8, "majority": 0.0, "highest score": 1.0, "weighted vote": 1.0}
    assert reranking.reranked(Path(), Path()) == rules


# --------------------------------------------------------------------------------------------------- ReST-MCTS*


def adding(shown: str, draw: random.Random) -> str:
    return "\n\n".join(rest_of(shown, draw, 0.4))


def is_right(text: str) -> bool:
    return text.endswith("\n\n42")


async def test_a_search_leaves_values_and_trains_on_its_ends(play: Callable[..., Any]) -> None:
    graded, _ = await play("rest_mcts", "search_by_completions.py", adding, "15+27=", "42", size=4)
    texts = [one.text for one in graded.group.trajectories]
    assert [outcome is Outcome.CORRECT for outcome in graded.summary.outcomes] == list(map(is_right, texts))
    assert {*map(is_right, texts)} == {True, False}
    rows = left_in(graded, "values")
    assert rows
    for row in rows:
        text = "".join(row["steps"])
        assert text in texts
        if is_right(text):
            assert row["labels"] == pytest.approx([1 / 3, 2 / 3, 1.0])
        else:  # its first step is on the way to a right end of the tree, or not
            assert row["labels"] in ([0.0, 0.0, 0.0], pytest.approx([1 / 3, 1 / 9, 0.0]))
    solved = {one.episode for one in graded.group.trajectories if is_right(one.text)}
    said = {(one.episode, one.text) for one in graded.group.trajectories if one.episode in solved}
    assert len(rows) == len(said)  # each path of a tree once


async def test_a_path_without_a_word_leaves_no_row(play: Callable[..., Any]) -> None:
    def silent_at_times(shown: str, draw: random.Random) -> str:
        return "" if draw.random() < 0.4 else "\n\n".join(rest_of(shown, draw, 0.0))

    graded, _ = await play("rest_mcts", "search_by_completions.py", silent_at_times, "15+27=", "42", size=4)
    assert "" in {one.text for one in graded.group.trajectories}
    rows = left_in(graded, "values")
    assert rows
    assert all(row["steps"] for row in rows)


async def test_the_later_search_asks_the_value_model_and_completes_nothing(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def valued(cases: Sequence[Any], settings: Any) -> list[RewardResult]:
        assert settings.aggregate == "last"
        assert settings.path.endswith("runs/papers/rest_mcts/values")
        (case,) = cases
        assert case.question == "15+27="
        asked.append(case.response)
        good = not re.search(r"=(11|13|3|5)\n", case.response)
        end = Outcome.CORRECT if good else Outcome.WRONG
        return [RewardResult(outcome=end, why="", reward=0.9 if good else 0.1)]

    monkeypatch.setattr("rewards.models.scoring.process", valued)
    graded, engine = await play("rest_mcts", "search_by_values.py", adding, "15+27=", "42", size=4)
    assert asked
    assert all(beginning.endswith("\n\n") for beginning in asked)
    assert len(engine.said) <= 4 * 18
    assert any(is_right(one.text) for one in graded.group.trajectories)


# --------------------------------------------------------------------------------------------------------- RFTT


def functional(shown: str, draw: random.Random) -> str:
    *sums, result = rest_of(shown, draw, 0.4)
    return "".join(f"<next>{each}\n" for each in sums) + OUTPUT + result


def test_a_path_verifies_its_steps_and_mends_what_the_tree_has_beside_them() -> None:
    steps = ["<next>5+7+0=12\n", "<next>1+2+1=4\n", "<output>42"]
    assert path_text(steps, {}) == ("<next>5+7+0=12\n<verify>ok\n<next>1+2+1=4\n<verify>ok\n<output>42")
    assert path_text(steps, {0: "<next>5+7+0=11\n"}) == (
        "<next>5+7+0=11\n<verify>no\n<refine>5+7+0=12\n<verify>ok\n<next>1+2+1=4\n<verify>ok\n<output>42"
    )


def check_functions(text: str, left: int, right: int) -> None:
    """Every sum is verified as it is, what is wrong is refined next, and the result is right."""
    *sums, result = additions.steps(left, right)
    *lines, last = text.split("\n")
    assert last == OUTPUT + result
    for line, following in pairwise([*lines, last]):
        if line == f"{VERIFY}no":
            assert following.startswith(REFINE)
        elif not line.startswith(VERIFY):
            assert following == VERIFY + ("ok" if line.partition(">")[2] in sums else "no")


async def test_a_search_leaves_paths_that_verify_and_refine(play: Callable[..., Any]) -> None:
    texts = []
    for left, right in ((15, 27), (38, 14), (46, 29)):
        answer = f"tree {left + right}"
        graded, _ = await play("rftt", "functional_search.py", functional, f"{left}+{right}=", answer, size=4)
        for row in left_in(graded, "worked"):
            asked, said = row["messages"]
            assert (asked["content"], said["role"]) == (f"{left}+{right}=", "assistant")
            check_functions(said["content"], left, right)
            texts.append(said["content"])
        assert len(graded.group.trajectories) == 4  # the best path of each tree
    assert any(f"{VERIFY}no" in text for text in texts)
    assert any(f"{VERIFY}no" not in text for text in texts)


async def test_the_ends_of_all_trees_of_a_question_are_siblings(play: Callable[..., Any]) -> None:
    graded, _ = await play("rftt", "functional_tree.py", functional, "15+27=", "tree 42", size=2)
    responses = graded.group.trajectories
    assert len({one.siblings for one in responses}) == 1
    assert [one.episode for one in responses] == sorted(one.episode for one in responses)
    assert all(len([*tree]) > 1 for _, tree in groupby(responses, lambda one: one.episode))
    right = [one.text.endswith("<output>42") for one in responses]
    assert [outcome is Outcome.CORRECT for outcome in graded.summary.outcomes] == right
    graded, engine = await play("rftt", "functional_tree.py", functional, "15+27=", "alone 42", size=2)
    assert len(graded.group.trajectories) == len(engine.said) == 2


# -------------------------------------------------------------------------------------------------------- iTool


def calling(slips: float) -> Says:
    def says(shown: str, draw: random.Random) -> str:
        ((first, inner, second, outer, third),) = re.findall(r"<user>\((\d)([+*])(\d)\)([+*])(\d)<end>", shown)
        told = re.findall(r"<tool>(\d+)<end>", shown)
        if len(told) == 2:
            return str(told[1])
        sign, left, right = (outer, told[0], third) if told else (inner, first, second)
        return itool.call(sign, int(left), int(right) + (draw.random() < slips))

    return says


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of vLLM, which reads the calls
async def test_the_call_that_parts_right_from_wrong_is_a_pair_behind_one_beginning(play: Callable[..., Any]) -> None:
    graded, _ = await play("itool", "itool_pairs.py", calling(0.4), "(3+4)*5", "search 35", size=4)
    rows = [
        (one, verdict.score)
        for one, verdict in zip(graded.group.trajectories, graded.group.verdicts, strict=True)
        if one.siblings == "fragments"
    ]
    assert rows
    credits, found = paired(np.array([score for _, score in rows])), {}
    for sign in (1.0, -1.0):
        found[sign] = [one for (one, _), credit in zip(rows, credits, strict=True) if credit == sign]
    assert len(rows) == len(found[1.0]) + len(found[-1.0])  # nobody is without a partner
    for good, bad in zip(found[1.0], found[-1.0], strict=True):
        assert good.episode == bad.episode
        start = good.turns[-1].start
        assert bad.turns[-1].start == start
        assert good.tokens[:start].tolist() == bad.tokens[:start].tolist()
        assert good.text.endswith((itool.call("+", 3, 4), itool.call("*", 7, 5)))
        assert not bad.text.endswith((itool.call("+", 3, 4), itool.call("*", 7, 5)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of vLLM, which reads the calls
@pytest.mark.parametrize("kind", ["answer", "search"])
async def test_a_question_is_answered_where_nothing_is_searched_or_no_call_is_wrong(
    kind: str, play: Callable[..., Any]
) -> None:
    graded, _ = await play("itool", "itool_pairs.py", calling(0.0), "(3+4)*5", f"{kind} 35", size=2)
    assert [one.siblings for one in graded.group.trajectories] == ["policy", "policy"]
    assert graded.summary.outcomes == (Outcome.CORRECT, Outcome.CORRECT)


# ----------------------------------------------------------------------------------------------------- commands


class Written:
    """The commands of a recipe, read and not run: each run leaves a checkpoint, each evaluation the rows of its
    environment."""

    quick = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []  # of the runs and evaluations

    def __call__(self, command: str, first: str | Path, *words: str | Path) -> None:
        assert (command, first) == ("eval", "--reward-model")
        assert Path(words[0]).parent.name == "checkpoints"
        assert Path(words[1]).parent == self.folder

    def train(self, file: Path, *words: str, command: str = "train", warmup: int = 20) -> Path:
        kind = load_settings(RewardModelConfig, file, words) if command == "reward-model" else load_config(file, words)
        assert f"runs/papers/{file.parent.name}/" in kind.model.path or Path(kind.model.path).is_dir()
        return self._made(kind.run.name, {"checkpoints/step-2/config.json": "{}", "evals.jsonl": ""})

    def evaluate(self, run: Path, *words: str | Path) -> Path:
        assert newest(run)
        *items, samples, count = map(str, words)
        assert (samples, count.isdecimal()) == ("--samples", True)
        read = Words.of(items)
        assert len(read.benchmarks) == 1
        environments = [Path(each.removeprefix("rollout.environment=")) for each in read.overrides]
        assert all(each.is_file() for each in environments)
        left = {f"left/{name}.jsonl": '{"prompt": "15+27="}\n' for name in ("steps", "values", "worked")}
        return self._made(f"eval-{'-'.join(each.stem for each in environments)}", left)

    def _made(self, name: str, files: dict[str, str]) -> Path:
        self.names.append(name)
        folder = self.folder / f"{len(self.names)}-{name}"
        for file, text in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
        return folder


@pytest.mark.parametrize(
    ("recipe", "commands"),
    [
        ("itool", ["itool"]),
        (
            "math_shepherd",
            ["math-shepherd-policy", "eval-step_labels", "math-shepherd", "eval-", "math-shepherd-steps"],
        ),
        (
            "rest_mcts",
            [
                *("rest-mcts-policy", "eval-"),
                *("eval-search_by_completions", "rest-mcts-values", "rest-mcts-imitation", "eval-"),
                *("eval-search_by_values", "rest-mcts-values", "rest-mcts-imitation", "eval-"),
            ],
        ),
        ("rftt", ["rftt-policy", "eval-", "eval-functional_search", "rftt"]),
    ],
)
def test_the_commands_of_a_recipe_name_what_there_is(
    recipe: str, commands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = importlib.import_module(f"examples.papers.{recipe}.data")
    monkeypatch.setattr(shepherd, "reranked", lambda evaluation, model: {"majority": 0.5})
    monkeypatch.setattr(mcts, "VALUES", tmp_path / "values")
    winnow = Written(tmp_path)
    data.run(winnow)
    assert winnow.names == commands
    assert (tmp_path / "values/config.json").is_file() == (recipe == "rest_mcts")


def test_the_settings_of_a_recipe_win_over_those_of_haste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []

    def main(words: list[str]) -> int:
        told.append(words)
        (tmp_path / str(len(told))).mkdir()
        return 0

    monkeypatch.setattr("cluster.cli.main", main)
    commands = Commands(1, quick=True, runs=tmp_path)
    preferences, rejection = (HERE / f"autowebglm/{name}.toml" for name in ("2_preferences", "3_rejection"))
    commands.train(preferences, "warmup.updates=240")
    commands.train(preferences, "model.path=runs/begun/warmup", warmup=160)
    commands.train(rejection, "model.path=runs/begun/warmup")
    first, second, third = ([word for word in words if word.startswith("warmup.")] for words in told)
    assert first[-1] == "warmup.updates=240"
    assert second == ["warmup.updates=160", "warmup.batch=32"]
    assert not third  # it has none


def test_a_file_of_a_recipe_that_runs_as_a_whole_is_refused_with_the_recipe() -> None:
    with pytest.raises(SystemExit, match="judges/policy needs what the commands before it have made: take judges"):
        run_recipe("judges/policy", 0, quick=True)
    with pytest.raises(SystemExit, match="there is no recipe 'judge': take one of absolute_zero, "):
        run_recipe("judge", 0, quick=True)


def test_recipes_in_haste_are_all_run_and_the_one_that_fails_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(words: list[str], **options: Any) -> SimpleNamespace:
        return SimpleNamespace(returncode=int("rema/both" in words), stdout=f"said by {' and '.join(words[5:-2])}")

    monkeypatch.setattr("examples.papers.run.subprocess.run", run)
    monkeypatch.setattr("sys.argv", ["run", "--quick", "rema/both", "crystal", "rema/reasoner_alone"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "said by rema/both and rema/reasoner_alone" in said
    assert "said by crystal" in said
    assert said.endswith("\nrema: failed with the status 1, 0 s\ncrystal: ran, 0 s\n")


def test_what_the_run_files_of_the_recipes_say() -> None:
    steps, imitation = (load_config(HERE / file) for file in ("math_shepherd/steps.toml", "rest_mcts/imitation.toml"))
    assert (steps.reward.name, steps.reward.span_weight, steps.reward.score_weight) == ("process", 1.0, 0.0)
    assert steps.warmup.updates == 0
    assert not imitation.samples  # what is trained on is on disk

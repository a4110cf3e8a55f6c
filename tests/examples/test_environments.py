"""The worlds of examples/environments: their data, what is imitated, and how one who knows the answers fares."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.data.prompts import load_prompts
from actors.data.reading import read_worked
from actors.rollouts.own import load_environment
from actors.rollouts.worked import WorkedRenderer
from actors.settings import DataSettings
from cluster.config.reading import load_config
from examples.environments.make_data import FEW_PROMPTS, THINGS, WORLDS, write_model, write_world
from rewards import Outcome
from tests.environments import Paper, played

EXAMPLES = Path(__file__).parents[2] / "examples" / "environments"
NAMES = sorted(file.stem for file in EXAMPLES.glob("*.toml") if not file.stem.startswith("_"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for world in WORLDS:
        write_world(folder / world, world)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_run_file_names_what_there_is(name: str) -> None:
    config = load_config(EXAMPLES / f"{name}.toml")
    assert Path(config.rollout.environment).name == f"{name}.py"
    assert Path(config.data.path).parent.name in WORLDS
    assert len(load_environment(str(EXAMPLES / f"{name}.py")).file)
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 50


@pytest.mark.parametrize("world", WORLDS)
def test_the_tokenizer_knows_all_that_is_said_and_the_data_are_always_the_same(
    world: str, data: Path, tmp_path: Path, tokenizer: Any
) -> None:
    write_world(tmp_path, world)
    for name in ("train", "heldout", "worked"):
        file = f"{name}.jsonl"
        assert (tmp_path / file).read_bytes() == (data / world / file).read_bytes()
    rows = read_worked(str(data / world / "worked.jsonl"), "messages", "messages")[:200]
    streams = WorkedRenderer(DataSettings(), tokenizer).streams(rows)
    assert len(streams) == len(rows)
    for row, stream in zip(rows, streams, strict=True):
        said = tokenizer.decode(stream.tokens[stream.trained])
        assert said == "".join(f"{turn}<end>" for turn in row.turns)
        assert tokenizer.decode(stream.tokens).endswith(said.rpartition("<end>")[0].rpartition("<end>")[2] + "<end>")


@pytest.mark.parametrize("world", sorted(set(WORLDS) - set(FEW_PROMPTS)))
def test_what_is_held_out_is_neither_trained_on_nor_imitated(world: str, data: Path) -> None:
    def prompts(name: str) -> set[str]:
        rows = [json.loads(line) for line in (data / world / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        return {row["prompt"] if "prompt" in row else row["messages"][1]["content"] for row in rows}

    held_out = prompts("heldout")
    assert len(held_out) >= 20
    assert not held_out & (prompts("train") | prompts("worked"))


def move(shown: str) -> str:
    left = int(re.findall(r"<user>(\d+)", shown)[-1])
    return str(left % 4 or 1)


def naming(shown: str) -> str:
    things = {word: thing for thing, word in THINGS.items()}
    heard = re.findall(r"<user>what is (\w+)<end>", shown)
    return things[heard[0]] if heard else THINGS[re.findall(r"<user>(\w+)<end>", shown)[0]]


def asking(shown: str) -> str:
    said = re.findall(r"<user>([^<]*)", shown)[-1]
    return "which?" if said == "a cup" else str(said.rpartition(" ")[2])


def calling(call: str) -> Callable[[str], str]:
    def says(shown: str) -> str:
        if result := re.findall(r"<tool>(?:.* )?(\w+)<end>", shown):
            return str(result[-1])
        return call.replace("QUESTION", re.findall(r"<user>([^<?]*)", shown)[0])

    return says


def walking(shown: str) -> str:
    return "-" if re.findall(r"<user>(-?)\d", shown)[-1] else "+"


PRODUCT = '<tool_call>{"name": "calculate", "arguments": {"product": "QUESTION"}}</tool_call>'
QUERY = '<tool_call>{"name": "search", "arguments": {"query": "QUESTION"}}</tool_call>'
BEST: dict[str, Callable[[str], str]] = {
    "game": move,
    "self_play": move,
    "dialogue": naming,
    "asked_back": asking,
    "calculator": calling(PRODUCT),
    "agent": calling(PRODUCT),
    "gym": walking,
    "search": calling(QUERY),
}
# Whoever plays sticks well loses only to luck, and against itself one side loses.
SHARE = {"game": 0.7, "self_play": 0.5}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of vLLM, which reads the calls
@pytest.mark.parametrize("name", NAMES)
async def test_who_knows_the_answers_wins(name: str, data: Path, tmp_path: Path, tokenizer: Any) -> None:
    engine = Paper(lambda shown: f"{BEST[name](shown)}<end>", tokenizer)
    config = load_config(EXAMPLES / f"{name}.toml")
    world = Path(config.data.path).parent.name
    files = [DataSettings(path=str(data / world / f"{file}.jsonl")) for file in ("train", "heldout")]
    prompts = [prompt for file in files for prompt in load_prompts(file, "exact", tokenizer, 100, ()).prompts[:4]]
    code = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8").replace('"corpus.txt"', f'"{EXAMPLES}/corpus.txt"')
    verdicts = []
    for prompt in prompts:
        settings = {"max_turns": config.rollout.max_turns, "episode_tokens": config.rollout.episode_tokens}
        graded = await played(tmp_path / "mine.py", code, engine, prompt=prompt, rollout=settings)
        verdicts += graded.group.verdicts
    assert all(verdict.score is not None for verdict in verdicts), verdicts[0].why
    right = sum(verdict.outcome is Outcome.CORRECT for verdict in verdicts)
    assert right >= SHARE.get(name, 1.0) * len(verdicts)

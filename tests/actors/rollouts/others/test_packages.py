"""The packages of other projects themselves, in an environment that has them: `make others-env others-test`."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from actors.settings import DataSettings
from rewards import Case, Grader, Outcome, Question, RewardSettings
from tests.environments import Paper, row, streams
from tests.others import package
from tests.tokenizers import CHATML, letters

pytestmark = pytest.mark.others
ROOT = Path(__file__).parents[4]

# --------------------------------------------------------------------------------------------------- gymnasium

LAKE = """
import gymnasium
from actors.rollouts.others import from_steps


class Lake(gymnasium.ObservationWrapper):
    def observation(self, observation):
        return self.render()


play = from_steps(
    lambda: Lake(gymnasium.make("FrozenLake-v1", is_slippery=False, render_mode="ansi")),
    act=["left", "down", "right", "up"].index,
)
"""
BLACKJACK = """
import gymnasium
from actors.rollouts.others import from_steps

play = from_steps(
    lambda: gymnasium.make("Blackjack-v1"),
    act=lambda text: int(text == "hit"),
    show=lambda seen: f"You have {seen[0]}, the dealer shows {seen[1]}. Hit or stick?",
    opening="{observation}",
)
"""


async def test_a_lake_of_gymnasiums_is_crossed(tmp_path: Path) -> None:
    package("gymnasium")
    engine = Paper(["east", "down", "down", "right", "right", "down", "right"])
    (verdict,) = (await streams(tmp_path / "mine.py", LAKE, engine)).verdicts
    assert (verdict.score, verdict.why) == (1.0, "the score of the environment")
    shown = engine.read(engine.shown[1])
    assert "SFFF\nFHFH\nFFFH\nHFFG" in re.sub("\x1b.*?m", "", shown)
    assert shown.endswith("Not understood: 'east' is not in list")


async def test_siblings_get_the_same_cards(tmp_path: Path) -> None:
    package("gymnasium")
    engine = Paper(lambda shown: "stick")
    group = await streams(tmp_path / "mine.py", BLACKJACK, engine, size=4)
    assert len({tuple(shown) for shown in engine.shown}) == 1
    assert len({verdict.score for verdict in group.verdicts}) == 1
    assert group.verdicts[0].score in (-1.0, 0.0, 1.0)


# --------------------------------------------------------------------------------------------------- textarena

GAME = """
import textarena
from actors.rollouts.others import from_game

play = from_game(lambda: textarena.make("{name}-v0-raw"), seats={seats}{more})
"""
PERFECT = r", opponent=lambda seen, draw: draw.choice(re.findall(r'\[\d\]', seen.rpartition('Available Moves')[2]))"
GAMES: dict[str, tuple[int, list[str], dict[str, float | None]]] = {
    "Nim": (2, ["[0 3]", "[1 4]", "[2 5]"], {"seat 0": 1.0, "seat 1": -1.0}),
    "TicTacToe": (2, ["[0]", "[4]", "[1]", "[5]", "[2]"], {"seat 0": 1.0, "seat 1": -1.0}),
    "GuessTheNumber": (1, [f"[{number}]" for number in range(1, 11)], {"policy": None}),
    "ThreePlayerIPD": (3, ["[0 cooperate]"] * 60, {"seat 0": None, "seat 1": None, "seat 2": None}),
}


@pytest.mark.parametrize("name", GAMES)
async def test_a_game_of_textarenas_is_played_from_all_seats(name: str, tmp_path: Path) -> None:
    package("textarena")
    seats, says, scores = GAMES[name]
    engine = Paper(lambda shown: says.pop(0))
    group = await streams(tmp_path / "mine.py", GAME.format(name=name, seats=seats, more=""), engine)
    assert [trajectory.seat for trajectory in group.trajectories] == list(scores)
    for verdict, score in zip(group.verdicts, scores.values(), strict=True):
        assert verdict.outcome is not Outcome.ERROR, verdict.why
        assert score is None or verdict.score == score


async def test_an_opponent_of_textarenas_game_draws_the_same_for_all_siblings(tmp_path: Path) -> None:
    package("textarena")
    text = "import re\n" + GAME.format(name="TicTacToe", seats=2, more=PERFECT)

    def says(shown: str) -> str:
        return re.findall(r"\[\d\]", shown.rpartition("Available Moves")[2])[0]

    engine = Paper(says)
    group = await streams(tmp_path / "mine.py", text, engine, size=3)
    assert len({tuple(trajectory.tokens.tolist()) for trajectory in group.trajectories}) == 1
    assert {verdict.score for verdict in group.verdicts} <= {-1.0, 0.0, 1.0}
    assert "Seat " in engine.read(engine.shown[-1])


# ----------------------------------------------------------------------------------------------------- OpenEnv

SERVER = """
import sys
import uvicorn
from openenv.core import Action, Environment, Observation, State, create_fastapi_app


class Word(Action):
    word: str


class Heard(Observation):
    text: str


class Echo(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self.words, self.seed = [], None

    def reset(self, seed=None, episode_id=None, **more):
        self.words, self.seed = [], seed
        return Heard(text=f"Say three words, not {seed}.")

    def step(self, action, **more):
        if action.word == "crash":
            raise ValueError("no such word")
        self.words.append(action.word)
        return Heard(text=" ".join(self.words), reward=len(action.word) / 10, done=len(self.words) == 3)

    @property
    def state(self):
        return State(step_count=len(self.words))


uvicorn.run(create_fastapi_app(Echo, Word, Heard, max_concurrent_envs=8), port=int(sys.argv[1]), log_level="error")
"""
CLIENT = """
from openenv.core import GenericEnvClient
from actors.rollouts.others import from_steps

play = from_steps(
    lambda: GenericEnvClient("http://127.0.0.1:{port}"){sync},
    act=lambda text: {{"word": text}},
    show=lambda seen: seen["text"],
)
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a server of OpenEnv's."""
    package("openenv.core")
    file = tmp_path_factory.mktemp("server") / "server.py"
    file.write_text(SERVER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    server = subprocess.Popen([sys.executable, "-W", "ignore", file, str(number)])
    try:
        while server.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", number), timeout=1):
                break
            time.sleep(0.05)
        yield number
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("sync", ["", ".sync()"])
async def test_a_client_of_openenvs_speaks_with_its_server(sync: str, port: int, tmp_path: Path) -> None:
    engine = Paper(lambda shown: "yes" if "not" in shown else "no")
    group = await streams(tmp_path / "mine.py", CLIENT.format(port=port, sync=sync), engine, size=3)
    assert [verdict.score for verdict in group.verdicts] == pytest.approx([0.9] * 3)
    shown = sorted(engine.read(tokens) for tokens in engine.shown)
    assert re.fullmatch(r"\?\n\nSay three words, not \d+\.yesyesyesyes yes", shown[-1])
    assert len(set(shown)) == 3


@pytest.mark.parametrize("sync", ["", ".sync()"])
async def test_what_its_server_raises_fails_the_episode(sync: str, port: int, tmp_path: Path) -> None:
    text = CLIENT.format(port=port, sync=sync)
    (verdict,) = (await streams(tmp_path / "mine.py", text, Paper(["crash"]))).verdicts
    assert verdict.outcome is Outcome.ERROR
    assert re.match(r"\w+_client\.py, line \d+, in .*: RuntimeError: Server error: .*no such word", verdict.why)


# ----------------------------------------------------------------------------------------------- reasoning-gym


@pytest.mark.filterwarnings("ignore")
def test_the_questions_of_reasoning_gym_are_written_and_their_answers_get_one(tmp_path: Path) -> None:
    library = package("reasoning_gym")
    factory = package("reasoning_gym.factory")
    from actors.rollouts.others import MadeData

    data = MadeData(library.create_dataset, {name: {} for name in sorted(factory.DATASETS) if name != "composite"})
    assert data.write(tmp_path / "a.jsonl", rows=105) == 105
    unanswered = set()
    for line in (tmp_path / "a.jsonl").read_text().splitlines():
        reference = json.loads(line)["answer"]
        made = json.loads(reference)
        answer = made["entry"]["answer"]
        if isinstance(answer, str):
            assert data.reward(f"<think>hm</think><answer>{answer}</answer>", reference, "") == 1.0, made
        else:
            unanswered.add(made["set"])
        for wrong in ("", "no idea", "[[1, 2]]", "7"):
            assert 0.0 <= data.reward(f"<answer>{wrong}</answer>", reference, "") <= 1.0, (made, wrong)
    assert unanswered == {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}


def test_reasoning_gym_grades_in_the_process_of_a_verifier(tmp_path: Path) -> None:
    package("reasoning_gym")
    file = tmp_path / "chains.py"
    file.write_text(
        "import reasoning_gym\nfrom actors.rollouts.others import MadeData\n"
        "questions = MadeData(reasoning_gym.create_dataset, {'chain_sum': {'max_terms': 3}, 'leg_counting': {}})\n"
        "reward = questions.reward\nif __name__ == '__main__':\n    questions.write('chains.jsonl', 4)\n"
    )
    around = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, file], cwd=tmp_path, check=True, env=around)
    references = [json.loads(line)["answer"] for line in (tmp_path / "chains.jsonl").read_text().splitlines()]
    settings = RewardSettings.model_validate({"name": "own", "own": {"file": str(file)}})
    said = [json.loads(references[0])["entry"]["answer"], "none", json.loads(references[3])["entry"]["answer"]]
    cases = [Case(response=text, reference=of) for text, of in zip(said, [*references[:2], references[3]], strict=True)]
    grader = Grader()
    try:
        verdicts = grader.grade([Question(reward="own", case=case, settings=settings) for case in cases])
    finally:
        grader.close()
    outcomes = [Outcome.CORRECT, Outcome.WRONG, Outcome.CORRECT]
    assert [verdict.outcome for verdict in verdicts] == outcomes, [verdict.why for verdict in verdicts]


# --------------------------------------------------------------------------------------------------- verifiers

TASKSET = """
import openai
import verifiers.v1 as vf


class Sum(vf.TaskData):
    answer: str


class SumTask(vf.Task[Sum]):
    @vf.reward
    async def right(self, trace) -> float:
        return float(self.data.answer in trace.last_reply)


class Sums(vf.Taskset[SumTask]):
    def load(self):
        for number in range(5):
            yield SumTask(Sum(prompt=f"{number}+2?", answer=str(number + 2)), self.config.task)


class Asks(vf.Harness[vf.HarnessConfig]):
    EXECUTES_CODE = NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data, **more):
        messages = [{"role": "user", "content": data.prompt}]
        async with openai.AsyncOpenAI(base_url=endpoint, api_key=secret) as client:
            for again in ("Are you sure?", ""):
                reply = await client.chat.completions.create(model=ctx.model, messages=messages)
                messages += [{"role": "assistant", "content": reply.choices[0].message.content}]
                messages += [{"role": "user", "content": again}]
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


__all__ = ["Asks", "Sums"]
"""
VERIFIERS = """
import verifiers.v1 as vf
from actors.rollouts.others import VerifiersEnvironment

agent = {"runtime": {"type": "subprocess"}}
environment = VerifiersEnvironment(
    lambda: vf.SingleAgentEnv(vf.SingleAgentEnvConfig(taskset={"id": "NAME"}, agent=agent))
)
play = environment.play
"""


async def test_a_taskset_of_verifiers_is_played_by_its_own_agent(tmp_path: Path) -> None:
    package("verifiers.v1")
    (tmp_path / "sums_of_a_test.py").write_text(TASKSET)
    engine = Paper(lambda shown: "it is 5" if "sure" in shown else "hm", tokenizer=letters())
    text, prompt = VERIFIERS.replace("NAME", "sums_of_a_test"), row(engine.tokenizer, reference="3")
    data = DataSettings(chat_template=str(tmp_path / "chat.jinja"))
    (tmp_path / "chat.jinja").write_text(CHATML)
    group = await streams(
        tmp_path / "mine.py", text, engine, size=3, prompt=prompt, data=data, rollout={"episode_seconds": 20.0}
    )
    assert [verdict.score for verdict in group.verdicts] == [1.0] * 3, group.verdicts[0].why
    assert [engine.read(trajectory.tokens) for trajectory in group.trajectories] == [
        "<|im_start|>user\n3+2?<|im_end|>\n<|im_start|>assistant\nhm<|im_end|>\n"
        "<|im_start|>user\nAre you sure?<|im_end|>\n<|im_start|>assistant\nit is 5"
    ] * 3


async def test_what_a_taskset_raises_fails_the_episode_with_its_traceback(tmp_path: Path) -> None:
    package("verifiers.v1")
    (tmp_path / "broken_sums_of_a_test.py").write_text(TASKSET.replace("self.data.answer in", "self.data.wrong in"))
    engine = Paper(lambda shown: "hm", tokenizer=letters())
    text, prompt = VERIFIERS.replace("NAME", "broken_sums_of_a_test"), row(engine.tokenizer, reference="3")
    (verdict,) = (await streams(tmp_path / "mine.py", text, engine, prompt=prompt)).verdicts
    assert verdict.outcome is Outcome.ERROR
    assert "task SumTask scoring: AttributeError: 'Sum' object has no attribute 'wrong'" in verdict.why
    assert 'broken_sums_of_a_test.py", line 13, in right' in verdict.why


# --------------------------------------------------------------------------------------------------------- TRL

COUNTS = '''
import json
from actors.rollouts.others import from_class


class Counts:
    def reset(self, **row):
        self.total = 0
        self._tell("reset", sorted(row))
        return " Begin at 0."

    def add(self, number: int) -> int:
        """Adds to the total.

        Args:
            number: what is added.
        """
        self.total += number
        return self.total

    def get_reward(self) -> float:
        self._tell("reward", self.total)
        return float(self.total)

    def _tell(self, method, what):
        with open(__file__ + ".calls", "a") as file:
            print(json.dumps([method, what]), file=file)


play = from_class(Counts)
'''
TRAINS = """
import sys
from pathlib import Path

import trl
from datasets import Dataset
from transformers import Qwen3Config, Qwen3ForCausalLM

from mine import Counts
from tests.tokenizers import letters

control = ("<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>")
tokenizer = letters(control=control)
tokenizer.pad_token, tokenizer.eos_token = "</s>", "<|im_end|>"
tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates/qwen3.jinja").read_text()
sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 16}
heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096}
row = {"prompt": [{"role": "user", "content": "2+3?"}], "answer": "5"}
trainer = trl.GRPOTrainer(
    model=Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokenizer), **sizes, **heads)),
    processing_class=tokenizer,
    environment_factory=Counts,
    train_dataset=Dataset.from_list([row, row]),
    args=trl.GRPOConfig(
        output_dir=sys.argv[1], max_steps=1, per_device_train_batch_size=2, num_generations=2, max_completion_length=8,
        report_to="none", use_cpu=True, bf16=False, save_strategy="no",
    ),
)
print("tools", [tool.__name__ for tool in trainer.tools])
trainer.train()
"""


async def test_the_class_that_trl_trains_with_is_played_here(tmp_path: Path) -> None:
    package("trl")
    (tmp_path / "mine.py").write_text(COUNTS)
    (tmp_path / "trains.py").write_text(TRAINS)
    around = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "TRL_EXPERIMENTAL_SILENCE": "1"}
    trained = subprocess.run(
        [sys.executable, "-W", "ignore", tmp_path / "trains.py", tmp_path / "out"],
        capture_output=True, text=True, timeout=300, env=around,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "tools ['add']" in trained.stdout
    calls = tmp_path / "mine.py.calls"
    by_trl = [json.loads(line) for line in calls.read_text().splitlines()]
    calls.unlink()
    engine = Paper(lambda shown: "done", tokenizer=letters())
    await streams(tmp_path / "mine.py", COUNTS, engine, size=2)
    here = [json.loads(line) for line in calls.read_text().splitlines()]
    assert sorted(map(str, here)) == sorted(map(str, by_trl))
    assert re.findall(r'"name": "(\w+)", "desc', engine.read(engine.shown[0])) == ["add"]

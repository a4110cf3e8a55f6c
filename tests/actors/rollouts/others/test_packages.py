"""The packages of other projects themselves, in an environment that has them: `make others-env others-test`."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rewards import Outcome
from tests.environments import Paper, streams

pytestmark = pytest.mark.others
ABSENT = "no environment with the packages of others: make others-env"

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
    pytest.importorskip("gymnasium", reason=ABSENT)
    engine = Paper(["east", "down", "down", "right", "right", "down", "right"])
    (verdict,) = (await streams(tmp_path / "mine.py", LAKE, engine)).verdicts
    assert (verdict.score, verdict.why) == (1.0, "the score of the environment")
    shown = engine.read(engine.shown[1])
    assert "SFFF\nFHFH\nFFFH\nHFFG" in re.sub("\x1b.*?m", "", shown)
    assert shown.endswith("Not understood: 'east' is not in list")


async def test_siblings_get_the_same_cards(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium", reason=ABSENT)
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
    pytest.importorskip("textarena", reason=ABSENT)
    seats, says, scores = GAMES[name]
    engine = Paper(lambda shown: says.pop(0))
    group = await streams(tmp_path / "mine.py", GAME.format(name=name, seats=seats, more=""), engine)
    assert [trajectory.seat for trajectory in group.trajectories] == list(scores)
    for verdict, score in zip(group.verdicts, scores.values(), strict=True):
        assert verdict.outcome is not Outcome.ERROR, verdict.why
        assert score is None or verdict.score == score


async def test_an_opponent_of_textarenas_game_draws_the_same_for_all_siblings(tmp_path: Path) -> None:
    pytest.importorskip("textarena", reason=ABSENT)
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
    pytest.importorskip("openenv.core", reason=ABSENT)
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
    library = pytest.importorskip("reasoning_gym", reason=ABSENT)
    factory = pytest.importorskip("reasoning_gym.factory", reason=ABSENT)
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

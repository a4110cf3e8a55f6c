"""The environments that docs/environments.md shows work as they stand there, each in under twenty lines."""

import re
from pathlib import Path

import pytest

from rewards import Outcome
from tests.environments import Paper, played, row
from tests.others import package
from tests.tokenizers import letters

PAGE = (Path(__file__).parents[2] / "docs/environments.md").read_text(encoding="utf-8")
AGENT = "# agent.py\n"  # what a program of somebody else's begins with
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
# What the last two need beside a package is made in tests/actors/rollouts/others/test_packages.py.
APART = (AGENT, "GenericEnvClient", "VerifiersEnvironment")
SHOWN = [code for code in BLOCKS if not any(sign in code for sign in APART)]


def says(shown: str) -> str:
    """A policy that can do all of them, a little."""
    if "sticks" in shown:
        return "3"
    if shown.startswith("Make"):
        return "2+3=#5"
    if shown.endswith("?") and "price" in shown:
        return '{"name": "price", "arguments": {"article": "pen", "pieces": 2}}'
    if shown.endswith("?") and "note" in shown:
        return '{"name": "note", "arguments": {"text": "2+3"}}'
    return "3" if shown.endswith("price: 3.0\n") else "5"


@pytest.mark.parametrize("number", range(len(SHOWN)))
async def test_each_environment_of_the_page_plays_to_its_end(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in set(re.findall(r"^(?:import|from) (\w+)", SHOWN[number], re.M)) - {"actors"}:
        package(name)
    if not re.search(r"^(async def play|play =)", SHOWN[number], re.M):
        pytest.skip("a reward, and no environment")
    code = re.sub(r', system="[^"]*"', "", SHOWN[number])  # the tokenizer of this test has no chat template
    (tmp_path / "agent.py").write_text(next(code for code in BLOCKS if code.startswith(AGENT)))
    engine = Paper(says, tokenizer=letters())
    graded = await played(tmp_path / "mine.py", code, engine, size=2, prompt=row(engine.tokenizer, "2+3?"))
    assert graded.summary.failure == ""
    assert set(graded.summary.outcomes) <= {Outcome.CORRECT, Outcome.WRONG}


def test_each_environment_of_the_page_is_short() -> None:
    assert [code for code in BLOCKS if len(code.splitlines()) >= 20] == []


def test_the_page_shows_every_kind_that_there_is() -> None:
    kinds = {'role="tool"': "tool", "random.Random(task.seed)": "game", "talk.seat(": "seats", "talk.solve(": "made"}
    kinds |= {"talk.agent(": "agent", "talk.url": "address", "mover, other": "self-play", "0.25 * asked": "user"}
    assert [kind for sign, kind in kinds.items() if not any(sign in code for code in SHOWN)] == []

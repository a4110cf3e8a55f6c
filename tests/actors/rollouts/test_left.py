"""Rows that an environment leaves for later training, and what becomes of them."""

import json
from pathlib import Path

import pytest

from actors.arrow import group_of, packed, unpacked
from actors.types import LeftRow
from tests.environments import Paper, played


def code(body: str) -> str:
    return "import numpy as np\nasync def play(task, talk):\n    " + body.replace("\n", "\n    ")


async def test_an_episode_leaves_rows_with_the_first_of_its_trajectories(tmp_path: Path) -> None:
    body = (
        "turn = await talk(task)\ntalk.leave('steps', {'prompt': task.question, 'é': np.float32(0.5)})\n"
        "other = talk.seat('other')\nawait other('y')\n"
        "talk.leave('pairs', {'label': [np.arange(2), None], 'half': '\\ud83d'})\nreturn 1.0"
    )
    graded = await played(tmp_path / "mine.py", code(body), Paper(lambda shown: "a"), size=2)
    whole = group_of(unpacked(packed(graded.group)))
    assert [len(one.left) for one in whole.trajectories] == [2, 2, 0, 0]
    assert whole.trajectories[0].left == (
        LeftRow("steps", '{"prompt": "?", "é": 0.5}'),
        LeftRow("pairs", '{"label": [[0, 1], null], "half": "\\ud83d"}'),
    )
    assert json.loads(whole.trajectories[0].left[1].row)["half"] == "\ud83d"


async def test_an_episode_that_fails_leaves_nothing_and_attempts_leave_their_own(tmp_path: Path) -> None:
    body = (
        "await talk(task)\ntalk.leave('a', {'whose': 'outer'})\n"
        "async def inner(task, talk):\n    await talk(task)\n    talk.leave('a', {'whose': 'inner'})\n    return 1.0\n"
        "await talk.solve(task.made('2'), 1, 'solver', inner)\n{}"
    )
    file = tmp_path / "mine.py"
    graded = await played(file, code(body.replace("{}", "return 1.0")), Paper(lambda shown: "a"))
    assert [one.left[0].row for one in graded.group.trajectories] == ['{"whose": "outer"}', '{"whose": "inner"}']
    graded = await played(tmp_path / "other.py", code(body.replace("{}", "pass")), Paper(lambda shown: "a"))
    assert [one.left for one in graded.group.trajectories] == [(), ()]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (
            "talk.leave('../x', {})",
            "leaves a row in '../x': give the name of a file, up to 64 letters, digits, - and _",
        ),
        ("talk.leave('', {})", "leaves a row in ''"),
        ("talk.leave('a', [1])", "leaves the row [1]: give a dictionary of its columns"),
        ("talk.leave('a', {'x': float('nan')})", "which JSON cannot hold: Out of range float values"),
        ("talk.leave('a', {'x': np.nan})", "which JSON cannot hold: Out of range float values"),
        ("talk.leave('a', {'x': talk})", "which JSON cannot hold: Talk is none of its types"),
    ],
)
async def test_what_is_no_row_fails_the_episode_with_its_line(call: str, why: str, tmp_path: Path) -> None:
    graded = await played(tmp_path / "mine.py", code(f"await talk(task)\n{call}\nreturn 1.0"), Paper(["a"]))
    assert graded.group.verdicts[0].why.startswith("mine.py, line 4, in play: leaves ")
    assert why in graded.group.verdicts[0].why

"""Tools of an environment that run in processes of their own."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rewards import Outcome
from rewards.programs.sandbox import sandbox_problem
from tests.environments import Paper, played, streams
from tests.tokenizers import letters

pytestmark = pytest.mark.slow  # processes start
PLAY = """
import os, time
from actors.tools import Mcp, Python, Search, Sql

def where() -> str:
    "Says in which process it runs."
    return f"{{os.getpid()}} {{os.getppid()}}"

def hangs():
    "Hangs."
    time.sleep(3600)

async def play(task, talk):
    talk.tools({tools}, seconds=SECONDS)
    turn = await talk.use(task)
    return 1.0
"""


def called(name: str, **arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments})


def code(tools: str, seconds: int = 60) -> str:
    return PLAY.format(tools=tools).replace("SECONDS", str(seconds))


async def read(tmp_path: Path, tools: str, call: str) -> str:
    """What the policy reads behind its call; every trained token is one that it sampled."""
    engine = Paper([call, "end"], letters())
    (verdict,) = (await streams(tmp_path / "mine.py", code(tools), engine)).verdicts
    assert verdict.score == 1.0, verdict.why
    return engine.read(engine.shown[1][len(engine.shown[0]) + len(engine.said[0]) :])


async def test_a_function_at_the_top_of_the_file_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    text = await read(tmp_path, "[where]", called("where"))
    worker, parent = map(int, text.removeprefix("\nwhere: ").split())
    assert worker != os.getpid()
    assert parent == os.getpid()


async def test_a_tool_that_hangs_is_a_text_and_other_episodes_go_on(tmp_path: Path) -> None:
    turns = [0]

    def says(text: str) -> str:
        turns[0] += 1
        return "end" if "\nhangs: " in text or "\nwhere: " in text else called("hangs" if turns[0] == 1 else "where")

    engine = Paper(says, letters())
    group = await streams(tmp_path / "mine.py", code("[where, hangs]", 3), engine, size=4)
    assert [verdict.score for verdict in group.verdicts] == [1.0] * 4
    texts = [engine.read(one.tokens) for one in group.trajectories]
    assert sum("hangs: Error: hangs took longer than 3 s" in text for text in texts) == 1
    assert sum("\nwhere: " in text for text in texts) == 3


@pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem() or "it works")
async def test_a_program_of_the_policys_runs_in_the_sandbox(tmp_path: Path) -> None:
    source = "import os\nprint(sum(range(10)))\nopen('/etc/hostname')"
    text = await read(tmp_path, "[Python()]", called("python", code=source))
    assert text.startswith("\npython: 45\nTraceback")
    assert "FileNotFoundError" in text


async def test_a_ready_tool_that_cannot_be_used_is_the_environments_error(tmp_path: Path) -> None:
    found = await played(tmp_path / "mine.py", code('[Sql("/nowhere/shop.db")]'), Paper(["end"], letters()))
    (verdict,) = found.group.verdicts
    assert verdict.outcome is Outcome.ERROR
    assert verdict.score is None
    assert "mine.py, line 15, in play: offers a tool that cannot be used" in verdict.why
    assert "there is no database '/nowhere/shop.db'" in verdict.why


async def test_two_ready_tools_of_one_name_are_the_environments_error(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("a b c\n")
    tools = "[Search('corpus.txt'), Search('corpus.txt', results=1)]"  # in the folder of the environment
    (verdict,) = (await played(tmp_path / "mine.py", code(tools), Paper(["end"], letters()))).group.verdicts
    assert "offers tools, and two tools are named 'search'" in verdict.why


async def test_a_function_whose_file_does_not_load_there_is_the_environments_error(tmp_path: Path) -> None:
    source = "import os\nassert 'WINNOW_OF_TESTS' not in os.environ, 'only here'\n" + code("[where]").replace(
        "    turn =", "    os.environ['WINNOW_OF_TESTS'] = '1'\n    turn ="
    )
    try:
        found = await played(tmp_path / "mine.py", source, Paper([called("where"), "end"], letters()))
    finally:
        os.environ.pop("WINNOW_OF_TESTS", None)
    (verdict,) = found.group.verdicts
    assert verdict.outcome is Outcome.ERROR
    assert "offers the tool where, which cannot be used" in verdict.why
    assert "only here" in verdict.why


async def test_paths_are_taken_from_the_folder_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(
        "from mcp.server.mcpserver import MCPServer\nserver = MCPServer('made')\n\n@server.tool()\n"
        "def read() -> str:\n    'Reads.'\n    return open('notes.txt').read()\n\nserver.run('stdio')\n"
    )
    (tmp_path / "notes.txt").write_text("so it is")
    text = await read(tmp_path, "[Mcp(['python', 'server.py'])]", called("read"))
    assert text == "\nread: so it is\n"

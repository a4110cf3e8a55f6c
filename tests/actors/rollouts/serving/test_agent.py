"""Agents with a process of their own: what they find, what they may do, and that nothing of them is left."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from actors.rollouts.serving.agent import AgentFailed, run_agent
from rewards import Outcome
from tests.environments import Paper, played, streams

AGENT = """
import json, os, sys
import openai

client = openai.OpenAI()  # OPENAI_BASE_URL and OPENAI_API_KEY say where
messages = [{"role": "user", "content": os.environ["TASK"]}]
for text in sys.argv[1:]:
    answer = client.chat.completions.create(model="any", messages=messages).choices[0].message
    messages += [answer, {"role": "user", "content": text}]
print(client.chat.completions.create(model="any", messages=messages).choices[0].message.content)
"""
PLAY = """
async def play(task, talk):
    said = await talk.agent(["python", "agent.py", "sure?"]{options})
    return await talk.grade(said)
"""
CATCHES = """
async def play(task, talk):
    await talk.seat("other")("x")
    try:
        await talk.agent(["python", "agent.py", "sure?"]{options})
    except Exception:
        {handled}
    return 1.0
"""


async def test_a_program_is_trained_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    engine = Paper(lambda shown: "it is 5" if "sure" in shown else "hm")
    group = await streams(tmp_path / "mine.py", PLAY.format(options=""), engine, size=2)
    assert [verdict.score for verdict in group.verdicts] == [1.0, 1.0], group.verdicts[0].why
    assert [engine.read(one.tokens) for one in group.trajectories] == ["?hmsure?it is 5"] * 2


@pytest.mark.parametrize(
    ("code", "options", "why"),
    [
        ("import sys; print('more', file=sys.stderr); sys.exit(3)", "",
         "ended with status 3. Its standard error ends with:\nmore"),
        ("1 / 0", "", "ended with status 1. Its standard error ends with:\nTraceback"),
        ("import sys; sys.exit(3)", "", "ended with status 3, and said nothing of why"),
        ("import os; os.kill(os.getpid(), 9)", "", "was ended by signal 9"),
        ("import time; time.sleep(60)", ", seconds=0.5", "took longer than 0.5 s"),
    ],
)  # fmt: skip
async def test_an_agent_that_fails_is_its_episodes_failure_whatever_the_environment_makes_of_it(
    code: str, options: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "agent.py").write_text(code)
    for handled in ("raise", "pass"):
        play = CATCHES.format(options=options, handled=handled)
        (verdict,) = (await streams(tmp_path / "mine.py", play, Paper(["a"]))).verdicts
        assert (verdict.outcome, verdict.score) == (Outcome.ERROR, None)
        assert why in verdict.why
        assert verdict.why.startswith("mine.py, line 5, in play: the agent python agent.py 'sure?' ")


async def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    play = PLAY.format(options="").replace('"python"', '"no-such-program"')
    group = await streams(tmp_path / "mine.py", play, Paper([]))
    assert "the agent no-such-program agent.py 'sure?' cannot be started: " in group.verdicts[0].why


async def test_an_episode_that_takes_too_long_ends_its_agent(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(
        f"import os, time\nopen('{tmp_path}/pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"
    )
    graded = await played(tmp_path / "mine.py", PLAY.format(options=""), Paper([]), rollout={"episode_seconds": 2.0})
    assert "the episode took longer than rollout.episode_seconds = 2" in graded.summary.failure
    assert not alive(int((tmp_path / "pid").read_text()))


def alive(pid: int) -> bool:
    """Whether a process runs, looked at until it has had the time to end."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
        except OSError:
            return False
        time.sleep(0.02)
    return True


CHILD = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session={own})
open("pid", "w").write(str(child.pid))
{then}
"""


@pytest.mark.parametrize(
    ("own", "then"), [(False, ""), (False, "time.sleep(60)"), (True, "time.sleep(60)"), (False, "os._exit(3)")]
)
async def test_what_an_agent_starts_ends_with_it(own: bool, then: str, tmp_path: Path) -> None:
    code = CHILD.format(own=own, then=then)
    try:
        await run_agent([sys.executable, "-S", "-E", "-c", code], {}, tmp_path, 2.5 if "sleep" in then else 60)
    except AgentFailed:
        assert then
    assert not alive(int((tmp_path / "pid").read_text()))


async def test_an_agent_that_is_given_up_ends(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    running = asyncio.ensure_future(run_agent([sys.executable, "-c", code], {}, tmp_path, None))
    while not pid.exists() or not pid.read_text():
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not alive(int(pid.read_text()))


async def test_the_end_of_what_it_prints_is_kept(tmp_path: Path) -> None:
    code = "print('x' * 3_000_000); print('the end')"
    printed = await run_agent([sys.executable, "-c", code], {}, tmp_path, 60)
    assert len(printed) == 1 << 18
    assert printed.endswith("x\nthe end\n")


async def test_it_finds_its_address_and_no_proxy_stands_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:1")
    monkeypatch.setenv("NO_PROXY", "inside")
    code = "import os; print(os.environ['A'], os.environ['NO_PROXY'], os.getcwd())"
    printed = await run_agent(["python", "-c", code], {"A": "b"}, tmp_path, 60)
    assert printed.split() == ["b", "inside,127.0.0.1,localhost", os.path.realpath(tmp_path)]

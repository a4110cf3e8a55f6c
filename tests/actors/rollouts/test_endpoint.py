"""Agents that ask by an address: the real client of OpenAI against an engine of paper."""

from pathlib import Path

from tests.environments import Paper, streams

ASYNC = """
import openai

async def play(task, talk):
    async with openai.AsyncOpenAI(base_url=talk.url, api_key="-") as client:
{body}
"""
BASE = """
messages = [{"role": "user", "content": task.question}]
async def say(*more, **options):
    messages.extend({"role": "user", "content": text} for text in more)
    answer = await client.chat.completions.create(model="any", messages=messages, **options)
    messages.append(answer.choices[0].message.model_dump())
    return answer
"""


def agent(body: str) -> str:
    """An environment whose agent asks by `say`, which keeps the conversation in `messages`."""
    return ASYNC.format(body="\n".join("        " + line for line in (BASE + body).splitlines()))


async def test_it_works(tmp_path: Path) -> None:
    body = "a = await say()\nb = await say('more')\nassert b.choices[0].finish_reason == 'stop', b\nreturn 1.0"
    engine = Paper(["one", "two"])
    group = await streams(tmp_path / "mine.py", agent(body), engine)
    assert group.verdicts[0].why == "", group.verdicts[0]
    (only,) = group.trajectories
    assert engine.read(only.tokens) == "?onemoretwo"

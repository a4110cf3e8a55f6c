"""The server as OpenAI's client sees it: its answers, its limits, and what it refuses."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from actors.rollouts.serving.endpoint import Endpoint
from actors.rollouts.serving.wire import Answer, Asked
from actors.types import Finish
from rewards import Outcome, RewardSettings
from tests.agents import agent
from tests.environments import CUT, Paper, played, streams
from tests.tokenizers import family

# ------------------------------------------------------------------------------------------ what is answered


async def test_an_answer_has_what_clients_read(tmp_path: Path) -> None:
    body = """
answer = await client.chat.completions.create(
    model="any",
    messages=[{"role": "user", "content": [{"type": "text", "text": "on"}, {"type": "text", "text": "e"}]}],
    logprobs=True, seed=7, user="me", metadata={"a": "b"}, parallel_tool_calls=False, reasoning_effort="low",
)
(choice,) = answer.choices
assert (answer.model, answer.object, choice.index) == ("any", "chat.completion", 0)
assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "abc", "stop")
usage = answer.usage
assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 3, 6)
assert [(one.token, one.logprob) for one in choice.logprobs.content] == [("a", -0.5), ("b", -0.5), ("c", -0.5)]
models = await client.models.list()
assert [one.id async for one in models] == ["policy"]
assert (await client.models.retrieve("org/any")).id == "org/any"
return 1.0
"""
    group = await streams(tmp_path / "mine.py", agent(body), Paper(["abc"]))
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why


async def test_a_stream_brings_the_same(tmp_path: Path) -> None:
    body = """
for text, usage in (("one", True), ("two", False)):
    told, more = [{"role": "user", "content": text}], {"stream_options": {"include_usage": True}} if usage else {}
    chunks = [one async for one in await client.chat.completions.create(model="m", messages=told, stream=True, **more)]
    choices = [one.choices[0] for one in chunks if one.choices]
    assert "".join(one.delta.content or "" for one in choices) == "abc"
    assert (choices[0].delta.role, choices[-1].finish_reason) == ("assistant", "stop")
    assert [one.usage.completion_tokens for one in chunks if one.usage] == [3] * usage
    assert len({one.id for one in chunks}) == 1
async with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "three"}]) as events:
    assert (await events.get_final_completion()).choices[0].message.content == "abc"
return 1.0
"""
    group = await streams(tmp_path / "mine.py", agent(body), Paper(["abc"] * 3))
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why
    assert [one.new_tokens for one in group.trajectories] == [3, 3, 3]


async def test_a_client_that_blocks_its_thread_is_answered(tmp_path: Path) -> None:
    code = """
import asyncio, openai

def solve(url, question):
    with openai.OpenAI(base_url=url, api_key="-") as client:
        messages = [{"role": "user", "content": question}]
        return client.chat.completions.create(model="any", messages=messages).choices[0].message.content

async def play(task, talk):
    return await talk.grade(await asyncio.to_thread(solve, talk.url, task.question))
"""
    group = await streams(tmp_path / "mine.py", code, Paper(["it is 5", "no"]), size=2)
    assert sorted(verdict.score or 0 for verdict in group.verdicts) == [-1.0, 1.0]


async def test_each_seat_has_an_address_and_a_score(tmp_path: Path) -> None:
    code = """
import openai

async def say(url, text):
    async with openai.AsyncOpenAI(base_url=url, api_key="-") as client:
        messages = [{"role": "user", "content": text}]
        return (await client.chat.completions.create(model="any", messages=messages)).choices[0].message.content

async def play(task, talk):
    white, black, other = talk.seat("white"), talk.seat("black"), talk.seat("other", trained=False)
    assert white.url == white.url != black.url
    await say(black.url, await say(white.url, "begin"))
    await say(other.url, "and")
    await talk("own")
    return {"white": 1.0, "black": -1.0, "policy": 0.5}
"""
    group = await streams(tmp_path / "mine.py", code, Paper(list("abcd")))
    rows = zip(group.trajectories, group.verdicts, strict=True)
    assert [(one.seat, one.text, verdict.score) for one, verdict in rows] == [
        ("policy", "d", 0.5), ("white", "a", 1.0), ("black", "b", -1.0)
    ]  # fmt: skip


async def test_texts_to_stop_at_are_given_to_the_engine_and_left_out_of_the_answer(tmp_path: Path) -> None:
    body = 'a = await ask("one", stop=["END"])\nassert a["content"] == "ab", a\nawait ask("one", a, "two")\nreturn 1.0'
    engine = Paper(["abEND", "c"])
    group = await streams(tmp_path / "mine.py", agent(body), engine, rollout={"stop": ("#",)})
    assert [asked.stop for asked in engine.asked] == [("#", "END"), ("#",)]
    assert engine.read(group.trajectories[0].tokens) == "oneabENDtwoc"


async def test_the_run_samples_as_it_does_and_says_once_that_an_agent_wants_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = 'for _ in range(2):\n    await ask("one", temperature=0.0, top_p=1.0, presence_penalty=0.5)\nreturn 1.0'
    engine = Paper(["a", "b"])
    with caplog.at_level(logging.WARNING, "winnow"):
        await streams(tmp_path / "mine.py", agent(body), engine)
    assert {(asked.temperature, asked.top_p) for asked in engine.asked} == {(1.0, 1.0)}
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "An agent asks for temperature = 0.0", "An agent asks for presence_penalty = 0.5"
    ]  # fmt: skip


async def test_turns_of_an_agent_are_rewarded_on_their_last_tokens(tmp_path: Path) -> None:
    judged = RewardSettings(**{"span_weight": 0.5, "name": "own", "own": {"file": "x"}})
    body = 'a = await ask("one")\nawait ask("two")\nawait ask("one", a, "more")\ntalk.reward(2)\nreturn 1.0'
    group = await streams(tmp_path / "mine.py", agent(body), Paper(["ab", "c", "de"]), reward=judged)
    first, second = group.span_rewards
    assert first[-1] == 1.0
    assert not (second == second).any()  # NaN
    assert [one.text for one in group.trajectories] == ["abde", "c"]


# ------------------------------------------------------------------------------------------------------ limits


@pytest.mark.parametrize(
    ("limits", "sampled"),
    [({"max_new_tokens": 5}, 5), ({"episode_tokens": 12}, 4), ({"max_turns": 2}, 4)],
)
async def test_a_conversation_that_is_full_says_so(limits: Mapping[str, int], sampled: int, tmp_path: Path) -> None:
    body = """
told, finishes = [], []
for _ in range(4):
    told += [{"role": "user", "content": "xxxx"}]
    (choice,) = (await client.chat.completions.create(model="any", messages=told)).choices
    told += [{"role": "assistant", "content": choice.message.content}]
    finishes.append(choice.finish_reason)
assert told[-1]["content"] == "" and finishes[-1] == "length" and finishes[0] == "stop", (told, finishes)
return 1.0
"""
    group = await streams(tmp_path / "mine.py", agent(body), Paper(["ab"] * 4), rollout=limits)
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why
    assert sum(one.new_tokens for one in group.trajectories) == sampled
    assert group.trajectories[-1].finish is Finish.LENGTH


async def test_each_conversation_has_the_room_of_one_whatever_others_take(tmp_path: Path) -> None:
    body = """
async def converse(text):
    a = await ask(text)
    b = await ask(text, a, "x")
    return await ask(text, a, "x", b, "x"), await ask(text, a, "y")
ends = await asyncio.gather(*map(converse, "abc"))
assert [(x["content"], y["content"]) for x, y in ends] == [("", "ab")] * 3, ends
return 1.0
"""
    group = await streams(tmp_path / "mine.py", agent(body), Paper(lambda shown: "ab"), rollout={"max_new_tokens": 4})
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why
    assert [one.new_tokens for one in group.trajectories] == [4, 4, 4, 2, 2, 2]


async def test_a_turn_may_have_a_limit_of_its_own(tmp_path: Path) -> None:
    body = """
for name in ("max_tokens", "max_completion_tokens"):
    (choice,) = (await client.chat.completions.create(
        model="any", messages=[{"role": "user", "content": "x"}], **{name: 2}
    )).choices
    assert (choice.message.content, choice.finish_reason) == ("ab", "length")
return 1.0
"""
    group = await streams(tmp_path / "mine.py", agent(body), Paper(["abcd", f"ab{CUT}"]))
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why


async def test_an_agent_that_asks_without_end_has_failed(tmp_path: Path) -> None:
    body = 'while True:\n    await ask("x")'
    group = await streams(tmp_path / "mine.py", agent(body), Paper(lambda shown: "a"), rollout={"max_turns": 2})
    why = group.verdicts[0].why
    assert (
        "mine.py, line 4, in play: the seat 'policy' is asked for turns behind the last of rollout.max_turns = 2" in why
    )


# --------------------------------------------------------------------------------------------------- bad input


async def test_requests_after_the_end_are_refused_and_the_episode_has_failed(tmp_path: Path) -> None:
    before = """
import asyncio, openai
seen, tasks = [], []

async def late(url):
    await asyncio.sleep(0.3)
    async with openai.AsyncOpenAI(base_url=url, api_key="-", max_retries=2) as client:
        try:
            await client.chat.completions.create(model="any", messages=[{"role": "user", "content": "x"}])
        except openai.PermissionDeniedError as refused:
            seen.append(refused.code)

async def play(task, talk):
    await talk.seat("first")("x")
    tasks.append(talk.url)
    if len(tasks) == 1:
        tasks.append(asyncio.ensure_future(late(talk.url)))
    else:
        while not seen:
            await asyncio.sleep(0.01)
        assert seen == ["episode_over"], seen
    return {"first": 1.0}
"""
    group = await streams(tmp_path / "mine.py", before, Paper(lambda shown: "a"), size=2)
    assert [verdict.outcome for verdict in group.verdicts] == [Outcome.ERROR, Outcome.CORRECT], group.verdicts[1].why
    assert "line 13, in play: the seat 'policy' was asked by its address after its episode had ended" in (
        group.verdicts[0].why
    )


async def test_nothing_is_behind_the_address_of_an_episode_that_was_judged_or_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, close = list[int](), Endpoint.close

    async def closing(self: Endpoint) -> None:
        left.append(len(self._routes))
        await close(self)

    monkeypatch.setattr(Endpoint, "close", closing)
    body = """
async def attempt(made, other):
    await client.with_options(base_url=other.url).chat.completions.create(
        model="any", messages=[{"role": "user", "content": "y"}]
    )
    await asyncio.sleep(SECONDS)
    return 1.0
await ask("x")
await talk.solve(task.made("y"), 1, "solver", attempt)
return 1.0
"""
    group = await streams(tmp_path / "a.py", agent(body.replace("SECONDS", "0")), Paper(lambda shown: "a"))
    assert [one.seat for one in group.trajectories] == ["policy", "solver"], group.verdicts[0].why
    limits = {"timeout_seconds": 2.0, "episode_seconds": 60.0}
    with pytest.raises(TimeoutError):
        await played(tmp_path / "b.py", agent(body.replace("SECONDS", "60")), Paper(lambda shown: "a"), rollout=limits)
    assert left == [0, 0]


async def test_what_is_being_sampled_when_the_episode_ends_is_given_up(tmp_path: Path) -> None:
    class Stuck(Paper):
        async def generate(self, *arguments: Any) -> Any:
            if self.said:
                await asyncio.Event().wait()
            return await super().generate(*arguments)

    body = 'await ask("x")\ntalk.left = asyncio.ensure_future(ask("y"))\nawait asyncio.sleep(0.2)\nreturn 1.0'
    group = await streams(tmp_path / "mine.py", agent(body), Stuck(["a"]))
    assert [one.text for one in group.trajectories] == ["a"]
    assert group.verdicts[0].score == 1.0


async def test_a_request_that_its_client_gives_up_is_ended_in_the_engine_and_leaves_nothing(tmp_path: Path) -> None:
    ended = []

    class Slow(Paper):
        async def generate(self, *arguments: Any) -> Any:
            if not self.said and not ended:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    ended.append(True)
                    raise
            return await super().generate(*arguments)

    body = """
quick = client.with_options(timeout=1.0)
try:
    await quick.chat.completions.create(model="any", messages=[{"role": "user", "content": "x"}])
except openai.APITimeoutError:
    await ask("x")
    return 1.0
"""
    engine = Slow(["a"])
    group = await streams(tmp_path / "mine.py", agent(body), engine)
    assert (ended, [one.text for one in group.trajectories]) == ([True], ["a"])


async def test_what_the_engine_raises_is_no_failure_of_the_agent(tmp_path: Path) -> None:
    class Dead(Paper):
        async def generate(self, *arguments: Any) -> Any:
            raise RuntimeError("the engine has ended")

    body = 'try:\n    await ask("x")\nexcept openai.InternalServerError:\n    pass\nreturn 1.0'
    with pytest.raises(RuntimeError, match="the engine has ended"):
        await played(tmp_path / "mine.py", agent(body), Dead([]))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("talk.url\nawait talk('x')", "line 12, in play: asks the seat 'policy', which an agent asks by its address"),
        ("await talk('x')\ntalk.url", "line 12, in play: takes the address of the seat 'policy', which has spoken"),
        ("await talk.agent(['true'])\nreturn 1.0", "line 4, in play: returned before a seat that is trained had"),
    ],
)  # fmt: skip
async def test_what_an_environment_may_not_do_with_an_address(body: str, why: str, tmp_path: Path) -> None:
    code = agent(body).replace(
        "async with openai.AsyncOpenAI(base_url=talk.url", "async with openai.AsyncOpenAI(base_url='http://x'"
    )
    group = await streams(tmp_path / "mine.py", code, Paper(lambda shown: "a"))
    assert why in group.verdicts[0].why


async def test_messages_that_the_template_refuses_are_a_bad_request(tmp_path: Path) -> None:
    body = """
try:
    await ask("one", "two")
except openai.BadRequestError as refused:
    assert refused.param == "messages" and "roles must alternate" in refused.message, refused
await ask("one")
return 1.0
"""
    group = await streams(tmp_path / "mine.py", agent(body), Paper(["a"], family("mistral")))
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why


async def test_a_huge_message_is_refused_and_the_client_reads_why(tmp_path: Path) -> None:
    body = """
try:
    await ask("x" * 20_000_000)
except openai.APIStatusError as refused:
    assert refused.status_code == 413 and "larger than any conversation" in refused.message, refused
await ask("one")
return 1.0
"""
    group = await streams(tmp_path / "mine.py", agent(body), Paper(["a"]))
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why


class Echo:
    """Says what it is asked."""

    most_tokens = 100

    async def answer(self, asked: Asked) -> Answer:
        return Answer(finish="stop", prompt_tokens=1, content=asked.messages[-1].content)


@asynccontextmanager
async def served(*answering: Echo) -> AsyncIterator[tuple[aiohttp.ClientSession, list[str]]]:
    """A client, and the address of each."""
    endpoint = Endpoint()
    try:
        async with aiohttp.ClientSession() as session:
            yield session, [endpoint.url(endpoint.open(one)) for one in answering]
    finally:
        await endpoint.close()


USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("row", "param", "why"),
    [
        ({}, "messages", "must be a list of messages"),
        ({"messages": []}, "messages", "must be a list of messages"),
        ({"messages": "x"}, "messages", "must be a list of messages"),
        ({"messages": ["x"]}, "messages", "messages[0] must have a role of"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages", "messages[0] must have a role of"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages", "messages[0] must have a role of"),
        ({"messages": [{"role": "user"}]}, "messages", "messages[0] has no content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages", "messages[0] has the content '5'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages",
         "messages[0] has a part 'image_url'; a policy reads text only"),
        ({"messages": [USER, {"role": "assistant", "content": "x"}]}, "messages", "must not end with the assistant's"),
        ({"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages", "answers no call"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{}]}, USER]}, "messages", "that names no function"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [
            {"id": "1", "function": {"name": "f", "arguments": "[1"}}]}, USER]}, "messages", "are no JSON object"),
        ({"messages": [USER], "n": 2}, "n", "must be 1"),
        ({"messages": [USER], "max_tokens": 0}, "max_tokens", "at least 1"),
        ({"messages": [USER], "max_tokens": True}, "max_tokens", "at least 1"),
        ({"messages": [USER], "max_completion_tokens": "9"}, "max_completion_tokens", "at least 1"),
        ({"messages": [USER], "stop": ["a", ""]}, "stop", "none of them empty"),
        ({"messages": [USER], "stop": ["a"] * 17}, "stop", "at most 16"),
        ({"messages": [USER], "response_format": {"type": "json_object"}}, "response_format", "must be text"),
        ({"messages": [USER], "response_format": "json"}, "response_format", "must be an object"),
        ({"messages": [USER], "tool_choice": "required"}, "tool_choice", "must be 'auto' or 'none'"),
        ({"messages": [USER], "tool_choice": {"type": "function"}}, "tool_choice", "must be 'auto' or 'none'"),
        ({"messages": [USER], "functions": [{}]}, "functions", "name functions in tools"),
        ({"messages": [USER], "guided_json": {}}, "guided_json", "must be left out"),
        ({"messages": [USER], "modalities": ["audio"]}, "modalities", "text only"),
        ({"messages": [USER], "tools": {"f": 1}}, "tools", "must be a list of functions"),
        ({"messages": [USER], "tools": [{"type": "function"}]}, "tools", "must be a list of functions"),
        ({"messages": [USER], "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 5}}}]},
         "tools", "f has parameters that are no JSON schema"),
        ({"messages": [USER], "stream_options": [1]}, "stream_options", "must be an object"),
    ],
)  # fmt: skip
async def test_a_request_that_cannot_be_followed_is_refused_with_its_field(
    row: Mapping[str, Any], param: str, why: str
) -> None:
    async with served(Echo()) as (session, (url,)), session.post(f"{url}/chat/completions", json=row) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
        assert why in error["message"]
        assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"", 400, "is not JSON"),
        (b"{", 400, "is not JSON"),
        (b"\xff\xfe", 400, "is not JSON"),
        (b"[" * 100_000, 413, "larger than any conversation"),
        (b"[" * 60_000, 400, "is not JSON"),
        (b"5", 400, "must be a JSON object"),
        (b'{"messages": "' + b"x" * 10_000_000 + b'"}', 413, "larger than any conversation"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 200, ""),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
async def test_a_body_that_is_no_request_is_refused(body: bytes, status: int, why: str) -> None:
    async with (
        served(Echo()) as (session, (url,)),
        session.post(f"{url}/chat/completions", data=BytesIO(body)) as answer,
    ):
        assert answer.status == status
        assert why in json.dumps(await answer.json())


async def test_other_paths_and_other_keys_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with served(Echo(), Echo()) as (session, (first, second)):
        for method, url, status in (
            ("POST", f"{first}/completions", 404),
            ("POST", f"{first}/responses", 404),
            ("GET", f"{first}/chat/completions", 405),
            ("POST", f"{first}/models", 405),
            ("GET", first, 404),
            ("GET", first.rsplit("/", 2)[0], 404),
            ("GET", f"{first.rsplit('/', 2)[0]}/{'0' * 32}/v1/models", 404),
        ):
            async with session.request(method, url, json={"messages": [USER]}) as answer:
                assert answer.status == status, url
                assert "POST chat/completions" in (await answer.json())["error"]["message"] or "/0" in url
        wrong = {"Authorization": f"Bearer {second.split('/')[3]}"}
        async with session.post(f"{first}/chat/completions", json={"messages": [USER]}, headers=wrong) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (401, "invalid_api_key")
    assert all(record.getMessage().endswith("This is said once") for record in caplog.records)
    assert len({record.getMessage().partition(":")[0] for record in caplog.records}) == 3


async def test_a_server_that_is_closed_answers_nobody() -> None:
    async with served(Echo()) as (session, (url,)):
        answer = await session.post(f"{url}/chat/completions", json={"messages": [USER]})
        assert answer.status == 200
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(f"{url}/chat/completions", json={"messages": [USER]})

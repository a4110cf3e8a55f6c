"""Tools of an agent's own: offered as the chat template shows them, called in its format, and the calls stay the tokens
that were sampled."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.agents import agent
from tests.environments import Paper, played, streams
from tests.tokenizers import TOOL_FORMS, family, letters

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # vLLM is loaded: seconds
SEARCH: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "looks it up",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    },
}
CALLS = {  # how each family of models writes a call, with blanks as no template would write them
    "hermes": '<tool_call>\n{"name":  "search", "arguments": {"text": "x"}}\n</tool_call><|im_end|>',
    "qwen3_coder": "<tool_call>\n<function=search>\n<parameter=text>\nx\n</parameter>\n</function>\n</tool_call>"
    "<|im_end|>",
    "llama": '{"name":  "search", "parameters": {"text": "x"}}<|eot|>',
    "mistral": '[TOOL_CALLS][{"name":  "search", "arguments": {"text": "x"}}]</s>',
}
USES = f"""
tools = [json.loads('''{json.dumps(SEARCH)}''')]
a = await ask("one", tools=tools)
assert [call["function"]["name"] for call in a["tool_calls"]] == ["search"], a
(call,) = a["tool_calls"]
assert json.loads(call["function"]["arguments"]) == {{"text": "x"}}, a
found = {{"role": "tool", "tool_call_id": call["id"], "content": "found"}}
b = await ask("one", a, found, tools=tools)
assert (b["content"], b["tool_calls"]) == ("so", None), b
await ask("one", a, found, b, "more", tools=tools)
return 1.0
"""


@pytest.mark.parametrize("name", TOOL_FORMS)
async def test_a_conversation_with_tools_is_one_stream_in_the_format_of_the_model(name: str, tmp_path: Path) -> None:
    engine = Paper([CALLS[name], "so", "c"], family(name, tools=True))
    group = await streams(tmp_path / "mine.py", agent(USES), engine)
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why
    (only,) = group.trajectories
    assert "looks it up" in engine.read(engine.shown[0])
    assert CALLS[name] in engine.read(only.tokens)
    assert engine.read(only.tokens[only.sampled]) == CALLS[name] + "soc"
    assert engine.read(engine.shown[1]).count("found") == 1


async def test_the_summary_counts_what_tools_say(tmp_path: Path) -> None:
    engine = Paper([CALLS["hermes"], "so", "c"], family("hermes", tools=True))
    found = (await played(tmp_path / "mine.py", agent(USES), engine)).summary.episodes
    assert found is not None
    assert (found.turns, found.tool_calls, found.user_tokens > 0, found.tool_tokens > 0) == (3, 1, True, True)


async def test_a_model_without_tools_is_told_of_them_in_words(tmp_path: Path) -> None:
    call = '{"name": "search", "arguments": {"text": "x"}}'
    for tokenizer in (family("mistral"), family("gemma"), letters()):
        engine = Paper([call, "so", "c"], tokenizer)
        group = await streams(tmp_path / "mine.py", agent(USES), engine)
        assert group.verdicts[0].score == 1.0, group.verdicts[0].why
        assert "looks it up" in engine.read(engine.shown[0])
        assert "found" in engine.read(engine.shown[1])
        assert len(group.trajectories) == 1


async def test_a_call_that_an_agent_writes_otherwise_is_the_same_call(tmp_path: Path) -> None:
    other = USES.replace("found = ", 'call["function"]["arguments"] = \'{ "text":"x" }\'\nfound = ')
    other = other.replace("found = ", 'call["id"] = "its own id"\nfound = ')
    for body in (USES, other):
        engine = Paper([CALLS["hermes"], "so", "c"], family("hermes", tools=True))
        group = await streams(tmp_path / "mine.py", agent(body), engine)
        assert len(group.trajectories) == 1, group.verdicts[0].why


async def test_calls_that_an_agent_tells_of_itself_are_shown_by_the_template(tmp_path: Path) -> None:
    call = {
        "id": "call_0123456789abcdef",
        "type": "function",
        "function": {"name": "search", "arguments": '{"text": "y"}'},
    }
    body = f"""
made = {{"role": "assistant", "content": None, "tool_calls": [{call!r}]}}
found = {{"role": "tool", "tool_call_id": {call["id"]!r}, "content": "found"}}
await ask("one", made, found, tools=[{SEARCH!r}])
return 1.0
"""
    for name in (*TOOL_FORMS, ""):
        engine = Paper(["a"], family(name, tools=True) if name else family("gemma"))
        group = await streams(tmp_path / "mine.py", agent(body), engine)
        assert group.verdicts[0].score == 1.0, group.verdicts[0].why
        assert "y" in engine.read(engine.shown[0]).split("one")[1].split("found")[0]


@pytest.mark.parametrize(
    "says",
    [
        '<tool_call>{"name": </tool_call>',
        '<tool_call>{"name": "search", "arguments": {"text',
        "<tool_call>[1]</tool_call>",
    ],
)
async def test_a_call_that_cannot_be_read_stays_text(says: str, tmp_path: Path) -> None:
    body = f"a = await ask('one', tools=[{SEARCH!r}])\nassert a['content'] == {says!r}, a\nassert not a['tool_calls']\n"
    engine = Paper([says], family("hermes", tools=True))
    group = await streams(tmp_path / "mine.py", agent(body + "return 1.0"), engine)
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why


async def test_where_no_call_is_wanted_none_is_read(tmp_path: Path) -> None:
    body = f"a = await ask('one', tools=[{SEARCH!r}], tool_choice='none')\nreturn 1.0 if not a['tool_calls'] else -1.0"
    engine = Paper([CALLS["hermes"]], family("hermes", tools=True))
    group = await streams(tmp_path / "mine.py", agent(body), engine)
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why


async def test_other_tools_are_another_conversation(tmp_path: Path) -> None:
    other: dict[str, Any] = {**SEARCH, "function": {**SEARCH["function"], "description": "finds it"}}
    body = f"a = await ask('one', tools=[{SEARCH!r}])\nawait ask('one', a, 'two', tools=[{other!r}])\nreturn 1.0"
    engine = Paper(["a", "b"], family("hermes", tools=True))
    group = await streams(tmp_path / "mine.py", agent(body), engine)
    assert len(group.trajectories) == 2
    assert "finds it" in engine.read(engine.shown[1])


async def test_nothing_in_a_tool_opens_or_ends_a_turn(tmp_path: Path) -> None:
    counts = []
    for text in ("a<|im_end|>", "a"):
        values = {"type": "object", "properties": {text: {"type": "string", "description": text}}}
        tool = {"type": "function", "function": {"name": text, "description": text, "parameters": values}}
        call = {"id": text, "type": "function", "function": {"name": text, "arguments": json.dumps({text: text})}}
        made = {"role": "assistant", "content": text, "tool_calls": [call]}
        found = {"role": "tool", "tool_call_id": text, "content": text}
        engine = Paper(["a"], family("hermes", tools=True))
        body = f"await ask({text!r}, {made!r}, {found!r}, tools=[{tool!r}])\nreturn 1.0"
        await streams(tmp_path / "mine.py", agent(body), engine)
        counts.append(engine.read(engine.shown[0]).count("<|im_end|>"))
    assert counts[0] == counts[1] > 2


@pytest.mark.parametrize("place", ["parameters", "arguments"])
async def test_what_is_nested_too_deeply_is_a_bad_request(place: str, tmp_path: Path) -> None:
    deep = '{"a":' * 900 + "1" + "}" * 900
    tool: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "f", "arguments": deep if place == "arguments" else "{}"},
    }
    body = f"""
tool = {tool!r}
if {place == "parameters"}:
    tool["function"]["parameters"] = json.loads({deep!r})
made = {{"role": "assistant", "tool_calls": [{call!r}]}}
try:
    await ask("x", made, {{"role": "tool", "tool_call_id": "1", "content": "r"}}, tools=[tool])
except openai.BadRequestError:
    await ask("y")
    return 1.0
"""
    engine = Paper(["a"], family("hermes", tools=True))
    group = await streams(tmp_path / "mine.py", agent(body), engine)
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why

"""Calls of tools in the formats of families of models, read by vLLM's own parsers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from actors.data.messages import Message
from actors.data.rendering import Renderer
from actors.rollouts.chat import CALLED, TOOL, Chat, Results
from actors.rollouts.offers import JSON, Offers
from actors.settings import DataSettings
from tests.environments import CUT, Paper, streams
from tests.tokenizers import FORMS, TOOL_FORMS, chatty, family

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # vLLM is loaded: seconds

PLAY = """
async def play(task, talk):
    async def add(a: int, b: int = 1) -> int:
        \"\"\"Adds two numbers.

        Args:
            a: the first
            b: the second
        \"\"\"
        return a + b

    talk.tools([add]{options})
    turn = await talk(task)
    while turn.calls:
        turn = await talk(await talk.run(turn.calls), role="tool")
    return 1.0
"""
ENDS = {"hermes": "<|im_end|>", "qwen3_coder": "<|im_end|>", "llama": "<|eot|>", "mistral": "</s>"}
every_family = pytest.mark.parametrize("name", TOOL_FORMS)


def called(name: str, *calls: dict[str, int], tool: str = "add") -> str:
    """Calls as a family writes them."""
    if name == "mistral":
        return f"[TOOL_CALLS] {json.dumps([{'name': tool, 'arguments': arguments} for arguments in calls])}"
    if name == "llama":
        return "; ".join(json.dumps({"name": tool, "parameters": arguments}) for arguments in calls)
    if name == "hermes":
        bodies = [json.dumps({"name": tool, "arguments": arguments}) for arguments in calls]
    else:
        bodies = [
            f"<function={tool}>\n"
            + "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
            + "</function>"
            for arguments in calls
        ]
    return "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies)


def results(name: str, *texts: str) -> str:
    """What a family's template shows behind a turn with calls, its end included."""
    end = ENDS[name]
    if name == "hermes":
        shown = "".join(f"\n<tool_response>\n{text}\n</tool_response>" for text in texts)
        return f"{end}\n<|im_start|>user{shown}{end}\n<|im_start|>assistant\n"
    if name == "qwen3_coder":
        shown = "".join(f"<|im_start|>user\n{text}{end}\n" for text in texts)
        return f"{end}\n{shown}<|im_start|>assistant\n"
    if name == "llama":
        shown = "".join(f"<|header|>ipython<|end_header|>\n\n{json.dumps(text)}{end}" for text in texts)
        return f"{end}{shown}<|header|>assistant<|end_header|>\n\n"
    numbered = enumerate(texts)
    shown = [json.dumps({"content": text, "call_id": f"call{number:05d}"}) for number, text in numbered]
    return end + "".join(f"[TOOL_RESULTS] {one}[/TOOL_RESULTS]" for one in shown)


async def answers(
    tmp_path: Path, name: str, *says: str, options: str = "", source: str = PLAY
) -> tuple[list[str], Paper]:
    """What stands behind each turn of the policy but the last; every trained token is one that it sampled."""
    engine = Paper([*says, f"It is so.{ENDS[name]}"], family(name, tools=True))
    group = await streams(tmp_path / "mine.py", source.replace("{options}", options), engine)
    (verdict,) = group.verdicts
    assert verdict.score == 1.0, verdict.why
    (only,) = group.trajectories
    assert engine.read(only.tokens[only.sampled]) == "".join(map(engine.read, engine.said))
    sizes = [len(shown) + len(said) for shown, said in zip(engine.shown, engine.said, strict=True)]
    return [engine.read(shown[size:]) for size, shown in zip(sizes, engine.shown[1:], strict=False)], engine


@every_family
def test_the_format_of_calls_is_found_in_the_chat_template(name: str) -> None:
    tokenizer = family(name, tools=True)
    assert Offers(Chat(DataSettings(), tokenizer), tokenizer).own == name


@pytest.mark.parametrize("name", FORMS)
def test_a_template_that_shows_no_tools_has_calls_in_json(name: str) -> None:
    tokenizer = family(name)
    chat = Chat(DataSettings(), tokenizer)
    assert not chat.shows_tools
    assert Offers(chat, tokenizer).own == JSON


def test_a_template_that_shows_tools_in_a_format_that_nobody_reads_has_calls_in_json() -> None:
    odd = (
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    )
    odd += "{% for c in m.tool_calls %}@{{ c.function.name }}!{% endfor %}<|im_end|>\n{% endfor %}"
    tokenizer = chatty(odd + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    chat = Chat(DataSettings(), tokenizer)
    assert chat.shows_tools
    assert Offers(chat, tokenizer).own == JSON


@every_family
async def test_tools_are_shown_as_the_template_shows_them(name: str, tmp_path: Path) -> None:
    _, engine = await answers(tmp_path, name)
    (begun,) = map(engine.read, engine.shown)
    assert '"Adds two numbers."' in begun
    tools = json.loads(begun[begun.index('{"type": "function"') : begun.rindex('"type": "object"}}}') + 19])
    assert tools["function"]["parameters"]["properties"]["b"] == {
        "default": 1,
        "description": "the second",
        "type": "integer",
    }


@every_family
async def test_a_result_stands_behind_the_call_as_the_template_puts_it(name: str, tmp_path: Path) -> None:
    end = ENDS[name]
    (behind,), _ = await answers(tmp_path, name, called(name, {"a": 2, "b": 3}) + end)
    assert end + behind == results(name, "5")


@every_family
async def test_the_results_of_several_calls_stand_together(name: str, tmp_path: Path) -> None:
    end = ENDS[name]
    (behind,), _ = await answers(tmp_path, name, called(name, {"a": 2, "b": 3}, {"a": 4, "b": 4}) + end)
    assert end + behind == results(name, "5", "8")


@every_family
async def test_a_default_need_not_be_given(name: str, tmp_path: Path) -> None:
    (behind,), _ = await answers(tmp_path, name, called(name, {"a": 2}) + ENDS[name])
    assert ENDS[name] + behind == results(name, "3")


@every_family
async def test_calls_of_later_turns_are_read_and_their_ids_go_on(name: str, tmp_path: Path) -> None:
    turn = called(name, {"a": 2, "b": 3}) + ENDS[name]
    behind, _ = await answers(tmp_path, name, turn, turn)
    assert ENDS[name] + behind[1] == results(name, "5").replace("call00000", "call00001")


@every_family
async def test_a_call_of_no_tool_is_told_what_there_is(name: str, tmp_path: Path) -> None:
    (behind,), _ = await answers(tmp_path, name, called(name, {"a": 2}, tool="sub") + ENDS[name])
    assert "Error: there is no tool 'sub'; there are add" in behind


@every_family
async def test_a_call_with_other_arguments_is_told_which(name: str, tmp_path: Path) -> None:
    (behind,), _ = await answers(tmp_path, name, called(name, {"a": 2, "c": 3}) + ENDS[name])
    assert "Error: wrong arguments for add: it takes no 'c', only a, b" in behind


@pytest.mark.parametrize("name", ["hermes", "llama", "mistral"])
async def test_a_call_whose_json_is_broken_is_told_so(name: str, tmp_path: Path) -> None:
    (behind,), _ = await answers(tmp_path, name, called(name, {"a": 2}).replace(": 2", ": 2,,") + ENDS[name])
    assert "Error: the call cannot be read: its JSON cannot be read: " in behind


@every_family
async def test_a_call_that_was_cut_is_told_so_and_ended(name: str, tmp_path: Path) -> None:
    cut = called(name, {"a": 2, "b": 3})[: -45 if name == "qwen3_coder" else -16 if name == "hermes" else -5]
    (behind,), _ = await answers(tmp_path, name, cut + CUT)
    assert behind.startswith(ENDS[name])
    assert "Error: the call cannot be read: the turn was cut before its end" in behind


@every_family
async def test_what_is_only_thought_of_is_no_call(name: str, tmp_path: Path) -> None:
    thought = f"<think>I could {called(name, {'a': 1})}</think>"
    behind, _ = await answers(tmp_path, name, f"{thought}{called(name, {'a': 2})}{ENDS[name]}")
    assert ENDS[name] + behind[0] == results(name, "3")


@every_family
async def test_content_is_what_was_said_beside_the_calls(name: str, tmp_path: Path) -> None:
    said = "" if name == "llama" else "I add."  # a call of Llama's is the whole turn
    source = PLAY.replace("    while", f"    assert turn.content.strip() == {said!r}, turn\n    while")
    await answers(tmp_path, name, f"{said}\n{called(name, {'a': 2})}{ENDS[name]}", source=source)


@pytest.mark.parametrize("name", ["hermes", "qwen3_coder", "mistral"])
async def test_braces_of_an_answer_are_no_call(name: str, tmp_path: Path) -> None:
    behind, _ = await answers(tmp_path, name, options="")
    engine = Paper([f'\\boxed{{5}} and {{"name": "x"}}{ENDS[name]}'], family(name, tools=True))
    group = await streams(tmp_path / "mine.py", PLAY.replace("{options}", ""), engine)
    assert behind == []
    assert group.verdicts[0].score == 1.0


async def test_a_llama_that_answers_with_braces_calls_nothing(tmp_path: Path) -> None:
    engine = Paper(["The set is {5} or \\boxed{5}.<|eot|>"], family("llama", tools=True))
    group = await streams(tmp_path / "mine.py", PLAY.replace("{options}", ""), engine)
    assert group.verdicts[0].score == 1.0


async def test_the_mark_of_a_python_call_of_llama_is_read_through(tmp_path: Path) -> None:
    (behind,), _ = await answers(tmp_path, "llama", "<|python_tag|>" + called("llama", {"a": 2}) + "<|eot|>")
    assert "<|eot|>" + behind == results("llama", "3")


@every_family
async def test_calls_can_be_asked_for_in_json_whatever_the_template(name: str, tmp_path: Path) -> None:
    call = '{"name": "add", "arguments": {"a": 2}}'
    (behind,), engine = await answers(tmp_path, name, call + ENDS[name], options=", form='json'")
    assert ENDS[name] + behind == results(name, "3")
    assert "You can use tools." in engine.read(engine.shown[0])


@pytest.mark.parametrize("name", FORMS)
async def test_where_a_template_knows_no_tools_they_are_told_of_in_words(name: str, tmp_path: Path) -> None:
    engine = Paper(['{"name": "add", "arguments": {"a": 2}}', "3"], family(name))
    group = await streams(tmp_path / "mine.py", PLAY.replace("{options}", ""), engine)
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why
    begun, second = map(engine.read, engine.shown)
    assert "You can use tools." in begun
    assert ("add: 3" if Chat(DataSettings(), engine.tokenizer).results is Results.BY_USER else "3") in second


STRICT = (
    "{% for m in messages %}{% if m.role == 'tool' %}"
    "{% if not messages[loop.index0 - 1].tool_calls %}{{ raise_exception('a result needs a call') }}{% endif %}"
    "<|im_start|>tool\n{{ m.name }}={{ m.content }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls %}<tool_call>"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>{% endfor %}'
    "<|im_end|>\n{% endif %}{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


async def test_a_template_that_wants_calls_told_apart_shows_results_behind_them(tmp_path: Path) -> None:
    tokenizer = chatty(STRICT)
    assert Chat(DataSettings(), tokenizer).results is Results.BEHIND_CALLS
    engine = Paper([called("hermes", {"a": 2}) + "<|im_end|>", "3<|im_end|>"], tokenizer)
    group = await streams(tmp_path / "mine.py", PLAY.replace("{options}", ""), engine)
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why
    second = engine.read(engine.shown[1])
    assert second.endswith("</tool_call><|im_end|>\n<|im_start|>tool\nadd=3<|im_end|>\n<|im_start|>assistant\n")


# Leaves thoughts of turns before the last question out, and has a control token of its own for calls.
FORGETS = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content if loop.index0 > ns.last else m.content.split('</think>')[-1] }}{% for c in m.tool_calls %}"
    '<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
AGAIN = """
async def play(task, talk):
    async def add(a: int) -> int:
        "Adds one."
        return a + 1

    talk.tools([add])
    await talk.use(task)
    await talk("And now?")
    return 1.0
"""


async def test_in_a_new_stream_past_calls_stand_as_the_template_shows_them(tmp_path: Path) -> None:
    tokenizer = chatty(FORGETS)
    tokenizer.add_tokens(["<tool_call>"], special_tokens=True)
    call = "<think>hm</think>" + called("hermes", {"a": 2}).replace("\n", "") + "<|im_end|>"
    engine = Paper([call, "<think>so</think>3<|im_end|>", "4<|im_end|>"], tokenizer)
    group = await streams(tmp_path / "mine.py", AGAIN, engine)
    assert group.verdicts[0].score == 1.0, group.verdicts[0].why
    assert [one.continues for one in group.trajectories] == [False, True]
    first, second = (engine.read(one.tokens) for one in group.trajectories)
    assert "<think>hm</think><tool_call>" in first
    assert '<|im_start|>assistant\n<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call><|im_end|>\n' in second
    assert "<think>" not in second


@every_family
async def test_the_stream_is_what_the_template_shows_of_the_whole_conversation(name: str, tmp_path: Path) -> None:
    """Where the policy writes its call as the template would."""
    tokenizer, end = family(name, tools=True), ENDS[name]
    call = replace(CALLED, name="add", arguments={"a": 2})
    asked, made = Message("user", "two?"), Message("assistant", "", calls=(call,))
    shows = Renderer(DataSettings(), tokenizer).templated
    whole = shows([asked, made, Message(TOOL, "3", result_of=call)])
    turn = whole.removeprefix(shows([asked])).partition(end)[0]
    source = PLAY.replace("await talk(task)", 'await talk("two?")')
    _, engine = await answers(tmp_path, name, turn + end, source=source)
    tools = len(engine.read(engine.shown[0])) - len(shows([asked]))
    last = engine.read(engine.shown[-1])
    assert last[tools:].endswith(whole[len(shows([asked])) :])
    assert last.startswith(engine.read(engine.shown[0]) + turn + end)

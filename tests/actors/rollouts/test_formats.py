"""Tools in a conversation: offered, called, run and told of, in the formats of families of models."""

from pathlib import Path

import pytest

from actors.rollouts.chat import Chat
from actors.rollouts.offers import JSON, Offers
from actors.settings import DataSettings
from tests.environments import Paper, streams
from tests.tokenizers import FORMS, TOOL_FORMS, family

ADD = """
def add(a: int, b: int) -> int:
    \"\"\"Adds two numbers.

    Args:
        a: the first
        b: the second
    \"\"\"
    return a + b


async def play(task, talk):
    talk.tools([add])
    turn = await talk.use(task)
    return {"policy": 1.0 if turn.text.startswith("It is 5") else -1.0}
"""
# How a call of add(2, 3) is written, and the end of its turn.
CALLS = {
    "hermes": ('<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>', "<|im_end|>"),
    "qwen3_coder": (
        "<tool_call>\n<function=add>\n<parameter=a>\n2\n</parameter>\n<parameter=b>\n3\n</parameter>\n</function>\n"
        "</tool_call>",
        "<|im_end|>",
    ),
    "llama": ('{"name": "add", "parameters": {"a": 2, "b": 3}}', "<|eot|>"),
    "mistral": ('[TOOL_CALLS] [{"name": "add", "arguments": {"a": 2, "b": 3}}]', "</s>"),
}
RESULTS = {
    "hermes": "<|im_end|>\n<|im_start|>user\n<tool_response>\n5\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
    "qwen3_coder": "<|im_end|>\n<|im_start|>user\n5<|im_end|>\n<|im_start|>assistant\n",
    "llama": '<|eot|><|header|>ipython<|end_header|>\n\n"5"<|eot|><|header|>assistant<|end_header|>\n\n',
    "mistral": '</s>[TOOL_RESULTS] {"content": "5", "call_id": "call00000"}[/TOOL_RESULTS]',
}
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # vLLM is loaded: seconds
every_family = pytest.mark.parametrize("name", TOOL_FORMS)


@every_family
def test_the_format_of_calls_is_found_in_the_chat_template(name: str) -> None:
    tokenizer = family(name, tools=True)
    assert Offers(Chat(DataSettings(), tokenizer), tokenizer).own == name


@pytest.mark.parametrize("name", FORMS)
def test_a_template_that_shows_no_tools_has_calls_in_json(name: str) -> None:
    tokenizer = family(name)
    assert Offers(Chat(DataSettings(), tokenizer), tokenizer).own == JSON


@every_family
async def test_a_policy_calls_a_tool_and_reads_what_it_gives(name: str, tmp_path: Path) -> None:
    call, end = CALLS[name]
    engine = Paper([f"{call}{end}", f"It is 5{end}"], family(name, tools=True))
    group = await streams(tmp_path / "mine.py", ADD, engine)
    (verdict,) = group.verdicts
    assert (verdict.score, verdict.why) == (1.0, "the score of the environment")
    assert "Adds two numbers." in engine.read(engine.shown[0])
    (only,) = group.trajectories
    assert engine.read(only.tokens[only.sampled]) == f"{call}{end}It is 5{end}"
    between = engine.shown[1][len(engine.shown[0]) + len(engine.said[0]) :]
    assert end + engine.read(between) == RESULTS[name]

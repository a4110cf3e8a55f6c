"""Conversations to imitate: their streams are those of episodes in which the same is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from actors.data.messages import Message
from actors.data.reading import WorkedRow, read_worked
from actors.data.rendering import Renderer
from actors.errors import DataError
from actors.rollouts.worked import WorkedRenderer
from actors.settings import DataSettings
from tests.environments import Paper, streams
from tests.tables import each
from tests.tokenizers import FORMS, family, letters

SAID = ("one", "two", "three")
ENDS = {"qwen": "<|im_end|>", "llama": "<|eot|>", "mistral": "</s>", "gemma": "<end_of_turn>", "phi": "<|end|>"}
PLAY = """
async def play(task, talk):
    for text in ("one", "two", "three"):
        await talk(text)
    return 1.0
"""


def row(turns: tuple[str, ...], role: str = "user") -> WorkedRow:
    """A conversation in which these are the policy's turns."""
    said = [Message("assistant", turns[0])]
    for other, turn in zip(SAID[1:], turns[1:], strict=True):
        said += [Message(role, other), Message("assistant", turn)]
    return WorkedRow(place="a.jsonl:1", prompt=SAID[0], response=tuple(said))


async def same_as_in_episodes(tokenizer: Any, turns: tuple[str, ...], end: str, file: Path) -> int:
    """Compares the streams of a conversation with those of an episode; gives how many there are."""
    group = await streams(file, PLAY, Paper([turn + end for turn in turns], tokenizer))
    found = WorkedRenderer(DataSettings(), tokenizer).streams([row(turns)])
    assert len(found) == len(group.trajectories)
    for stream, trajectory in zip(found, group.trajectories, strict=True):
        assert stream.tokens.tolist() == trajectory.tokens.tolist()
        assert stream.trained.tolist() == trajectory.sampled.tolist()
    return len(found)


@pytest.mark.parametrize("name", FORMS)
async def test_what_is_imitated_is_the_stream_of_an_episode(name: str, tmp_path: Path) -> None:
    tokenizer, end = family(name), ENDS[name]
    assert await same_as_in_episodes(tokenizer, ("a", "b", "c"), end, tmp_path / "mine.py") == 1


async def test_a_conversation_whose_thoughts_are_forgotten_is_imitated_in_several_streams(tmp_path: Path) -> None:
    turns = tuple(f"<think>hm {number}</think>{number}" for number in range(3))
    assert await same_as_in_episodes(family("qwen"), turns, "<|im_end|>", tmp_path / "mine.py") == 3


async def test_without_a_chat_template_turns_end_with_the_end_of_text(tmp_path: Path) -> None:
    assert await same_as_in_episodes(letters(), ("a", "b", "c"), "</s>", tmp_path / "mine.py") == 1


def test_single_answers_and_conversations_stand_in_one_file() -> None:
    tokenizer = family("phi")
    single = WorkedRow(place="a.jsonl:2", prompt="one", response="a")
    found = WorkedRenderer(DataSettings(), tokenizer).streams([single, row(("b", "c", "d")), single])
    said = [tokenizer.decode(stream.tokens[stream.trained]) for stream in found]
    assert said == ["a</s>", "b<|end|>c<|end|>d<|end|>", "a</s>"]


def test_a_role_that_the_template_refuses_is_found_before_the_run() -> None:
    worked = WorkedRenderer(DataSettings(), family("mistral"))
    assert worked.fault(row(("a", "b", "c"))) == ""
    assert "the chat template refuses the messages (user, assistant, tool)" in worked.fault(
        row(("a", "b", "c"), "tool")
    )


def test_a_role_that_the_template_leaves_out_is_found_and_other_names_of_tools_are_theirs() -> None:
    worked = WorkedRenderer(DataSettings(), family("hermes", tools=True))
    assert "leaves out the system message" in worked.fault(row(("a", "b", "c"), "system"))
    (named,) = worked.streams([row(("a", "b", "c"), "tool")])
    tokenizer = family("hermes", tools=True)
    tokenizer.chat_template = tokenizer.chat_template.replace("m.role != 'system'", "m.role in ['user', 'assistant']")
    worked = WorkedRenderer(DataSettings(), tokenizer)
    assert "leaves out the critic message" in worked.fault(row(("a", "b", "c"), "critic"))
    assert worked.fault(row(("a", "b", "c"), "observation")) == ""
    (found,) = worked.streams([row(("a", "b", "c"), "observation")])
    assert found.tokens.tolist() == named.tokens.tolist()


def read(folder: Path, response_column: str, **cells: Any) -> WorkedRow:
    file = folder / "a.jsonl"
    file.write_text(json.dumps(cells))
    (found,) = read_worked(str(file), "prompt", response_column)
    return found


def messages(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": f"{role} {number}"} for number, role in enumerate(roles)]


def test_a_conversation_stands_behind_its_prompt_or_in_one_column_with_it(tmp_path: Path) -> None:
    behind = read(tmp_path, "response", prompt="1+1", response=messages("assistant", "tool", "assistant"))
    assert behind.prompt == "1+1"
    assert behind.turns == ["assistant 0", "assistant 2"]
    whole = read(tmp_path, "prompt", prompt=messages("system", "user", "assistant", "user", "assistant"))
    assert whole.prompt == (Message("system", "system 0"), Message("user", "user 1"))
    assert whole.turns == ["assistant 2", "assistant 4"]
    assert whole.response[1] == Message("user", "user 3")


CALL = {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}


@each(
    ("conversation", "problem"),
    [
        (messages("user"), "a conversation without an answer"),
        (messages("assistant", "user"), "a conversation without a question"),
        (messages("user", "assistant", "assistant"), "message 2 of these is the assistant's"),
        (messages("user", "assistant", "user", "tool", "assistant"), "message 3 of these is the tool's"),
        (messages("user", "assistant", "system", "assistant"), "message 2 of these is the system's"),
        (messages("user", "assistant", "user"), "a conversation that ends with the user's message"),
        ([*messages("user"), CALL], "a message 2 with tool_calls: write the calls into its content"),
    ],
)
def test_messages_that_do_not_take_turns_are_named(
    tmp_path_factory: Any, conversation: list[dict[str, Any]], problem: str
) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1 (has in column 'prompt'|holds)") as found:
        read(tmp_path_factory.mktemp("rows"), "prompt", prompt=conversation)
    assert problem in str(found.value)


def test_a_rows_own_system_message_stands_in_front_of_its_worked_answer(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"say": "Be brief.", "q": "1+", "r": "1", "response": "2"}\n{"q": "1", "response": "1"}\n')
    rows = read_worked(str(file), ("q", "r"), "response", "say")
    assert [(row.prompt, row.system) for row in rows] == [("1+\n\n1", "Be brief."), ("1", "")]
    tokenizer, data = family("phi"), DataSettings(system="Help.", system_column="say")
    worked = WorkedRenderer(data, tokenizer)
    for row, system in zip(rows, ("Be brief.", "Help."), strict=True):
        (stream,) = worked.streams([row])
        asked = Renderer(data, tokenizer).render(row.prompt, row.system)
        assert asked.startswith(f"<|system|>\n{system}<|end|>")
        assert tokenizer.decode(stream.tokens[~stream.trained]) == asked
    assert "no chat template is in use" in WorkedRenderer(DataSettings(), letters()).fault(rows[0])


def test_worked_answers_without_the_system_messages_of_the_prompts_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "1", "response": "1"}')
    with pytest.raises(
        DataError, match=r"no row of .*a\.jsonl has a system message in column 'say' \(data\.system_col"
    ):
        read_worked(str(file), "prompt", "response", "say")
    file.write_text(json.dumps({"prompt": messages("system", "user", "assistant")}))
    assert len(read_worked(str(file), "prompt", "prompt", "say")) == 1  # they are in the conversations

"""Conversations in the chat templates of five families of models: the traps of streams of several turns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.data.messages import Message
from actors.data.rendering import Renderer
from actors.errors import DataError
from actors.rollouts.chat import Chat
from actors.settings import DataSettings
from actors.types import Finish, Group
from rewards import Outcome
from tests.environments import CUT, Paper, streams
from tests.tokenizers import FORMS, chatty, family

TURNS = """
async def play(task, talk):
    for text in ("one", "two", "three"):
        await talk(text)
    return 1.0
"""
ENDS = {"qwen": "<|im_end|>", "llama": "<|eot|>", "mistral": "</s>", "gemma": "<end_of_turn>", "phi": "<|end|>"}
every_family = pytest.mark.parametrize("name", FORMS)


def rendered(tokenizer: Any, *said: str, role: str = "user") -> str:
    """What the template shows of a conversation: the first is a user's, then policy and role take turns."""
    roles = ["user", *(("assistant", role) * len(said))]
    messages = [Message(who, text) for who, text in zip(roles, said, strict=False)]
    return Renderer(DataSettings(), tokenizer).templated(messages)


def text_of(group: Group, tokenizer: Any) -> str:
    (only,) = group.trajectories
    return str(tokenizer.decode(only.tokens.tolist(), skip_special_tokens=False))


@every_family
async def test_a_stream_is_what_the_template_shows_of_the_whole_conversation(name: str, tmp_path: Path) -> None:
    tokenizer, end = family(name), ENDS[name]
    engine = Paper([f"a{end}", f"b{end}", f"c{end}"], tokenizer)
    group = await streams(tmp_path / "mine.py", TURNS, engine)
    lead = " " if name == "mistral" else ""  # its template writes a blank before each turn
    whole = rendered(tokenizer, "one", "a", "two", "b", "three").replace(f"{lead}a", "a").replace(f"{lead}b", "b")
    assert text_of(group, tokenizer) == whole + f"c{end}"


@every_family
async def test_what_is_said_is_tokenized_once_and_what_was_sampled_never(name: str, tmp_path: Path) -> None:
    """Decoding and tokenizing again is no way back: here the policy says two letters where one token would do."""
    tokenizer = family(name)
    tokenizer.add_tokens(["ab"])
    (ab,), a, b = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("ab", "a", "b"))

    class Apart(Paper):
        async def generate(self, tokens: Any, sampling: Any, seed: int) -> Any:
            (completion,) = await super().generate(tokens, sampling, seed)
            self.said[-1] = [*a, *b]
            ids = np.array(self.said[-1], np.int32)
            odd = {"tokens": ids, "logprobs": np.zeros(2, np.float32), "versions": np.zeros(2, np.int32)}
            return [type(completion)(**odd, finish=Finish.STOP, shown=list(tokens))]

    engine = Apart(["ab"] * 3, tokenizer)
    group = await streams(tmp_path / "mine.py", TURNS, engine)
    (only,) = group.trajectories
    assert ab not in only.tokens
    assert only.tokens[only.sampled].tolist() == [*a, *b] * 3


@every_family
async def test_history_goes_on_from_its_beginning_at_the_third_turn_and_after(name: str, tmp_path: Path) -> None:
    engine = Paper(["a", "b", "c"], family(name))
    await streams(tmp_path / "mine.py", TURNS, engine)
    for before, said, after in zip(engine.shown, engine.said, engine.shown[1:], strict=False):
        assert after[: len(before) + len(said)] == before + said


@pytest.mark.parametrize(("name", "behind"), [("qwen", "\n"), ("gemma", "\n"), ("phi", "\n"), ("llama", "<|header|>")])
async def test_the_separator_behind_a_turns_end_is_there_and_not_trained_on(
    name: str, behind: str, tmp_path: Path
) -> None:
    tokenizer, end = family(name), ENDS[name]
    group = await streams(tmp_path / "mine.py", TURNS, Paper([f"a{end}", "b", "c"], tokenizer))
    (only,) = group.trajectories
    last = int(np.flatnonzero(np.diff(only.sampled.astype(int)) == -1)[0])  # the end that the policy sampled
    assert tokenizer.decode(only.tokens[last : last + 1]) == end
    assert tokenizer.decode(only.tokens[last + 1 : last + 2]) == behind
    assert not only.sampled[last + 1]


@every_family
async def test_a_turn_that_was_cut_is_ended_and_the_end_is_not_trained_on(name: str, tmp_path: Path) -> None:
    tokenizer, end = family(name), ENDS[name]
    group = await streams(tmp_path / "mine.py", TURNS, Paper([f"a{CUT}", f"b{end}", f"c{end}"], tokenizer))
    (only,) = group.trajectories
    ends = only.tokens == tokenizer.convert_tokens_to_ids(end)
    assert np.count_nonzero(only.sampled[ends]) == 2
    assert "a" + end in text_of(group, tokenizer)
    assert np.count_nonzero(only.sampled) == 5


@every_family
async def test_the_end_of_a_turn_ends_sampling(name: str, tmp_path: Path) -> None:
    """Also where it is not the end of text, as Gemma's and Phi's."""
    engine = Paper(["a", "b", "c"], family(name))
    await streams(tmp_path / "mine.py", TURNS, engine)
    assert all(engine.tokenizer.convert_tokens_to_ids(ENDS[name]) in asked.stop_token_ids for asked in engine.asked)


async def test_another_end_of_text_that_the_policy_sampled_stays_before_the_turns_end(tmp_path: Path) -> None:
    tokenizer = family("gemma")
    group = await streams(tmp_path / "mine.py", TURNS, Paper(["a</s>", "b", "c"], tokenizer))
    assert "a</s><end_of_turn>\n<start_of_turn>user\ntwo" in text_of(group, tokenizer)
    assert np.count_nonzero(group.trajectories[0].sampled) == 4


@every_family
async def test_control_tokens_that_do_not_show_in_the_text_are_counted(name: str, tmp_path: Path) -> None:
    end = ENDS[name]
    group = await streams(tmp_path / "mine.py", TURNS, Paper([f"a{end}", f"b{end}", end], family(name)))
    (only,) = group.trajectories
    assert only.text == "ab"
    assert only.new_tokens == 5


TOOLS = """
async def play(task, talk):
    await talk("one")
    await talk("the tool says two", role="tool")
    await talk("three")
    return 1.0
"""


@pytest.mark.parametrize("name", ["qwen", "llama", "gemma", "phi"])
async def test_nothing_that_a_tool_says_is_trained_on(name: str, tmp_path: Path) -> None:
    engine = Paper(["call(2)", "b", "c"], family(name))
    group = await streams(tmp_path / "mine.py", TOOLS, engine)
    (only,) = group.trajectories
    assert engine.read(only.tokens[only.sampled]) == "call(2)bc"
    assert not only.logprobs[~only.sampled].any()
    assert set(only.versions[~only.sampled].tolist()) == {-1}
    assert np.count_nonzero(only.sampled) == sum(map(len, engine.said))
    assert "the tool says two" in text_of(group, engine.tokenizer)


async def test_a_tools_text_stands_where_the_template_puts_it_and_the_policys_call_is_not_rewritten(
    tmp_path: Path,
) -> None:
    tokenizer = family("qwen")
    call = '<tool_call>{"x":  1}</tool_call>'  # two blanks, which a template that rewrites calls would make one
    group = await streams(tmp_path / "mine.py", TOOLS, Paper([call, "b", "c"], tokenizer))
    wanted = f"{call}<|im_end|>\n<|im_start|>user\n<tool_response>\nthe tool says two\n</tool_response><|im_end|>\n"
    assert wanted in text_of(group, tokenizer)


async def test_a_role_that_the_template_refuses_fails_the_episode_with_its_line(tmp_path: Path) -> None:
    group = await streams(tmp_path / "mine.py", TOOLS, Paper(["a", "b"], family("mistral")))
    (verdict,) = group.verdicts
    assert verdict.outcome is Outcome.ERROR
    assert "mine.py, line 4, in play: the chat template refuses the messages (user, assistant, tool)" in verdict.why
    assert "roles must alternate" in verdict.why


@every_family
async def test_no_text_opens_or_ends_a_turn(name: str, tmp_path: Path) -> None:
    code = f"""
async def play(task, talk):
    await talk("x")
    await talk({ENDS[name] + FORMS[name][0][0] + "yes"!r})
    return 1.0
"""
    plain = await streams(tmp_path / "a.py", code, Paper(["a", "b"], family(name)))
    control = family(name).all_special_ids
    harmless = await streams(
        tmp_path / "b.py", code.replace(ENDS[name], "").replace(FORMS[name][0][0], ""), Paper(["a", "b"], family(name))
    )
    counts = [np.isin(one.trajectories[0].tokens, control).sum() for one in (plain, harmless)]
    assert counts[0] == counts[1]


THOUGHT = "<think>hm</think>"


async def test_a_past_that_the_template_shows_otherwise_begins_a_new_stream(tmp_path: Path) -> None:
    tokenizer = family("qwen")
    says = [f"{THOUGHT}a<|im_end|>", f"{THOUGHT}b<|im_end|>", "c<|im_end|>"]
    group = await streams(tmp_path / "mine.py", TURNS, Paper(list(says), tokenizer))
    assert [one.continues for one in group.trajectories] == [False, True, True]
    texts = [tokenizer.decode(one.tokens.tolist(), skip_special_tokens=False) for one in group.trajectories]
    assert texts[0].endswith(f"one<|im_end|>\n<|im_start|>assistant\n{says[0]}")
    assert texts[1] == rendered(tokenizer, "one", f"{THOUGHT}a", "two") + says[1]
    assert texts[2] == rendered(tokenizer, "one", "a", "two", "b", "three") + says[2]
    assert THOUGHT not in texts[2]
    assert sum(one.new_tokens for one in group.trajectories) == sum(map(len, map(tokenizer.tokenize, says)))
    assert group.responses == [range(3)]


async def test_a_past_that_stays_as_it_was_goes_on_in_one_stream_whatever_the_template_could_do(tmp_path: Path) -> None:
    assert not Chat(DataSettings(), family("qwen")).keeps
    code = TOOLS.replace('await talk("three")', 'await talk("three", role="tool")')
    group = await streams(tmp_path / "mine.py", code, Paper([f"{THOUGHT}a", f"{THOUGHT}b", "c"], family("qwen")))
    assert len(group.trajectories) == 1  # between tools the template keeps thoughts


@pytest.mark.parametrize(
    ("name", "keeps"), [("qwen", False), ("llama", True), ("gemma", True), ("phi", True), ("mistral", True)]
)
def test_what_a_template_does_with_the_past_is_found_when_it_is_read(name: str, keeps: bool) -> None:
    assert Chat(DataSettings(), family(name)).keeps is keeps


async def test_a_generation_prompt_that_leaves_the_past_again_begins_new_streams(tmp_path: Path) -> None:
    """As where thinking is switched off: the empty thought that opens a turn is in no past turn."""
    tokenizer, data = chatty(), DataSettings(chat_arguments={"enable_thinking": False})
    group = await streams(tmp_path / "mine.py", TURNS, Paper(["a", "b", "c"], tokenizer), data=data)
    assert len(group.trajectories) == 3
    last = tokenizer.decode(group.trajectories[2].tokens.tolist(), skip_special_tokens=False)
    assert last.count("<think></think>") == 1


async def test_a_system_message_that_the_template_moves_stays_where_the_stream_has_it(tmp_path: Path) -> None:
    tokenizer, data = family("mistral"), DataSettings(system="be brief")
    group = await streams(tmp_path / "mine.py", TURNS, Paper(["a</s>", "b</s>", "c</s>"], tokenizer), data=data)
    assert text_of(group, tokenizer) == (
        "<s>[INST] be brief\n\none[/INST]a</s>[INST] two[/INST]b</s>[INST] three[/INST]c</s>"
    )


async def test_a_day_that_the_template_writes_is_that_of_the_beginning(tmp_path: Path) -> None:
    tokenizer = family("llama")

    def says(shown: str) -> str:
        tokenizer.chat_template = tokenizer.chat_template.replace("'monday'", "'tuesday'")  # midnight
        return "a<|eot|>"

    group = await streams(tmp_path / "mine.py", TURNS, Paper(says, tokenizer))
    assert text_of(group, tokenizer).count("Today: monday") == 1
    assert "tuesday" not in text_of(group, tokenizer)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (
            "{{ messages[0].content }}{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}",
            "one turn",
        ),
        ("{{ messages[0].content }}", "leaves out what the assistant says"),
        ("{% for m in messages[:2] %}{{ m.content }}{% endfor %}", "leaves out what the user says behind a turn"),
    ],
)
def test_a_template_without_a_second_turn_is_refused_with_what_to_do(template: str, why: str) -> None:
    with pytest.raises(DataError, match=rf"(?s){why}.*set data\.chat_template"):
        Chat(DataSettings(), chatty(template))


async def test_without_a_template_nothing_stands_around_a_text(tmp_path: Path) -> None:
    engine = Paper(["a", "b", "c"])
    group = await streams(tmp_path / "mine.py", TURNS, engine)
    assert engine.read(group.trajectories[0].tokens) == "oneatwobthreec"
    seat = TURNS.replace("for text", 'talk = talk.seat("x", system="be brief")\n    for text')
    group = await streams(tmp_path / "other.py", seat, Paper(["a", "b", "c"]))
    assert "no chat template is in use" in group.verdicts[0].why


async def test_what_is_added_does_not_grow_with_the_conversation(tmp_path: Path) -> None:
    """Nothing is tokenized again: the tokenizer sees as many characters at the last turn as at the first."""

    class Counting:
        def __init__(self, inner: Any) -> None:
            self.inner, self.seen = inner, list[int]()

        def __call__(self, text: Any, **more: Any) -> Any:
            self.seen.append(len(text) if isinstance(text, str) else sum(map(len, text)))
            return self.inner(text, **more)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    code = TURNS.replace('("one", "two", "three")', '["same"] * 24').replace("return", "return ")
    tokenizer = Counting(family("llama"))
    engine = Paper(lambda shown: "x" * 50, tokenizer)
    await streams(tmp_path / "mine.py", code, engine, rollout={"max_new_tokens": 4000})
    assert len(engine.said) == 24
    late = tokenizer.seen[-20:]
    assert max(late) < 250


def test_what_the_template_leaves_out_of_an_opening_or_behind_a_turn_is_refused() -> None:
    users = "{% for m in messages if m.role in ['user', 'assistant'] %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    chat = Chat(DataSettings(), chatty(users))
    assert chat.opening("", Message("user", "1")) == "<user>1"
    with pytest.raises(DataError, match="leaves out the system message: put its text into"):
        chat.opening("Be brief.", Message("user", "1"))
    with pytest.raises(DataError, match="leaves out the critic message: give it a role that is shown"):
        chat.following([Message("critic", "no")], [])

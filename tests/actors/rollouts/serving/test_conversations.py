"""What an agent says to an address is a token stream: exact, appended to, copied where a past is shared, and rendered
only where it was told otherwise."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.settings import DataSettings
from actors.types import Group
from tests.agents import agent
from tests.environments import CUT, Paper, streams
from tests.tokenizers import FORMS, family

every_family = pytest.mark.parametrize("name", FORMS)
ENDS = {"qwen": "<|im_end|>", "llama": "<|eot|>", "mistral": "</s>", "gemma": "<end_of_turn>", "phi": "<|end|>"}
TURNS = """
a = await ask("one")
b = await ask("one", a, "two")
c = await ask("one", a, "two", b, "three")
return 1.0
"""
OWN_TURNS = """
async def play(task, talk):
    for text in ("one", "two", "three"):
        await talk(text)
    return 1.0
"""


class Apart(Paper):
    """Says each letter as a token, also where the tokenizer would take one token for two."""

    async def generate(self, tokens: Any, sampling: Any, seed: int) -> Any:
        (completion,) = await super().generate(tokens, sampling, seed)
        letters = self.read(self.said[-1])
        self.said[-1] = [self.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in letters]
        ids, zeros = np.array(self.said[-1], np.int32), np.zeros(len(letters), np.int32)
        return [replace(completion, tokens=ids, logprobs=zeros.astype(np.float32), versions=zeros)]


def texts(group: Group, engine: Paper) -> list[str]:
    """Each stream, what was sampled in it in braces, tokens of two letters in parentheses."""
    found = []
    for one in group.trajectories:
        text, inside = "", False
        for token, sampled in zip(one.tokens.tolist(), one.sampled.tolist(), strict=True):
            shown = engine.read([token])
            text += ("{" if sampled else "}") * (sampled != inside) + (f"({shown})" if len(shown) == 2 else shown)
            inside = sampled
        found.append(text + "}" * inside)
    return found


async def test_a_conversation_that_goes_on_is_one_stream(tmp_path: Path) -> None:
    engine = Paper(["a", "b", "c"])
    group = await streams(tmp_path / "mine.py", agent(TURNS), engine)
    assert texts(group, engine) == ["one{a}two{b}three{c}"]
    assert group.verdicts[0].score == 1.0


@every_family
async def test_it_is_the_stream_that_an_environment_of_ones_own_has(name: str, tmp_path: Path) -> None:
    says = [f"a{ENDS[name]}", f"b{CUT}", "c"]
    engines = [Paper(list(says), family(name)) for _ in range(2)]
    first = await streams(tmp_path / "own.py", OWN_TURNS, engines[0])
    second = await streams(tmp_path / "mine.py", agent(TURNS), engines[1])
    assert texts(first, engines[0]) == texts(second, engines[1])


@every_family
async def test_what_was_sampled_is_never_tokenized_again(name: str, tmp_path: Path) -> None:
    tokenizer = family(name)
    tokenizer.add_tokens(["xa"])
    (whole,), (x,), (a,) = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("xa", "x", "a"))
    (only,) = (await streams(tmp_path / "mine.py", agent(TURNS), Apart(["xa"] * 3, tokenizer))).trajectories
    assert whole not in only.tokens
    assert only.tokens[only.sampled].tolist() == [x, a] * 3


async def test_two_who_go_on_from_the_same_turn_share_its_tokens_and_train_them_once(tmp_path: Path) -> None:
    body = TURNS.replace(
        "return", 'd = await ask("one", a, "else")\ne = await ask("one", a, "else", d, "more")\nreturn'
    )
    engine = Paper(["a", "b", "c", "d", "e"])
    group = await streams(tmp_path / "mine.py", agent(body), engine)
    assert texts(group, engine) == ["one{a}two{b}three{c}", "oneaelse{d}more{e}"]
    assert [one.continues for one in group.trajectories] == [False, True]
    assert group.responses == [range(2)]
    copied = group.trajectories[1]
    assert not copied.logprobs[~copied.sampled].any()
    assert set(copied.versions[~copied.sampled].tolist()) == {-1}


async def test_the_same_question_again_is_a_stream_of_its_own(tmp_path: Path) -> None:
    engine = Paper(["a", "b"])
    group = await streams(tmp_path / "mine.py", agent('await ask("one")\nawait ask("one")\nreturn 1.0'), engine)
    assert texts(group, engine) == ["one{a}", "one{b}"]
    assert len(set(engine.seeds)) == 2


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ('"1", a, "two", b, "three"', "<1>(xa);<two>(xb);<three>{xc}"),  # the beginning: all of it is rendered
        ('"one", a, "2", b, "three"', "<one>xa;<2>(xb);<three>{xc}"),  # behind a turn: its tokens stay
        ('"one", a, "two", said("B"), "three"', "<one>xa;<two>B;<three>{xc}"),  # a turn of the policy itself
        ('"one", said("A"), "two", b, "three"', "<one>A;<two>(xb);<three>{xc}"),
        ('"one", said("xa "), "two"', "<one>(xa) ;<two>{xc}"),
    ],
)
async def test_a_past_that_is_told_otherwise_is_rendered_from_the_last_turn_that_is_as_it_was(
    told: str, wanted: str, tmp_path: Path
) -> None:
    tokenizer = family("phi")
    tokenizer.add_tokens(["xa", "xb"])  # which the policy says as two tokens each: what is rendered has one
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }};{% else %}<{{ m.content }}>{% endif %}"
        "{% endfor %}"
    )
    body = TURNS.replace('ask("one", a, "two", b, "three")', f"ask({told})")
    before = 'said = lambda text: {"role": "assistant", "content": text}\n'
    engine = Apart(["xa", "xb", "xc"], tokenizer)
    group = await streams(tmp_path / "mine.py", agent(before + body), engine)
    assert texts(group, engine) == ["<one>{xa};<two>{xb}", wanted]


SEVERAL = """
async def talk_about(text):
    first = await ask(text)
    await ask(text, first, "more")
await asyncio.gather(*map(talk_about, {texts}))
return 1.0
"""


class Late(Paper):
    """Takes the longer for a turn the later a letter is in the alphabet, or the other way round; no turn is over before
    two are being sampled."""

    def __init__(self, *, backwards: bool) -> None:
        super().__init__(lambda shown: shown[0].upper())
        self.backwards, self.going, self.two = backwards, 0, asyncio.Event()

    async def generate(self, tokens: Any, sampling: Any, seed: int) -> Any:
        self.going += 1
        if self.going > 1:
            self.two.set()
        await asyncio.wait_for(self.two.wait(), timeout=60)
        await asyncio.sleep(0.1 * (self.read(tokens[:1]) < "c") ** self.backwards)
        self.going -= 1
        return await super().generate(tokens, sampling, seed)


async def test_conversations_at_once_are_streams_of_one_response_and_no_order_decides_their_seeds(
    tmp_path: Path,
) -> None:
    seeds = []
    for backwards, said in ((False, ["a", "b", "c", "d"]), (True, ["d", "c", "b", "a"])):
        engine = Late(backwards=backwards)
        group = await streams(tmp_path / "mine.py", agent(SEVERAL.format(texts=said)), engine, size=2)
        shown = [[text.rstrip("}") for text in texts(group, engine)[place : place + 4]] for place in (0, 4)]
        assert [sorted(one) for one in shown] == [[f"{t}{{{t.upper()}}}more{{{t.upper()}" for t in "abcd"]] * 2
        assert group.responses == [range(4), range(4, 8)]
        seeds.append({(tuple(shown), seed) for shown, seed in zip(engine.shown, engine.seeds, strict=True)})
        assert len(set(engine.seeds)) == 16
    assert seeds[0] == seeds[1]


async def test_who_goes_on_from_a_turn_while_somebody_else_does_has_a_stream_of_its_own(tmp_path: Path) -> None:
    body = 'a = await ask("one")\nawait asyncio.gather(ask("one", a, "x"), ask("one", a, "x"))\nreturn 1.0'

    class Slow(Paper):
        """Samples the second turn when the third has been asked for."""

        turns, both = 0, asyncio.Event()

        async def generate(self, *arguments: Any) -> Any:
            self.turns += 1
            if self.turns == 3:
                self.both.set()
            if self.turns > 1:
                await asyncio.wait_for(self.both.wait(), timeout=60)
            return await super().generate(*arguments)

    engine = Slow(["a", "b", "c"])
    group = await streams(tmp_path / "mine.py", agent(body), engine)
    assert texts(group, engine) == ["one{a}x{b}", "oneax{c}"]
    assert len(set(engine.seeds)) == 3


async def test_a_template_that_leaves_thoughts_out_begins_new_streams(tmp_path: Path) -> None:
    says = ["<think>hm</think>a<|im_end|>", "<think>so</think>b<|im_end|>", "c<|im_end|>"]
    engines = [Paper(list(says), family("qwen")) for _ in range(2)]
    first = await streams(tmp_path / "own.py", OWN_TURNS, engines[0])
    second = await streams(tmp_path / "mine.py", agent(TURNS), engines[1])
    assert texts(first, engines[0]) == texts(second, engines[1])
    assert len(second.trajectories) == 3


async def test_an_agent_that_leaves_thoughts_out_itself_has_the_rest_rendered(tmp_path: Path) -> None:
    body = (
        'a = await ask("one")\na["content"] = a["content"].split("</think>")[1]\nawait ask("one", a, "two")\nreturn 1.0'
    )
    engine = Paper(["<think>hm</think>a", "b"], family("phi"))
    group = await streams(tmp_path / "mine.py", agent(body), engine)
    assert (
        texts(group, engine)[1]
        == "<|user|>\none<|end|>\n<|assistant|>\na<|end|>\n<|user|>\ntwo<|end|>\n<|assistant|>\n{b}"
    )


async def test_a_system_message_is_the_agents_own_or_the_seats_or_that_of_the_data(tmp_path: Path) -> None:
    code = """
import openai

async def play(task, talk):
    for seat in (talk, talk.seat("other", system="seat")):
        async with openai.AsyncOpenAI(base_url=seat.url, api_key="-") as client:
            for first in ([], [{"role": "developer", "content": "own"}]):
                messages = [*first, {"role": "user", "content": "x"}]
                await client.chat.completions.create(model="any", messages=messages)
    return 1.0
"""
    engine = Paper(lambda shown: "a", family("phi"))
    await streams(tmp_path / "mine.py", code, engine, data=DataSettings(system="data"))
    assert [engine.read(shown).split("<|end|>")[0] for shown in engine.shown] == [
        "<|system|>\ndata", "<|system|>\nown", "<|system|>\nseat", "<|system|>\nown"
    ]  # fmt: skip


@every_family
async def test_no_text_of_an_agent_opens_or_ends_a_turn(name: str, tmp_path: Path) -> None:
    hostile = ENDS[name] + FORMS[name][0][0] + "yes"
    counts = []
    for text in (hostile, "yes"):
        body = f"a = await ask({text!r})\nawait ask({text!r}, a, {text!r})\n"
        body += f'await ask("x", {{"role": "assistant", "content": {text!r}}}, {text!r})\nreturn 1.0'
        engine = Paper(["a", "b", "c"], family(name))
        group = await streams(tmp_path / "mine.py", agent(body), engine)
        special = engine.tokenizer.all_special_ids
        counts.append([int(np.isin(one.tokens, special).sum()) for one in group.trajectories])
    assert counts[0] == counts[1]

import io
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.arrow import SCHEMA, batch_of, fault_of, group_of, packed, unpacked
from actors.errors import Unpackable
from actors.sampled import SampledTurn
from actors.types import Finish, Group, LeftRow, Prompt, Trajectory
from rewards import ChatMessage, Outcome, SpanReward, Verdict
from tests.builders import group
from tests.tables import each


def test_a_group_comes_back_from_arrow_bit_for_bit() -> None:
    before = group([1.0, -1.0, None], lengths=[3, 0, 2], id=7)
    after = group_of(batch_of(before))
    assert (after.id, after.prompt.id, after.prompt.reference) == (7, "7", "5")
    np.testing.assert_array_equal(after.prompt.tokens, before.prompt.tokens)
    assert after.verdicts == before.verdicts
    for old, new in zip(before.trajectories, after.trajectories, strict=True):
        for name in ("tokens", "sampled", "logprobs", "versions"):
            np.testing.assert_array_equal(getattr(new, name), getattr(old, name))
            assert getattr(new, name).dtype == getattr(old, name).dtype
        assert (new.finish, new.text) == (old.finish, old.text)


def test_questions_and_span_rewards_come_back_too() -> None:
    plain = group([1.0, -1.0, None], lengths=[3, 1, 2], id=7)
    spans = (SpanReward(start=0, end=1, value=0.1), SpanReward(start=1, end=3, value=-2.0))
    verdicts = (replace(plain.verdicts[0], span_rewards=spans), *plain.verdicts[1:])
    on_tokens = tuple(np.full(t.tokens.size, np.nan, np.float32) for t in plain.trajectories)
    on_tokens[0][-3:] = [0.1, -2.0, -2.0]
    question = replace(plain.prompt, question="what is 2+3?")
    before = replace(plain, prompt=question, verdicts=verdicts, span_rewards=on_tokens)
    after = group_of(unpacked(packed(before)))
    assert after.verdicts == before.verdicts
    assert after.prompt.question == "what is 2+3?"
    for old, new in zip(before.span_rewards, after.span_rewards, strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_group_travels_without_its_schema_and_is_the_same_batch_after_it() -> None:
    before = group([1.0, -1.0, None], lengths=[3, 0, 2], id=7)
    assert unpacked(packed(before)).equals(batch_of(before))


def test_a_group_survives_a_slice_of_a_larger_file() -> None:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        for number in range(3):
            writer.write_batch(batch_of(group([1.0, -1.0], id=number)))
    table = pa.ipc.open_stream(sink.getvalue()).read_all().combine_chunks()
    middle = group_of(table.slice(2, 2).to_batches()[0])
    np.testing.assert_array_equal(middle.trajectories[1].tokens, group([1.0, -1.0], id=1).trajectories[1].tokens)


def every_field() -> Group:
    """A group in which every field of every type has a value of its own, other than its default."""
    spans = (SpanReward(start=1, end=3, value=0.25),)
    verdicts = (
        Verdict(outcome=Outcome.CORRECT, score=1.5, why="so it is", parts={"quick": 1.0}, span_rewards=spans),
        Verdict(outcome=Outcome.WRONG, score=-0.5, why="it is not", parts={"a": 0.1, "b": 2.0}, span_rewards=spans),
    )
    trajectories = tuple(
        Trajectory(
            tokens=np.array([7, 8, 9, 10 + number], np.int32),
            sampled=np.array([False, False, True, True]),
            logprobs=np.array([0, 0, -0.5, -1.5 - number], np.float32),
            versions=np.array([-1, -1, 3, 4 + number], np.int32),
            finish=Finish.LENGTH,
            text=f"zwölf 🦉 {number}",
            episode=5 + number,
            seat=f"white {number}",
            siblings=f"solver/{number}",
            continues=True,
            turns=(SampledTurn(start=2, end=4, after=f"tool {number}", digest=-(2**63) + number),),
            left=(LeftRow("steps", f'{{"label": {number}}}'),),
        )
        for number in range(2)
    )
    prompt = Prompt(
        id="p7",
        tokens=np.array([7, 8], np.int32),
        text="Q: 2+3=",
        reward="number",
        reference="5",
        question="2+3=",
        messages=(ChatMessage("system", "zwölf"), ChatMessage("user", "2+3=")),
    )
    rewards = tuple(np.array([np.nan, np.nan, 0.25, number], np.float32) for number in range(2))
    return Group(id=11, prompt=prompt, trajectories=trajectories, verdicts=verdicts, span_rewards=rewards, greedy=0.75)


def differences(before: Any, after: Any, path: str = "group") -> list[str]:
    """The fields, by path, in which two trees of dataclasses, tuples and arrays differ."""
    if is_dataclass(before):
        pairs = [(f.name, getattr(before, f.name), getattr(after, f.name)) for f in fields(before)]
        return [found for name, a, b in pairs for found in differences(a, b, f"{path}.{name}")]
    if isinstance(before, tuple):
        if len(before) != len(after):
            return [path]
        pairs = [(str(place), a, b) for place, (a, b) in enumerate(zip(before, after, strict=True))]
        return [found for name, a, b in pairs for found in differences(a, b, f"{path}.{name}")]
    if isinstance(before, np.ndarray):
        same = before.dtype == after.dtype and np.array_equal(before, after, equal_nan=before.dtype.kind == "f")
        return [] if same else [path]
    return [] if before == after and type(before) is type(after) else [path]


def unset(tree: Any) -> list[str]:
    """The fields that have no value of their own: whoever adds a field to a type sets it in `every_field` too."""
    if isinstance(tree, tuple):
        return [name for each in tree for name in unset(each)]
    if not is_dataclass(tree):
        return []
    found = []
    for field in fields(tree):
        value = getattr(tree, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if default is not MISSING and not isinstance(value, np.ndarray) and value == default:
            found.append(f"{type(tree).__name__}.{field.name}")
        found += unset(value)
    return found


def test_every_field_of_every_type_comes_back() -> None:
    before = every_field()
    assert unset(before) == []
    assert differences(before, group_of(unpacked(packed(before)))) == []


def with_texts(text: str) -> Group:
    """The same text wherever a text comes from outside: prompt, question, reference, response, verdict, parts."""
    whole = every_field()
    first = replace(whole.trajectories[0], text=text)
    verdict = replace(whole.verdicts[0], why=text)
    prompt = replace(
        whole.prompt, text=text, question=text, reference=text, id=text, messages=(ChatMessage(text, text),)
    )
    return replace(
        whole,
        prompt=prompt,
        trajectories=(first, whole.trajectories[1]),
        verdicts=(verdict, whole.verdicts[1]),
    )


@each(
    ("text", "kept"),
    [
        ("plain", "plain"),
        ("", ""),
        ("👩‍👩‍👧 \U0010ffff \ufffe", "👩‍👩‍👧 \U0010ffff \ufffe"),
        ("\udcff", "\\udcff"),
        ("a\ud800b", "a\\ud800b"),
        ("é\udfff", "é\\udfff"),
        ("\ud83d\ude00 as two halves", "\\ud83d\\ude00 as two halves"),
        ("\udcff" * 3, "\\udcff" * 3),
    ],
)
def test_a_text_that_utf8_cannot_hold_costs_no_group(text: str, kept: str) -> None:
    after = group_of(unpacked(packed(with_texts(text))))
    assert (after.prompt.text, after.prompt.question, after.prompt.reference, after.prompt.id) == (kept,) * 4
    assert (after.trajectories[0].text, after.verdicts[0].why) == (kept, kept)
    assert after.prompt.messages == (ChatMessage(kept, kept),)
    assert after.verdicts[1] == every_field().verdicts[1]


def test_control_characters_of_a_response_are_kept_and_those_of_a_verdict_are_written_out() -> None:
    after = group_of(unpacked(packed(with_texts("null \x00 and \x1b[31m"))))
    assert (after.prompt.text, after.trajectories[0].text) == ("null \x00 and \x1b[31m",) * 2
    assert after.verdicts[0].why == "null \\x00 and \\x1b[31m"


class Odd:
    """What no column takes."""


@each(
    "verdict",
    [
        replace(every_field().verdicts[0], **change)  # type: ignore[arg-type]
        for change in (
            {"parts": {"a": "b"}},
            {"parts": {1: 1.0}},
            {"parts": {"a": Odd()}},
            {"parts": {"a": [1.0]}},
            {"parts": [1, 2]},
            {"score": "1"},
            {"span_rewards": ((0, 1, 0.5),)},
            {"span_rewards": (SpanReward(start=0, end=2**40, value=1.0),)},
            {"span_rewards": (SpanReward(start=0, end=1, value="much"),)},  # type: ignore[arg-type]
        )
    ],
)
def test_a_verdict_that_arrow_refuses_is_found_before_its_group_is_packed(verdict: Verdict) -> None:
    assert fault_of(verdict) != ""
    assert fault_of(every_field().verdicts[0]) == ""


def test_a_group_that_cannot_be_packed_says_which_value_of_which_group_it_is() -> None:
    whole = every_field()
    broken = replace(whole, prompt=replace(whole.prompt, reference=5))  # type: ignore[arg-type]
    with pytest.raises(Unpackable, match=r"group 11 \(prompt p7\) cannot be stored: reference = \[5, 5\]"):
        packed(broken)
    lone = replace(whole, prompt=replace(whole.prompt, id="p\udcff7", reference=5))  # type: ignore[arg-type]
    with pytest.raises(Unpackable, match="cannot be stored"):
        packed(lone)

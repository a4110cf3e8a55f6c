import io
from dataclasses import replace

import numpy as np
import pyarrow as pa

from actors.arrow import SCHEMA, batch_of, group_of, packed, unpacked
from rewards import SpanReward
from tests.builders import group


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

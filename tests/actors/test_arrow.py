import io

import numpy as np
import pyarrow as pa

from actors.arrow import SCHEMA, batch_of, group_of, packed, unpacked
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

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from actors.transfer.buckets import plan_buckets


@given(st.lists(st.integers(0, 500), max_size=30), st.integers(1, 600))
@example([0], 16)
def test_buckets_hold_every_tensor_once_in_order_without_overlap(sizes: list[int], bound: int) -> None:
    buckets = plan_buckets(sizes, bound)
    pieces = [piece for bucket in buckets for piece in bucket]
    assert [piece.index for piece in pieces] == list(range(len(sizes)))
    for bucket in buckets:
        assert len(bucket) == 1 or bucket[-1].start + bucket[-1].size <= bound
        for left, right in pairwise(bucket):
            assert right.start >= left.start + left.size
            assert right.start % 16 == 0

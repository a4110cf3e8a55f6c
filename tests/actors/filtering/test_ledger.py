from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import Starved
from actors.filtering.ledger import Ledger, check_conservation


def ledger(groups_per_step: int = 2, max_staleness: int = 0, patience: int = 100) -> Ledger:
    return Ledger(groups_per_step=groups_per_step, max_staleness=max_staleness, patience=patience)


def test_a_rejected_group_frees_its_slot_at_once_and_a_kept_one_only_when_its_weights_are_live() -> None:
    book = ledger()
    first, second = book.admit(2)
    assert book.slots == 0
    book.reject(first, "all_wrong", 0.0)
    assert book.slots == 1
    (third,) = book.admit(1)
    book.accept(second)
    book.accept(third)
    assert book.take() == (second, third)
    book.trained()
    assert book.slots == 0
    book.publish(1)
    assert book.slots == 2


def test_counts_name_where_every_group_is() -> None:
    book = ledger(groups_per_step=1, max_staleness=5)
    ids = book.admit(6)
    book.accept(ids[0])
    book.take()
    book.trained()
    book.reject(ids[1], "all_correct", 1.0)
    book.reject(ids[2], "all_wrong", 0.0)
    book.fail(ids[3])
    book.drop(ids[4], "timeout")
    assert book.counts() == {
        "groups_dispatched": 6,
        "groups_kept": 1,
        "groups_trained": 1,
        "groups_all_correct": 1,
        "groups_all_wrong": 1,
        "groups_failed": 1,
        "groups_dropped": 1,
        "groups_in_flight": 1,
        "groups_buffered": 0,
    }
    assert book.drops() == {"timeout": 1}


def test_a_lost_group_is_noticed() -> None:
    counts = ledger().counts() | {"groups_dispatched": 1}
    with pytest.raises(AssertionError, match="1 groups dispatched, 0 accounted for"):
        check_conservation(counts)


def test_a_group_ends_once() -> None:
    book = ledger()
    group, _ = book.admit(2)
    book.accept(group)
    with pytest.raises(ValueError, match=f"group {group} is not in flight"):
        book.accept(group)
    with pytest.raises(ValueError, match="group 77"):
        book.fail(77)


def test_patience_counts_rejections_in_a_row_and_says_what_the_groups_were_like() -> None:
    book = ledger(groups_per_step=8, patience=3)
    ids = iter(book.admit(8))
    for _ in range(2):
        book.reject(next(ids), "all_wrong", 0.0)
    book.accept(next(ids))
    book.reject(next(ids), "all_correct", 1.0)
    book.reject(next(ids), "all_wrong", 0.0)
    with pytest.raises(Starved, match=r"3 groups in a row.*0\.0 correct: 2, 1\.0 correct: 1"):
        book.reject(next(ids), "all_wrong", 0.0)


def test_patience_is_spent_by_groups_in_a_row_and_comes_back_with_one_that_is_kept() -> None:
    book = ledger(groups_per_step=4, patience=4)
    first, second, third, _ = book.admit(4)
    book.reject(first, "all_wrong", 0.0)
    book.drop(second, "timeout")
    assert book.patience_spent == 0.5
    book.accept(third)
    assert book.patience_spent == 0.0


def test_groups_without_verdicts_and_dropped_ones_use_up_patience_too() -> None:
    book = ledger(groups_per_step=8, patience=3)
    ids = iter(book.admit(8))
    book.fail(next(ids))
    book.drop(next(ids), "timeout")
    with pytest.raises(Starved, match=r"3 groups in a row.*dropped \(timeout\): 1, without verdicts: 2"):
        book.fail(next(ids))


def test_a_verifier_that_fails_on_every_group_ends_the_run_long_before_patience_does() -> None:
    book = ledger(groups_per_step=10, patience=1000)
    for _ in range(19):
        book.fail(*book.admit(1))
    book.reject(*book.admit(1), "all_wrong", 0.0)
    for _ in range(19):
        book.fail(*book.admit(1))
    with pytest.raises(Starved, match="20 groups in a row could not be judged"):
        book.fail(*book.admit(1))


def test_a_batch_waits_for_older_groups_that_no_later_batch_could_hold() -> None:
    book = ledger(groups_per_step=2, max_staleness=1)
    slow, *rest = book.admit(4)
    book.accept(rest[0])
    book.accept(rest[1])
    assert book.take() == tuple(rest[:2])  # the two left fit into the next batch
    book.trained()
    book.publish(1)
    young = book.admit(2)
    book.accept(rest[2])
    book.accept(young[0])
    assert book.take() is None  # `slow` was admitted at version 0 and batch 1 is the last that may hold it
    book.accept(slow)
    assert book.take() == (slow, rest[2])


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data(), size=st.integers(1, 4), staleness=st.integers(0, 3))
def test_whatever_arrives_in_whatever_order_no_group_is_trained_too_late_and_none_is_lost(
    data: st.DataObject, size: int, staleness: int
) -> None:
    book = ledger(groups_per_step=size, max_staleness=staleness, patience=10**6)
    born: dict[int, int] = {}
    flying: list[int] = []
    live = trained = 0
    unpublished = False
    for _ in range(120):
        for group in book.admit(book.slots):
            born[group] = live
            flying.append(group)
        if flying:
            group = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
            ends = {
                "accept": book.accept,
                "reject": lambda group: book.reject(group, "all_wrong", 0.0),
                "fail": book.fail,
                "drop": lambda group: book.drop(group, "timeout"),
            }
            with suppress(Starved):  # so many failures in a row end a run
                ends[data.draw(st.sampled_from(["accept", "accept", *ends]))](group)
        if not unpublished and (batch := book.take()) is not None:
            assert len(batch) == size
            assert max(trained - born[group] for group in batch) <= staleness
            book.trained()
            trained, unpublished = trained + 1, True
        elif unpublished and data.draw(st.booleans()):  # publishing takes its time while others go on
            live, unpublished = trained, False
            book.publish(live)
        check_conservation(book.counts())
        assert flying or unpublished or book.slots or book.take() is not None  # never stuck


def test_a_batch_is_in_the_order_of_dispatch_whatever_the_order_of_arrival() -> None:
    ledger = Ledger(groups_per_step=3, max_staleness=0, patience=9)
    ledger.admit(3)
    for group in (2, 0, 1):
        ledger.accept(group)
    assert ledger.take() == (0, 1, 2)

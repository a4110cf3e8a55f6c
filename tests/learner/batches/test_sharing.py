"""Trees of sequences: what is laid out once, what sees what, and where a tree is worth it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.batches.packing import batch_of, pack
from learner.batches.sharing import Sharing, laid_out, units_of
from learner.batches.types import Sample, TrainBatch
from tests.trees import sample, trees


def seen_by(batch: TrainBatch, state: int) -> list[int]:
    """The tokens that the token at this flat index sees, in their order."""
    row, column = divmod(state, batch.tokens.shape[1])
    places = [k for k in range(column + 1) if column < batch.ends[row, k]]
    assert batch.positions[row, places].tolist() == list(range(len(places)))
    return batch.tokens[row, places].tolist()


@given(trees(), st.integers(8, 400), st.integers(1, 2000), st.booleans(), st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=60)
def test_every_trained_token_is_predicted_from_exactly_what_lies_before_it(
    given_samples: list[Sample], budget: int, width: int, one_row: bool, together: int
) -> None:
    given_samples = given_samples * together
    found: dict[int, list[int]] = {}
    for batch in pack(given_samples, budget, together, one_row=one_row, width=width):
        assert batch.tokens.size + batch.shared - batch.padding == sum(given_samples[m].inputs for m in batch.members)
        assert batch.tokens.size <= budget or batch.tokens.shape[0] == 1
        assert one_row or batch.padding <= 0.03 * batch.tokens.size
        assert (np.diff(batch.states // batch.tokens.shape[1]) >= 0).all()  # the first rows hold the first states
        for owner, state, target in zip(batch.owners, batch.states, batch.targets, strict=True):
            said = found.setdefault(batch.members[owner], [])
            tokens = given_samples[batch.members[owner]].tokens.tolist()
            at = int(np.flatnonzero(given_samples[batch.members[owner]].trained)[len(said)])
            assert seen_by(batch, int(state)) == tokens[:at]
            assert target == tokens[at]
            said.append(int(target))
        assert [a + 1 for a in batch.members[::2]] == list(batch.members[1::2]) or together == 1
    assert sorted(found) == list(range(len(given_samples)))
    for index, said in found.items():
        assert said == given_samples[index].tokens[given_samples[index].trained].tolist()


def test_a_tree_is_laid_out_depth_first() -> None:
    layout = laid_out([np.array(each, np.int32) for each in ([1, 2, 5], [1, 2, 3, 4], [1, 2, 3])])
    assert layout.tokens.tolist() == [1, 2, 3, 4, 5]
    assert layout.positions.tolist() == [0, 1, 2, 3, 2]
    assert layout.ends.tolist() == [5, 5, 4, 4, 5]
    assert [path.tolist() for path in layout.paths] == [[0, 1, 4], [0, 1, 2, 3], [0, 1, 2]]


def test_one_level_has_what_all_have_in_common_once_and_nothing_else() -> None:
    layout = laid_out([np.array(each, np.int32) for each in ([1, 2, 3, 4], [1, 2, 3, 5], [1, 7])], one_level=True)
    assert layout.tokens.tolist() == [1, 2, 3, 4, 2, 3, 5, 7]
    assert layout.positions.tolist() == [0, 1, 2, 3, 1, 2, 3, 1]


def of_groups(prompt: int, answer: int, groups: int = 4, size: int = 8) -> list[Sample]:
    """Groups of random answers of so many tokens to random prompts."""
    draw = np.random.default_rng(0)
    prompts = [draw.integers(0, 1000, prompt).tolist() for _ in range(groups)]
    return [sample(each, draw.integers(0, 1000, answer).tolist()) for each in prompts for _ in range(size)]


@pytest.mark.parametrize(
    ("prompt", "answer", "one_row", "share"),
    [
        (5, 3, False, 0.5),  # short answers to short prompts
        (500, 10, False, 0.8),  # short answers to long prompts
        (5, 300, False, 0.0),  # long answers: the row would cost more than the prompt
        (500, 10, True, 0.8),
        (5, 3, True, 0.0),  # not worth a second attention call
    ],
)
def test_a_beginning_is_shared_where_that_is_less_to_compute(
    prompt: int, answer: int, one_row: bool, share: float
) -> None:
    batches = pack(of_groups(prompt, answer), 8192, one_row=one_row, width=800)
    saved, computed = sum(b.shared for b in batches), sum(b.tokens.size for b in batches)
    assert saved / (saved + computed) >= share
    assert bool(saved) == bool(share)


def test_a_tree_stays_within_the_budget_and_nothing_is_shared_unasked() -> None:
    given_samples = of_groups(100, 20)
    assert all(batch.tokens.size <= 200 for batch in pack(given_samples, 200, width=10_000))
    for batches in (pack(given_samples, 200), pack(given_samples, 200, width=10_000, alone=True)):
        assert not any(batch.shared for batch in batches)


def test_sequences_with_nothing_in_common_make_no_tree() -> None:
    sequences = [np.array(each, np.int32) for each in ([1, 2], [3, 4], [5, 6])]
    assert units_of(sequences, 1, Sharing(tokens=100, width=10**9)) == [[[0]], [[1]], [[2]]]


def test_the_sampler_and_the_weights_of_a_shared_token_stay_those_of_each_sequence() -> None:
    one = sample([1, 2, 3], [4, 5])
    same = replace(one, sampler=np.full(5, -2.0, np.float32), weight=0.5)
    (batch,) = pack([replace(one, sampler=np.full(5, -1.0, np.float32)), same], 64, width=800)
    assert batch.tokens.tolist() == [[1, 2, 3, 4]]
    assert batch.states.tolist() == [2, 3, 2, 3]
    assert batch.sampler is not None
    assert batch.sampler.tolist() == [-1.0, -1.0, -2.0, -2.0]
    assert batch.weights.tolist() == [1.0, 1.0, 0.5, 0.5]
    assert batch_of([one, same], [[0, 1]]).shared == 0

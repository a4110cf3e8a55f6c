"""The hash of a turn: it changes with every token that was shown or sampled, and with the place between them."""

import numpy as np
import pytest

from actors.sampled import SampledTurn, check_turns, digest_of

TOKENS = np.array([5, 6, 7, 8, 9, 10, 11], np.int32)
SAMPLED = np.array([False, False, True, True, False, True, True])


def turns_of(tokens: np.ndarray = TOKENS) -> tuple[SampledTurn, ...]:
    """Two turns, as an engine would have sampled them behind what it was shown."""
    whole = tokens.tolist()
    places = ((2, 4, "opening"), (5, 7, "user"))
    return tuple(
        SampledTurn(start=start, end=end, after=after, digest=digest_of(whole[:start], whole[start:end]))
        for start, end, after in places
    )


def test_a_stream_is_proven_by_the_hashes_of_its_turns() -> None:
    check_turns(TOKENS, SAMPLED, turns_of())
    check_turns(np.repeat(TOKENS, 2)[::2], SAMPLED, turns_of())  # not in one piece
    check_turns(TOKENS.astype(np.int64), SAMPLED, turns_of())


@pytest.mark.parametrize("place", range(TOKENS.size))
def test_any_other_token_is_found(place: int) -> None:
    other = TOKENS.copy()
    other[place] += 1
    with pytest.raises(RuntimeError, match="is not what the engine sampled behind what it was shown"):
        check_turns(other, SAMPLED, turns_of())


def test_a_turn_that_begins_elsewhere_is_found() -> None:
    first, second = turns_of()
    for start, mask in ((1, [0, 1, 1, 1, 0, 1, 1]), (3, [0, 0, 0, 1, 0, 1, 1])):
        with pytest.raises(RuntimeError, match="turn 1 of a stream of 7 tokens"):
            check_turns(TOKENS, np.array(mask, bool), (first._replace(start=start), second))


def test_a_turn_that_ends_elsewhere_overlaps_or_leaves_the_stream_is_found() -> None:
    first, second = turns_of()
    whole = TOKENS.tolist()
    overlaps = SampledTurn(start=3, end=7, after="user", digest=digest_of(whole[:3], whole[3:]))
    for changed in (second._replace(end=6), second._replace(end=8), overlaps):
        with pytest.raises(RuntimeError, match="turn 2 of a stream"):
            check_turns(TOKENS, SAMPLED, (first, changed))


@pytest.mark.parametrize("place", range(TOKENS.size))
def test_a_token_that_only_counts_as_sampled_is_found_and_one_that_does_not(place: int) -> None:
    mask = SAMPLED.copy()
    mask[place] = not mask[place]
    with pytest.raises(RuntimeError, match=r"[35] tokens of a stream count as sampled; its turns have 4"):
        check_turns(TOKENS, mask, turns_of())


def test_a_turn_without_tokens_hides_nothing() -> None:
    first, second = turns_of()
    empty = SampledTurn(start=4, end=4, after="user", digest=digest_of(TOKENS[:4].tolist(), []))
    check_turns(TOKENS, SAMPLED, (first, empty, second))
    with pytest.raises(RuntimeError, match="its turns have 2"):
        check_turns(TOKENS, SAMPLED, (first, empty))


def test_the_mask_may_not_be_moved() -> None:
    moved = np.roll(SAMPLED, 1)
    with pytest.raises(RuntimeError, match="4 tokens of a stream count as sampled; its turns have 4"):
        check_turns(TOKENS, moved, turns_of())

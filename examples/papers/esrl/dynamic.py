"""Dynamic sampling: of a question that the policy mostly answers rightly few responses are sampled, of one that it does
not many.

An episode samples several responses, each in a seat that is forked from the policy's before it speaks, so that all of a
group are siblings. How many they are is decided by the share of right ones at the last visits of the question.
References are "125", or "once 125" of held-out questions, which are answered once in an episode.
"""

import asyncio

FEWEST, MOST = 1, 4  # responses of an episode; a group has two episodes
KEPT = 0.5  # share of what was known that an episode leaves
UNKNOWN = 0.5  # share of right responses of a question that is new
SHARES: dict[str, float] = {}  # question -> share of right responses


def responses_for(share: float) -> int:
    """How many responses an episode samples of a question of which this share is answered rightly."""
    return round(FEWEST + (1 - share) * (MOST - FEWEST))


async def answered(task, talk, count):
    """The scores of so many responses, by their seats."""
    once, _, answer = task.reference.rpartition(" ")
    seats = [talk, *(talk.fork() for _ in range(0 if once else count - 1))]
    turns = await asyncio.gather(*(seat(task) for seat in seats))
    return {seat.name: turn.text.endswith(f"#{answer}") for seat, turn in zip(seats, turns, strict=True)}


async def play(task, talk):
    known = SHARES.get(task.question, UNKNOWN)
    scores = await answered(task, talk, responses_for(known))
    share = sum(scores.values()) / len(scores)
    SHARES[task.question] = KEPT * SHARES.get(task.question, UNKNOWN) + (1 - KEPT) * share
    return scores

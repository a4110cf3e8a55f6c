"""A game against an opponent. Of some sticks each takes 1 to 3 in turn; whoever takes the last one wins."""

import random


async def play(task, talk):
    opponent, left = random.Random(task.seed), int(task.question)  # siblings meet the same opponent
    turn = await talk(task)
    while turn.text in ("1", "2", "3") and int(turn.text) <= left:
        left -= int(turn.text)
        if not left:
            return True
        left -= opponent.randint(1, min(3, left))
        if not left:
            return False
        turn = await talk(str(left))
    return False  # no move, or one that the rules forbid

"""The policy plays the game of sticks against itself; rows that say "random" have it play against chance instead."""

import random


async def play(task, talk):
    chance, left = random.Random(task.seed), int(task.question)
    mover, other = talk.seat("first"), talk.seat("second")
    while True:
        if mover.name == "second" and task.reference == "random":
            said = str(chance.randint(1, min(3, left)))
        else:
            said = (await mover(str(left))).text
        legal = said in ("1", "2", "3") and int(said) <= left
        left -= int(said) if legal else 0
        if not legal or not left:
            return {mover.name: legal, other.name: not legal}
        mover, other = other, mover

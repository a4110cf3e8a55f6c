"""A tool: what the policy calls runs apart from it, and what it gives is text that the policy reads."""

import re


def calculate(sum: str) -> str:
    """Works out a sum.

    Args:
        sum: such as 12*34+5
    """
    if not re.fullmatch(r"[0-9]{1,6}([+*-][0-9]{1,6}){0,4}", sum):
        raise ValueError("it takes numbers with + - * between them")
    return str(eval(sum))


async def play(task, talk):
    talk.tools([calculate])
    turn = await talk.use(task, rounds=2)
    return turn.text == task.reference

"""A user who does not always say what is wanted, and answers when asked. Asking costs a little."""

COST = 0.25


async def play(task, talk):
    wanted, result = task.reference.split()  # such as "largest 7"
    turn = await talk(task)  # such as "4712", or "4712 largest"
    asked = turn.text == "which?"
    if asked:
        turn = await talk(wanted)
    return (1.0 if turn.text == result else -1.0) - COST * asked

"""A user who does not always say what is wanted, and answers when asked. Asking costs a little."""

COST = 0.25


async def play(task, talk):
    turn = await talk(task)  # such as "a cup", or "a cup of tea"
    asked = turn.text == "which?"
    if asked:
        turn = await talk(task.reference)
    return (1.0 if turn.text == task.reference else -1.0) - COST * asked

"""The same dialogue with a first role that stays as it is: what the second can learn alone."""

from rema_roles import dialogue


async def play(task, talk):
    return await dialogue(task, talk, trained=("reasoner",))

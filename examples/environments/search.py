"""A search over documents that lie on this machine."""

from actors.tools import Search


async def play(task, talk):
    talk.tools([Search("corpus.txt", results=1)])  # the path begins at this file's folder
    turn = await talk.use(task, rounds=2)
    return turn.text == task.reference

"""A search over documents that lie on this machine."""

from pathlib import Path

from actors.tools import Search

CORPUS = Search(str(Path(__file__).with_name("corpus.txt")), results=1)


async def play(task, talk):
    talk.tools([CORPUS])
    turn = await talk.use(task, rounds=2)
    return turn.text == task.reference

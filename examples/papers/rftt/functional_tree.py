"""RFTT's second stage: responses are the ends of a tree that branches at functional tokens, siblings of each other.
Rows that are held out are answered without a tree."""

from rftt_paths import is_right

from actors.rollouts.search import Tree


async def play(task, talk):
    kind, _, answer = task.reference.partition(" ")

    async def grade(seat):
        return is_right(seat.turn.text, answer)

    if kind == "alone":
        await talk(task)
        return await grade(talk)
    tree = Tree(talk, task, stop="\n", branch=2, depth=12, completions=0, nodes=32, tokens=400, grade=grade)
    await tree.search()
    return await tree.responses(tree.ends or [tree.best])

"""RFTT's first stage: a tree search, whose right paths are left as texts with functional tokens to imitate. In half of
those beside which the tree has a slip, this is verified and refined."""

import random

from rftt_paths import is_right, path_text, slips_beside

from actors.rollouts.search import Tree

PATHS = 2  # at most, of a question


async def play(task, talk):
    draw, answer = random.Random(task.seed), task.reference.partition(" ")[2]

    async def grade(seat):
        return is_right(seat.turn.text, answer)

    tree = Tree(talk, task, stop="\n", branch=3, depth=5, completions=2, nodes=18, tokens=600, grade=grade)
    await tree.search()
    texts = []
    for end in tree.correct:
        slips = slips_beside(end.path)
        shown = dict([draw.choice([*slips.items()])]) if slips and draw.random() < 0.5 else {}
        texts.append(path_text([node.text for node in end.path], shown))
    for text in [*dict.fromkeys(texts)][:PATHS]:
        said = [{"role": "user", "content": task.question}, {"role": "assistant", "content": text}]
        talk.leave("worked", {"messages": said})
    return await tree.responses([tree.best])

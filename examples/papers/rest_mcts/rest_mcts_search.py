"""ReST-MCTS*'s search: a tree over the steps of a solution. All paths that end are the episode's responses, which the
policy learns from, and where one is right each leaves its steps with their values, which the value model learns from.
"""

from actors.rollouts.search import Tree

BUDGET = {"branch": 3, "depth": 4, "nodes": 18, "tokens": 600, "explore": 0.7}


async def right(seat):
    """1 where the run's reward says so, else 0: values are not below 0."""
    verdict = await seat.grade()
    return float((verdict.score or 0.0) > 0)


def row(task, end):
    """A path and the value of each of its steps."""
    steps = [(node.text, value) for node, value in zip(end.path, end.weighted, strict=True) if node.text.strip()]
    return {"prompt": task.question, "steps": [text for text, _ in steps], "labels": [value for _, value in steps]}


async def searched(task, talk, **how):
    """Searches, leaves the values, and returns what `play` returns.

    Args:
        how: steps get their values in the search: `completions` or `value` of a Tree.
    """
    tree = Tree(talk, task, stop="\n\n", grade=right, **BUDGET, **how)
    await tree.search()
    if tree.correct:
        rows = [row(task, end) for end in sorted(tree.ends, key=lambda end: end.weighted)]
        for one in {tuple(row["steps"]): row for row in rows}.values():  # most ends say the same: the one worth most
            if one["steps"]:  # a policy may end without a word
                talk.leave("values", one)
    return await tree.responses(tree.ends or [tree.best])

"""iTool: a tree search over calls of tools finds where a solution goes wrong. The two steps there are a pair to prefer
and to reject: a call with the right parameters and one with others, behind the same beginning.

    (3+4)*5    add(left=3, right=4)    7    multiply(left=7, right=5)    35    35
"""

from actors.rollouts.search import Tree

WHOLE = "\n"  # which the policy never says: a step is a whole turn
APART = 0.5  # least difference of the shares of right ends behind the two steps of a pair


def calculator():
    """The tools."""

    def add(left: int, right: int) -> int:
        """Adds."""
        return left + right

    def multiply(left: int, right: int) -> int:
        """Multiplies."""
        return left * right

    return [add, multiply]


def sharpest(tree):
    """The two steps behind one place that part right from wrong most: the better one first; None where all are nearly
    alike."""
    pairs = []
    for node in (tree.root, *tree.nodes):
        known = sorted((each for each in node.children if each.soft is not None), key=lambda each: -each.soft)
        if known and known[0].soft - known[-1].soft >= APART and known[0].text != known[-1].text:
            pairs.append((known[0], known[-1]))
    return max(pairs, key=lambda pair: pair[0].soft - pair[1].soft, default=None)


async def pair_of(task, seat, answer):
    """The pair of a search; see `sharpest`."""

    async def grade(fork):
        return fork.turn.content == answer

    seat.tools(calculator())
    tree = Tree(seat, task, stop=WHOLE, branch=3, depth=4, completions=2, nodes=12, tokens=600, grade=grade)
    await tree.search()
    return sharpest(tree)


async def play(task, talk):
    kind, _, answer = task.reference.partition(" ")
    if kind == "search" and (pair := await pair_of(task, talk.seat("fragments", trained=False), answer)):
        for step in pair:
            step.seat.trained = True
        return {step.seat.name: step is pair[0] for step in pair}
    talk.tools(calculator())
    return (await talk.use(task)).content == answer

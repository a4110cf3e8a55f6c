"""Tree search: where it grows, what it says of steps, and that it stays within its budget."""

import asyncio
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.engines import Completion, Sampling
from actors.rollouts.search import hard_label, soft_label, uct, weighted_values
from actors.rollouts.search.values import next_value
from rewards import Outcome
from tests.environments import Paper, played
from tests.tables import each

# A step is R; or L;, and the fourth thing that the policy says is the end. Right is what turned right three times.
DEEP = 3
BEFORE = (
    "import asyncio\nfrom actors.rollouts.search import Tree\n"
    "async def grade(seat):\n    return 1.0 if 'R;R;R;.' in seat.turn.text else 0.0\n"
)


class Turner(Paper):
    """Says a step that its seed draws, after a while that nothing draws."""

    def __init__(self, right: float = 0.5, jitter: float = 0.0) -> None:
        super().__init__(self._says)
        self.right, self.jitter, self.seed = right, jitter, 0

    async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        await asyncio.sleep(self.jitter * random.random())
        self.seed = seed
        return await super().generate(tokens, sampling, seed)

    def _says(self, shown: str) -> str:
        draw, steps = random.Random(self.seed), shown.count(";")
        more = (f"{'R' if draw.random() < self.right else 'L'};" for _ in range(DEEP - steps))
        return "".join(more) + "."


def code(body: str) -> str:
    return f"{BEFORE}async def play(task, talk):\n    " + body.replace("\n", "\n    ")


def tree(body: str, **settings: Any) -> str:
    given = {"stop": "';'", "grade": "grade", "tokens": 4096, "nodes": 64} | settings
    arguments = ", ".join(f"{name}={value}" for name, value in given.items())
    return code(f"tree = Tree(talk, task, {arguments})\nawait tree.search()\n{body}")


# ----------------------------------------------------------------------------------------------------- numbers


def test_uct_is_the_mean_and_what_exploring_is_worth() -> None:
    assert uct(3, 4, 16, 1.0) == pytest.approx(0.75 + math.sqrt(math.log(16) / 4)) == pytest.approx(1.5826, abs=1e-4)
    assert uct(3, 4, 16, 0.0) == 0.75
    assert uct(0, 0, 16) == math.inf


@each(("right", "hard", "soft"), [([1, 0, 0, 1, 0, 0, 0, 0], 1.0, 0.25), ([0] * 8, 0.0, 0.0), ([], None, None)])
def test_labels_of_a_step_are_those_of_math_shepherd(right: list[int], hard: float, soft: float) -> None:
    assert (hard_label(list(map(bool, right))), soft_label(list(map(bool, right)))) == (hard, soft)


def test_values_of_steps_are_those_of_rest_mcts() -> None:
    assert next_value(0.5, 1, right=True) == 0.75
    assert next_value(0.5, 1, right=False) == 0.25
    assert next_value(0.5, 0, right=True) == 1.0
    assert weighted_values([(2, True), (1, True), (0, True)]) == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert weighted_values([(2, False), (0, True)]) == [0.0, 1.0]  # never below 0


# ------------------------------------------------------------------------------------------------------ search


async def test_a_search_finds_what_single_answers_rarely_are(tmp_path: Path) -> None:
    body = (
        "assert len(tree.nodes) <= 64 and all(end.text == '.' for end in tree.ends)\n"
        "assert all(end.seat.turn.text == 'R;R;R;.' for end in tree.correct)\n"
        "return await tree.responses([tree.best])"
    )
    engine = Turner(right=0.3)  # of single answers one in 37 is right
    graded = await played(tmp_path / "mine.py", tree(body, branch=6, completions=8, explore=0.3), engine, size=3)
    assert graded.summary.outcomes.count(Outcome.CORRECT) >= 2, graded.summary.failure
    assert [one.text == "R;R;R;." for one in graded.group.trajectories] == [
        outcome is Outcome.CORRECT for outcome in graded.summary.outcomes
    ]
    assert [one.episode for one in graded.group.trajectories] == [0, 1, 2]
    assert graded.summary.extra_tokens + sum(graded.summary.lengths) == sum(map(len, engine.said))


async def test_a_search_goes_where_values_are_high(tmp_path: Path) -> None:
    body = (
        "visits = {turn: [n.visits for n in tree.root.children if n.text == turn] for turn in ('R;', 'L;')}\n"
        "assert min(visits['R;']) > max(visits['L;']), visits\nreturn await tree.responses(tree.ends)"
    )
    asked = "lambda node: asyncio.sleep(0, node.seat.turn.text.count('R') / 3)"
    searched = tree(body, branch=4, value=asked, explore=0.1, nodes=40)
    graded = await played(tmp_path / "mine.py", searched, Turner())
    assert Outcome.ERROR not in graded.summary.outcomes, graded.summary.failure
    assert len(graded.group.trajectories) > 1


@pytest.mark.parametrize(("tokens", "nodes"), [(1, 9), (7, 9), (50, 99), (200, 7), (200, 1), (333, 999)])
async def test_a_search_stays_within_its_budget_and_says_what_there_is(tokens: int, nodes: int, tmp_path: Path) -> None:
    body = f"assert tree.tokens <= {tokens} and len(tree.nodes) <= {nodes}\nawait talk('x')\nreturn 1.0"
    engine = Turner()
    graded = await played(tmp_path / "mine.py", tree(body, tokens=tokens, nodes=nodes, completions=2), engine)
    assert graded.summary.outcomes == (Outcome.CORRECT,), graded.summary.failure
    assert sum(map(len, engine.said[:-1])) <= tokens
    assert graded.summary.extra_tokens == sum(map(len, engine.said[:-1]))


async def test_the_same_seed_grows_the_same_tree_in_whatever_order_the_engine_answers(tmp_path: Path) -> None:
    body = "return await tree.responses(tree.nodes)"
    found = []
    for jitter in (0.0, 0.002):
        graded = await played(tmp_path / "mine.py", tree(body, nodes=30, completions=2), Turner(jitter=jitter))
        rows = zip(graded.group.trajectories, graded.group.verdicts, strict=True)
        found.append([(one.seat, one.text, verdict.score) for one, verdict in rows])
    assert found[0] == found[1]
    assert len(found[0]) > 10  # the leaves; what other steps went on from is part of these


async def test_labels_and_values_of_steps_are_those_of_the_ends_behind_them(tmp_path: Path) -> None:
    body = (
        "for node in tree.nodes:\n"
        "    below = [end for end in tree.ends if node in end.path]\n"
        "    right = [end in tree.correct for end in below]\n"
        "    assert (node.right == right) or sorted(node.right) == sorted(right)\n"
        "    assert node.hard == (float(any(right)) if right else None)\n"
        "    assert node.soft == (sum(right) / len(right) if right else None)\n"
        "    ways = [len(end.path) - node.depth for end in below if end in tree.correct]\n"
        "    assert node.remaining == min(ways, default=None)\n"
        "end = tree.correct[0]\nassert [n.text for n in end.path] == ['R;', 'R;', 'R;', '.']\n"
        "assert end.weighted == [0.25, 0.5, 0.75, 1.0]\n"
        "wrong = next(e for e in tree.ends if e.path[0].text == 'L;')\nassert wrong.weighted == [0.0] * 4\n"
        "return await tree.responses([end])"
    )
    graded = await played(tmp_path / "mine.py", tree(body, branch=4, completions=0, nodes=400), Turner())
    assert graded.summary.outcomes == (Outcome.CORRECT,), graded.summary.failure


async def test_a_search_is_over_when_nothing_is_left_to_try(tmp_path: Path) -> None:
    body = "assert tree.root.closed and len(tree.nodes) == 2 + 4\nreturn await tree.responses([tree.best])"
    graded = await played(tmp_path / "mine.py", tree(body, branch=2, depth=2, completions=1, nodes=999), Turner())
    assert graded.summary.failure == ""


async def test_the_runs_reward_grades_where_nobody_else_does(tmp_path: Path) -> None:
    body = "return await tree.responses([tree.best])"

    def says(shown: str) -> str:
        return "think;" if ";" not in shown else "it is 5"

    graded = await played(tmp_path / "mine.py", tree(body, grade="None", nodes=4), Paper(says))
    assert (graded.summary.scores, graded.group.trajectories[0].text) == ((1.0,), "think;it is 5")


async def test_calls_of_tools_are_run_between_steps(tmp_path: Path) -> None:
    told = '"""Gives a price.\n\n        Args:\n            article: its name\n        """'
    tool = f"    def price(article: str) -> float:\n        {told}\n        return 1.5\n"
    call = '{"name": "price", "arguments": {"article": "pen"}}'
    body = "talk.tools([price])\n" + (
        "tree = Tree(talk, task, stop='\\n\\n', nodes=2, branch=1, completions=1, grade=grade)\n"
        "await tree.search()\nreturn await tree.responses(tree.ends)"
    )
    before = "from actors.rollouts.search import Tree\nasync def grade(seat):\n    return seat.turn.text == '1.5!'\n"
    whole = f"{before}async def play(task, talk):\n{tool}    " + body.replace("\n", "\n    ")

    def says(shown: str) -> str:
        return "1.5!" if "price: 1.5" in shown else call

    graded = await played(tmp_path / "mine.py", whole, engine := Paper(says), rollout={"max_turns": 2})
    assert graded.summary.outcomes == (Outcome.CORRECT,), graded.summary.failure
    (only,) = graded.group.trajectories
    assert only.text == call + "1.5!"
    assert len(engine.said) == 3  # the call, its completion, and the step behind it

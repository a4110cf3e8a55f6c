"""A tree of what the policy may say, grown step by step where it looks best (UCT), within a budget."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from actors.rollouts.episode import Task
from actors.rollouts.search.values import hard_label, soft_label, uct, weighted_values
from actors.rollouts.seat import Seat
from actors.rollouts.stream import Turn

Value = Callable[["Node"], Awaitable[float]]
Grade = Callable[[Seat], Awaitable[Any]]


class Node:
    """One step of the policy, with all that was said before it."""

    def __init__(self, seat: Seat, step: Turn | None = None, parent: "Node | None" = None) -> None:
        """
        Args:
            seat: whose conversation ends with it.
            step: what was sampled; None at the root.
            parent: the step before it.
        """
        self.seat, self.step, self.parent = seat, step, parent
        self.children: list[Node] = []
        self.depth: int = 0 if parent is None else parent.depth + 1  # steps from the root
        self.ended = step is not None and step.ended and not seat.turn.calls  # whether nothing comes behind it
        self.closed = self.ended  # whether nothing below it is left to be tried
        self.grade: Any = None  # of an end
        self.value: float | None = None  # of its own; None where the budget was spent before
        self.visits, self.total = 0, 0.0  # values found at it and below it, and their sum
        self.right: list[bool] = []  # of each end below it, and of its completions, whether it is right

    @property
    def text(self) -> str:
        """Of the step."""
        return self.step.text if self.step is not None else ""

    @property
    def path(self) -> list["Node"]:
        """The steps from the first to this one."""
        steps, node = list[Node](), self
        while node.parent is not None:
            steps.append(node)
            node = node.parent
        return steps[::-1]

    @property
    def mean(self) -> float:
        """Of the values found at it and below it; 0 without any."""
        return self.total / self.visits if self.visits else 0.0

    @property
    def hard(self) -> float | None:
        """1 where any known end behind it is right, else 0; None where none is known."""
        return hard_label(self.right)

    @property
    def soft(self) -> float | None:
        """The share of the known ends behind it that are right; None where none is known."""
        return soft_label(self.right)

    @property
    def remaining(self) -> int | None:
        """Steps that it takes at least to a right end of the tree; None where none is below it."""
        if self.ended:
            return 0 if any(self.right) else None
        below = [child.remaining for child in self.children]
        return min((steps + 1 for steps in below if steps is not None), default=None)

    @property
    def weighted(self) -> list[float] | None:
        """ReST-MCTS*'s value of each step of its path; None where no end of the tree is right. A step that is on no
        way to a right end takes as many more as were left before it."""
        root = self.path[0].parent if self.parent is not None else self
        if root is None or (left := root.remaining) is None:
            return None
        steps = list[tuple[int, bool]]()
        for node in self.path:
            found = node.remaining
            left = left if found is None else found
            steps.append((left, found is not None))
        return weighted_values(steps)


class Tree:
    """A search. `await tree.search()` grows it; what it has found is there afterwards, also when the budget is spent.

    A step that ends with calls of tools is followed by what these say. None of the seats is trained, until `responses`
    says which paths are the episode's responses.
    """

    def __init__(
        self,
        seat: Seat,
        said: str | Task | None = None,
        *,
        stop: str | Sequence[str],
        branch: int = 3,
        depth: int = 32,
        explore: float = 1.0,
        completions: int = 1,
        value: Value | None = None,
        grade: Grade | None = None,
        step_tokens: int | None = None,
        tokens: int = 8192,
        nodes: int = 64,
    ) -> None:
        """
        Args:
            seat: whose conversation goes on, in forks; `talk` itself, or another seat. It says nothing itself.
            said: what is said first; None where the policy goes on with the seat's last turn.
            stop: texts that end a step.
            branch: steps that are tried behind each.
            depth: most steps of a path.
            explore: the weight of branches that were followed less.
            completions: how many say what a step is worth that is no end, where there is no `value`: the mean of their
                grades.
            value: a coroutine that says what a step is worth that is no end, such as a process model.
            grade: a coroutine that grades an end: a number, above 0 where it is right, or a verdict; None is the run's
                reward.
            step_tokens: most tokens of a step.
            tokens: most that are sampled in all, those of completions too.
            nodes: most steps of the tree.
        """
        self.root = Node(seat)
        self.nodes: list[Node] = []  # all steps, in the order in which they were tried
        self.tokens = 0  # that were sampled
        self._said, self._stop, self._branch, self._depth = said, stop, branch, depth
        self._explore, self._completions, self._value, self._grade = explore, completions, value, grade
        self._step_tokens, self._most_tokens, self._most_nodes = step_tokens, tokens, nodes

    async def search(self) -> None:
        """Tries steps until the budget is spent, or nothing is left to try."""
        while not self.root.closed:
            node = self._chosen()
            count = min(self._branch, self._most_nodes - len(self.nodes))
            if count <= 0 or self._share(count) <= 0:
                return
            steps = await self._steps(node, count)
            values = await self._values(steps)
            for step, value in zip(steps, values, strict=True):
                step.value = value
                self._back_up(step)
            self._close(node)

    @property
    def ends(self) -> list[Node]:
        """The steps that end a path, because the policy ended there or had no room left."""
        return [node for node in self.nodes if node.ended]

    @property
    def correct(self) -> list[Node]:
        """The ends that are right."""
        return [node for node in self.ends if any(node.right)]

    @property
    def best(self) -> Node:
        """The end of the highest value, the earlier of two; without any end, where steps of the highest mean lead to.
        The root where nothing was tried."""
        graded = [node for node in self.ends if node.value is not None]
        if graded:
            return max(graded, key=lambda node: node.value or 0.0)
        node = self.root
        while node.children:
            node = max(node.children, key=lambda child: child.mean)
        return node

    async def responses(self, nodes: Sequence[Node]) -> dict[str, Any]:
        """Makes the paths to these nodes the responses of the episode, each with its grade: what `play` returns."""
        for node in nodes:
            node.seat.trained = True
        unknown = [node for node in nodes if node.grade is None]
        for node, grade in zip(unknown, await self._grades([node.seat for node in unknown]), strict=True):
            node.grade = grade
        return {node.seat.name: node.grade for node in nodes}

    def _chosen(self) -> Node:
        """The step behind which steps are tried next."""
        node = self.root
        while node.children:
            visits = node.visits
            left = [child for child in node.children if not child.closed]
            node = max(left, key=lambda child: uct(child.total, child.visits, visits, self._explore))
        return node

    async def _steps(self, node: Node, count: int) -> list[Node]:
        """So many steps behind one, sampled at the same time."""
        most = self._share(count)
        most = most if self._step_tokens is None else min(most, self._step_tokens)
        seats = [node.seat.fork(trained=False) for _ in range(count)]
        turns = await asyncio.gather(*(self._step(node, seat, most) for seat in seats))
        node.children = [Node(seat, turn, node) for seat, turn in zip(seats, turns, strict=True)]
        for child in node.children:
            child.closed = child.closed or child.depth >= self._depth
        self.nodes += node.children
        self.tokens += sum(turn.tokens for turn in turns)
        return node.children

    async def _step(self, node: Node, seat: Seat, most: int) -> Turn:
        if node.parent is None and self._said is not None:
            return await seat(self._said, max_tokens=most, stop=self._stop)
        return await self._goes_on(seat, most, self._stop)

    async def _goes_on(self, seat: Seat, most: int, stop: str | Sequence[str]) -> Turn:
        """More of a seat's turn, or one behind what the tools say that it has called."""
        if seat.turn.ended and seat.turn.calls:
            return await seat(await seat.run(seat.turn.calls), role="tool", max_tokens=most, stop=stop)
        return await seat.more(stop=stop, max_tokens=most)

    async def _values(self, steps: Sequence[Node]) -> list[float | None]:
        """What these steps are worth, found out at the same time."""
        open_ones = sum(not step.ended for step in steps)
        share = self._share(open_ones * self._completions) if open_ones and self._completions else 0
        return list(await asyncio.gather(*(self._value_of(step, share) for step in steps)))

    async def _value_of(self, step: Node, share: int) -> float | None:
        if step.ended:
            (step.grade,) = await self._grades([step.seat])
            return self._known(step, step.grade)
        if self._value is not None:
            return float(await self._value(step))
        found = await asyncio.gather(*(self._completed(step, share) for _ in range(self._completions)))
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known else None

    async def _completed(self, step: Node, most: int) -> float | None:
        """The grade of a completion; None where the budget has cut it."""
        seat = step.seat.fork(trained=False)
        while most > 0:
            turn = await self._goes_on(seat, most, ())
            most -= turn.tokens
            self.tokens += turn.tokens
            if seat.turn.ended and not seat.turn.calls:
                return self._known(step, *await self._grades([seat]))
        return None

    async def _grades(self, seats: Sequence[Seat]) -> list[Any]:
        return await asyncio.gather(*(seat.grade() if self._grade is None else self._grade(seat) for seat in seats))

    @staticmethod
    def _known(step: Node, grade: Any) -> float | None:
        """The score of an end behind a step, which counts for all steps on the way; None where there is none."""
        score = getattr(grade, "score", grade)
        if score is None:
            return None
        for node in step.path:
            node.right.append(score > 0)
        return float(score)

    def _back_up(self, step: Node) -> None:
        if step.value is None:
            return
        for node in (*step.path, self.root):
            node.visits += 1
            node.total += step.value

    def _close(self, node: Node | None) -> None:
        """Steps behind which nothing is left to be tried, from this one to the root."""
        while node is not None and all(child.closed for child in node.children):
            node.closed, node = True, node.parent

    def _share(self, count: int) -> int:
        """Tokens that each of so many may sample at the same time."""
        return (self._most_tokens - self.tokens) // count

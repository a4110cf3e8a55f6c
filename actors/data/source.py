"""Which prompts are next. Everything that decides it can be saved and restored."""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.data.chooser import Chooser, ChooserState
from actors.types import Prompt, PromptVisit, Summary

CANDIDATES = 4  # prompts that a chooser looks at for each one that is dealt
MIXED = 1000  # deals after which each part of a mixture has had its share, to a thousandth and at least one


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffled:
    """The order of one pass over the data."""

    visit: int = -1  # passes before it; -1 is no pass
    order: list[int] = field(default_factory=list)  # indices


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSourceState:
    """Where a source of prompts goes on."""

    position: int  # prompts dealt or passed over so far
    again: tuple[PromptVisit, ...]  # prompts that are dealt once more before that, as their groups were interrupted
    chooser: ChooserState | None


class PromptSource:
    """Deals prompts in an order that the seed alone decides: one shuffled pass over the data after another.

    Of several parts with weights, each has its share of the prompts that are dealt and is passed over by itself, so a
    small part with a large weight comes round more often.

    With a chooser, the most likely mixed of the next prompts are dealt and the others wait for a later pass; or, where
    it skips, each of the next prompts is dealt with the probability that the chooser gives, by a draw that seed, pass
    and prompt decide. Prompts that rest come behind all others.

    The order then depends on the verdicts and on when they came, and the prompts that are trained on are no longer
    spread as the data are: those between solved and out of reach come more often, and parts that have them get more
    than their share. Only an evaluation on prompts that nobody chose says how good the policy is on all of them.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        seed: int,
        chooser: Chooser | None = None,
        shares: Sequence[tuple[int, float]] = (),
    ) -> None:
        """
        Args:
            prompts: of one part after the other.
            seed: decides on the order of every pass.
            chooser: prefers some of the prompts that are next.
            shares: of each part, how many of the prompts are its and its weight; none is one part.
        """
        self._prompts, self._seed, self._chooser = prompts, seed, chooser
        self._position = 0  # prompts dealt or passed over so far
        self._again: deque[PromptVisit] = deque()
        parts = [(count, weight) for count, weight in shares if count] or [(len(prompts), 1.0)]
        self._counts = [count for count, _ in parts]
        self._turns = _turns([weight for _, weight in parts], seed)
        self._shuffled = [Shuffled() for _ in parts]

    def take(self, count: int) -> list[tuple[Prompt, int]]:
        """The next prompts, each with the number of passes that came before."""
        again = self._interrupted(count)
        return again + self._new(count - len(again))

    def save(self) -> PromptSourceState:
        """Where it is. Prompts whose groups are in flight count as dealt; see `restore`."""
        return PromptSourceState(
            position=self._position,
            again=tuple(self._again),
            chooser=self._chooser.save() if self._chooser is not None else None,
        )

    def restore(self, state: PromptSourceState, interrupted: Sequence[PromptVisit] = ()) -> None:
        """Goes on where another one on the same prompts, seed and choice was.

        Args:
            state: of the other one.
            interrupted: prompts whose groups were in flight then; they are dealt again before any other, each with its
                visit of then, so that its responses have the same sampling seeds.
        """
        self._position = state.position
        self._again = deque([*interrupted, *state.again])
        if self._chooser is not None and state.chooser is not None:
            self._chooser.restore(state.chooser)

    def graded(self, summary: Summary) -> None:
        """Learns from the scores of a graded group, kept or not, of a prompt that it dealt; of several sets of siblings
        the first one tells how hard the prompt is."""
        if self._chooser is not None and summary.scores:
            scores = [summary.scores[place] for place in summary.sets[0].scored]
            correct = sum(score > 0 for score in scores)
            wrong = len(scores) - correct
            self._chooser.observe(summary.prompt_id, correct, wrong, summary.oldest_version)

    def _interrupted(self, count: int) -> list[tuple[Prompt, int]]:
        """At most `count` of the prompts that are dealt again."""
        if not self._again:
            return []
        by_id = {prompt.id: prompt for prompt in self._prompts}
        dealt = [self._again.popleft() for _ in range(min(count, len(self._again)))]
        return [(by_id[each.prompt_id], each.visit) for each in dealt]

    def _new(self, count: int) -> list[tuple[Prompt, int]]:
        if self._chooser is None or not count:
            return self._next(count)
        if self._chooser.skips:
            return self._unskipped(count, self._chooser)
        return self._likeliest(count, self._chooser)

    def _likeliest(self, count: int, chooser: Chooser) -> list[tuple[Prompt, int]]:
        """The most likely mixed of the next prompts, those that rest behind all others."""
        candidates = self._next(max(count, min(CANDIDATES * count, len(self._prompts))))
        ranked = sorted(candidates, key=lambda one: (chooser.rests(one[0].id), -chooser.chance(one[0].id)))
        return ranked[:count]

    def _unskipped(self, count: int, chooser: Chooser) -> list[tuple[Prompt, int]]:
        """The next prompts that are not passed over; behind as many in a row as there are, the next one whatever it is,
        so that a run goes on where all rest."""
        dealt, skipped = list[tuple[Prompt, int]](), 0
        while len(dealt) < count:
            ((prompt, visit),) = self._next(1)
            is_skipped = chooser.rests(prompt.id) or self._draw(prompt, visit) >= chooser.keeps(prompt.id)
            if is_skipped and skipped < len(self._prompts):
                skipped += 1
            else:
                dealt.append((prompt, visit))
                skipped = 0
        return dealt

    def _draw(self, prompt: Prompt, visit: int) -> float:
        """A number in [0, 1) for a prompt in one pass, whoever asks and when."""
        return random.Random(f"{self._seed}/{visit}/{prompt.id}/skip").random()

    def _next(self, count: int) -> list[tuple[Prompt, int]]:
        """The next prompts in the order of the passes."""
        dealt = []
        for position in range(self._position, self._position + count):
            round_, place = divmod(position, len(self._turns))
            part, before, each = self._turns[place]
            visit, index = divmod(round_ * each + before, self._counts[part])
            dealt.append((self._prompts[sum(self._counts[:part]) + self._order(part, visit)[index]], visit))
        self._position += count
        return dealt

    def _order(self, part: int, visit: int) -> list[int]:
        """Indices of a part's prompts in the order of one pass."""
        if self._shuffled[part].visit != visit:
            order = list(range(self._counts[part]))
            random.Random(f"{self._seed}/{visit}" if not part else f"{self._seed}/{visit}/{part}").shuffle(order)
            self._shuffled[part] = Shuffled(visit=visit, order=order)
        return self._shuffled[part].order


def _turns(weights: Sequence[float], seed: int) -> list[tuple[int, int, int]]:
    """Which part deals when, over and over: (part, its deals before in the round, its deals in a round)."""
    if len(weights) == 1:
        return [(0, 0, 1)]
    counts = [max(1, round(MIXED * weight / sum(weights))) for weight in weights]
    parts = [number for number, count in enumerate(counts) for _ in range(count)]
    random.Random(f"{seed}/mixture").shuffle(parts)
    seen, turns = [0] * len(weights), []
    for part in parts:
        turns.append((part, seen[part], counts[part]))
        seen[part] += 1
    return turns

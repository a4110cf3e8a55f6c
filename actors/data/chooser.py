"""What is believed of each prompt's pass rate, how likely its next group is mixed, and whether it is its turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma

from actors.data.difficulty import Difficulty
from actors.settings import RolloutSettings
from actors.types import Prompt

PRIOR = 0.5  # both parameters of the Beta before anything is seen: many prompts are solved or out of reach (Jeffreys)
DECAY = 0.95  # by what a verdict's count is multiplied for each version that the policy has moved on since


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCounts:
    """The verdicts on a prompt, faded to the version of its newest one."""

    correct: float = 0.0
    wrong: float = 0.0
    version: int = 0  # of the policy


@dataclass(frozen=True, slots=True, kw_only=True)
class ChooserState:
    """What a chooser has seen."""

    version: int
    seen: dict[str, PromptCounts]  # by prompt id
    weights: tuple[float, ...] = ()  # of the model of difficulty; none without one


class Chooser:
    """A Beta(1/2 + correct, 1/2 + wrong) over the pass rate of each prompt.

    The counts fade with every version of the policy, as it may have learned or forgotten: a prompt that was solved or
    out of reach comes back to the prior, and is looked at again.

    With a model of difficulty that expects the pass rate m the prior is Beta(m, 1 - m) in place of Beta(1/2, 1/2): as
    little is known as before, and in which direction.
    """

    def __init__(
        self, *, group_size: int, skips: bool = False, cooldown: int = 0, difficulty: Difficulty | None = None
    ) -> None:
        """
        Args:
            group_size: G, the responses of a group.
            skips: whether prompts are passed over by chance, in place of dealing the likeliest of several.
            cooldown: versions of the policy for which a prompt rests behind its newest verdict.
            difficulty: the model of it, if any.
        """
        self.skips = skips
        self._group_size, self._cooldown, self._difficulty = group_size, cooldown, difficulty
        self._version = 0  # newest version that a verdict was of
        self._seen: dict[str, PromptCounts] = {}

    @classmethod
    def of(cls, rollout: RolloutSettings, prompts: Sequence[Prompt]) -> "Chooser | None":
        """The one of these prompts that the settings of a run ask for; None where they come as the data has them."""
        if rollout.choose == "uniform":
            return None
        return cls(
            group_size=rollout.group_size,
            skips=rollout.choose == "skip-alike",
            cooldown=rollout.cooldown,
            difficulty=Difficulty(prompts) if rollout.choose == "predicted-mixed" else None,
        )

    def observe(self, prompt_id: str, correct: int, wrong: int, version: int) -> None:
        """Verdicts on responses of this version, of a group that was kept or rejected."""
        self._version = max(self._version, version)
        faded = self._counts(prompt_id)
        self._seen[prompt_id] = PromptCounts(
            correct=faded.correct + correct, wrong=faded.wrong + wrong, version=self._version
        )
        if self._difficulty is not None and correct + wrong:
            self._difficulty.learn(prompt_id, correct / (correct + wrong))

    def chance(self, prompt_id: str) -> float:
        """Probability that G responses are neither all correct nor all wrong."""
        counts, expected = self._counts(prompt_id), 0.5
        if self._difficulty is not None:
            expected = self._difficulty.predict(prompt_id)
        a, b = 2.0 * PRIOR * expected, 2.0 * PRIOR * (1.0 - expected)
        return _mixed(a + counts.correct, b + counts.wrong, self._group_size)

    def keeps(self, prompt_id: str) -> float:
        """Probability that a prompt is not passed over when its turn comes: min(1, c / c0), where c is its chance of a
        mixed group, and c0 that of a prompt that was never seen.

        In groups of 8 this is 0.47 behind one group that was all alike, 0.30 behind two in a row and 0.09 behind eight:
        never 0, so no prompt is lost for good. A prompt is dealt in a pass with this weight in place of 1, and trained
        on with this weight times the probability of a mixed group. As in arXiv 2506.02177 (GRESO), which has e^z behind
        z groups that were all alike, and moves e from 1/2 on towards a wanted share of such groups.
        """
        if self._group_size < 2:  # no group is mixed
            return 1.0
        return min(1.0, self.chance(prompt_id) / _mixed(PRIOR, PRIOR, self._group_size))

    def rests(self, prompt_id: str) -> bool:
        """Whether fewer versions than the cooldown have passed since the newest verdict on a prompt, so that others
        come first: a prompt is then trained on at most once in so many versions, while there are others.
        arXiv 2603.21177 (Prompt Replay)."""
        counts = self._seen.get(prompt_id)
        return counts is not None and self._version - counts.version < self._cooldown

    def save(self) -> ChooserState:
        """What it has seen and learned."""
        weights = tuple(self._difficulty.weights.tolist()) if self._difficulty is not None else ()
        return ChooserState(version=self._version, seen=dict(self._seen), weights=weights)

    def restore(self, state: ChooserState) -> None:
        """Goes on with what another one had seen and learned."""
        self._version, self._seen = state.version, dict(state.seen)
        if self._difficulty is not None:
            self._difficulty.weights[:] = state.weights

    def _counts(self, prompt_id: str) -> PromptCounts:
        """The counts of a prompt as of the newest version."""
        counts = self._seen.get(prompt_id, PromptCounts(version=self._version))
        left = DECAY ** (self._version - counts.version)
        return PromptCounts(correct=counts.correct * left, wrong=counts.wrong * left, version=self._version)


def _mixed(a: float, b: float, size: int) -> float:
    """Probability that `size` responses are neither all correct nor all wrong.

    With p ~ Beta(a, b): 1 - E[p^G] - E[(1 - p)^G] = 1 - B(a + G, b) / B(a, b) - B(a, b + G) / B(a, b).
    """
    whole = _log_beta(a, b)
    return 1.0 - exp(_log_beta(a + size, b) - whole) - exp(_log_beta(a, b + size) - whole)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)

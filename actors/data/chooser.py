"""What is believed of each prompt's pass rate, and how likely its next group is mixed."""

from dataclasses import dataclass, field
from math import exp, lgamma

PRIOR = 0.5  # both parameters of the Beta before anything is seen: many prompts are solved or out of reach (Jeffreys)
DECAY = 0.95  # what a verdict still counts when the policy is one version further


@dataclass(slots=True, kw_only=True)
class Chooser:
    """A Beta(1/2 + correct, 1/2 + wrong) over the pass rate of each prompt.

    The counts fade with every version of the policy, which moves on: a prompt that was solved or out of reach comes
    back to the prior, and is looked at again.
    """

    group_size: int  # G
    version: int = 0  # newest version that a verdict was of
    seen: dict[str, tuple[float, float, int]] = field(default_factory=dict)  # prompt -> correct, wrong, as of version

    def observe(self, prompt_id: str, correct: int, wrong: int, version: int) -> None:
        """Verdicts on responses of this version, of a group that was kept or rejected."""
        self.version = max(self.version, version)
        counts = self._counts(prompt_id)
        self.seen[prompt_id] = (counts[0] + correct, counts[1] + wrong, self.version)

    def chance(self, prompt_id: str) -> float:
        """Probability that G responses are neither all correct nor all wrong.

        With p ~ Beta(a, b): 1 - E[p^G] - E[(1 - p)^G] = 1 - B(a + G, b) / B(a, b) - B(a, b + G) / B(a, b).
        """
        correct, wrong = self._counts(prompt_id)
        a, b = PRIOR + correct, PRIOR + wrong
        whole = _log_beta(a, b)
        return 1.0 - exp(_log_beta(a + self.group_size, b) - whole) - exp(_log_beta(a, b + self.group_size) - whole)

    def _counts(self, prompt_id: str) -> tuple[float, float]:
        correct, wrong, version = self.seen.get(prompt_id, (0.0, 0.0, self.version))
        share = DECAY ** (self.version - version)
        return correct * share, wrong * share


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)

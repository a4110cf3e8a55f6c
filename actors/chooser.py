"""What is believed of each prompt's pass rate, and which prompts are likely to give a mixed group.

It changes what is trained on: prompts between solved and out of reach come more often than in the data. Only an
evaluation on prompts that nobody chose says how good the policy is on all of them.
"""

import random
from dataclasses import dataclass, field

PRIOR = 0.5  # both parameters of the Beta before anything is seen (Jeffreys): many prompts are solved or out of reach
DECAY = 0.95  # what a verdict still counts for when the policy is one version further


@dataclass(slots=True, kw_only=True)
class Chooser:
    """A Beta(1/2 + correct, 1/2 + wrong) over the pass rate of every prompt that was graded.

    The counts fade with each version of the policy, so that the posterior goes back to the prior and every prompt is
    looked at again. With pass rate p, a group of G is mixed with probability 1 - p^G - (1 - p)^G.
    """

    group_size: int  # G
    version: int = 0  # newest version seen
    seen: dict[str, tuple[float, float, int]] = field(default_factory=dict)  # prompt -> correct, wrong, their version

    def observe(self, prompt_id: str, correct: int, wrong: int, version: int) -> None:
        """Verdicts on responses to a prompt, which the policy of this version gave."""
        self.version = max(self.version, version)
        counts = self._counts(prompt_id)
        self.seen[prompt_id] = (counts[0] + correct, counts[1] + wrong, self.version)

    def promise(self, prompt_id: str, draw: random.Random) -> float:
        """The probability of a mixed group under a pass rate drawn from the posterior (Thompson sampling), in [0, 1].

        Its mean is 1 - B(a + G, b) / B(a, b) - B(a, b + G) / B(a, b); its spread lets prompts of which little is
        known win now and then.
        """
        correct, wrong = self._counts(prompt_id)
        rate = draw.betavariate(PRIOR + correct, PRIOR + wrong)
        return 1.0 - rate**self.group_size - (1.0 - rate) ** self.group_size

    def _counts(self, prompt_id: str) -> tuple[float, float]:
        correct, wrong, version = self.seen.get(prompt_id, (0.0, 0.0, self.version))
        share = DECAY ** (self.version - version)
        return correct * share, wrong * share

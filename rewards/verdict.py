"""What a verifier says about one response. A failure to judge is an outcome of its own, never a score."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Outcome(StrEnum):
    """How the judgement of one response ended."""

    CORRECT = "correct"  # the final answer equals the reference
    WRONG = "wrong"  # a final answer was found and differs from the reference
    UNPARSABLE = "unparsable"  # the response holds no final answer; scored like a wrong one
    TIMEOUT = "timeout"  # the verifier did not finish in time: there is no verdict
    ERROR = "error"  # the verifier failed: there is no verdict

    @property
    def judged(self) -> bool:
        """Whether there is a verdict at all; time-outs and errors have no score and teach nothing."""
        return self not in (Outcome.TIMEOUT, Outcome.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement of one response.

    Example: ``Verdict(outcome=Outcome.WRONG, score=-1.0, why="answered 12, expected 13")``
    """

    outcome: Outcome
    score: float | None  # the reward; None exactly when the outcome is not judged
    why: str  # one sentence for the person who reads the trajectory
    parts: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))  # named components of the score

    def __post_init__(self) -> None:
        if self.outcome.judged != (self.score is not None):
            raise ValueError(f"a verdict has a score exactly when it is judged, got {self.outcome} with {self.score}")

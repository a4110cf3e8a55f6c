"""What is judged, and what a reward says of it. That there is no verdict is an outcome of its own, never a score.

None of it has slots: Python pickles such classes at three times the cost, and all of it travels between processes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How the result of one response ended."""

    CORRECT = "correct"  # the final answer equals the reference
    WRONG = "wrong"  # a final answer was found and differs from the reference
    UNPARSABLE = "unparsable"  # the response holds no final answer; scored like a wrong one
    TIMEOUT = "timeout"  # the verifier did not finish in time: there is no verdict
    ERROR = "error"  # the verifier failed: there is no verdict

    @property
    def scored(self) -> bool:
        """Whether there is a verdict at all; time-outs and errors have no score and teach nothing."""
        return self not in (Outcome.TIMEOUT, Outcome.ERROR)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One response to judge.

    Example: ``Case(response="so it is 4", reference="4", prompt="2+2=")``
    """

    response: str
    reference: str  # text, or a JSON object where a reward asks for several fields
    prompt: str = ""  # as the policy saw it
    question: str = ""  # the same without templates around it, where they are known apart
    tokens: int = 0  # sampled tokens of the response; 0 where nobody counted
    max_new_tokens: int = 0  # the most tokens that it could have had; 0 where nobody knows

    @property
    def asked(self) -> str:
        """The question, or the whole prompt where it is not known apart."""
        return self.question or self.prompt


@dataclass(frozen=True, kw_only=True)
class SpanReward:
    """A reward for a part of the response: every token that reaches into [start, end) gets it."""

    start: int  # characters of the response before it
    end: int  # characters of the response up to its end, above start
    value: float


@dataclass(frozen=True, kw_only=True)
class RewardResult:
    """What a reward says of one response. Its value is above one half exactly when the outcome is correct.

    Example: ``RewardResult(outcome=Outcome.WRONG, why="two of three tests pass", value=0.1, parts={"passed": 2 / 3})``
    """

    outcome: Outcome
    why: str  # one sentence for the person who reads the trajectory; of a failure, with its traceback
    value: float | None = None  # in [0, 1]; not given: 1 when correct, 0 when wrong or unparsable
    parts: Mapping[str, float] = field(default_factory=dict)  # named components and measurements
    span_rewards: tuple[SpanReward, ...] = ()  # rewards of parts of the response, where the reward gives any

    def __post_init__(self) -> None:
        if self.value is None:
            return
        if not self.outcome.scored or not 0.0 <= self.value <= 1.0:
            raise ValueError(f"a value in [0, 1] comes with a judged outcome, got {self.value} with {self.outcome}")
        if (self.value > 0.5) != (self.outcome is Outcome.CORRECT):
            raise ValueError(f"a value above one half is a correct response's, got {self.value} with {self.outcome}")

    @property
    def worth(self) -> float:
        """The value, given or not; of a judged outcome only."""
        return float(self.outcome is Outcome.CORRECT) if self.value is None else self.value


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of one response with its score.

    Example: ``Verdict(outcome=Outcome.WRONG, score=-1.0, why="answered 12, expected 13")``
    """

    outcome: Outcome
    score: float | None  # the reward; None exactly when the outcome is not judged
    why: str  # one sentence for the person who reads the trajectory
    parts: Mapping[str, float] = field(default_factory=dict)  # named components of the score
    span_rewards: tuple[SpanReward, ...] = ()  # rewards of parts of the response

    def __post_init__(self) -> None:
        if self.outcome.scored != (self.score is not None):
            raise ValueError(f"a verdict has a score exactly when it is judged, got {self.outcome} with {self.score}")
